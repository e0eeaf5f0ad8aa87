"""Speed of a GPT training step, as ratios of alternating steps in one process.

A step is forward, loss, backward, gradient clipping at 1.0 and AdamW. Three programs take turns on
the same tokens: ours at the precision that `fmscale plan` advises, ours in plain float32, and a
rival. Taking turns, they share whatever else the machine is doing; the spread printed beside each
ratio is the inter-quartile range over the rounds. Nothing is asserted about time.
"""

import multiprocessing
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.table import Table

from fmscale.commands.plan_tables import MIN_GAIN
from fmscale.models.gpt import GPT
from fmscale.objectives.next_token import NextToken
from fmscale.optim.param_groups import adamw
from fmscale.sizing import GPTShape
from fmscale.training.precision import FULL, MIXED, bf16_speedup
from fmscale.training.utilization import measured_rate
from tests.helpers.minimal_gpt import MinimalGPT
from tests.helpers.timing import Step, alternate, ratio, training_step

pytestmark = pytest.mark.bench

BATCH_SIZE, SEQ_LEN, VOCAB_SIZE = 8, 128, 256
SHAPES = [
    GPTShape(2, 4, 64, VOCAB_SIZE, SEQ_LEN),
    GPTShape(4, 4, 256, VOCAB_SIZE, SEQ_LEN),
    GPTShape(12, 12, 768, VOCAB_SIZE, SEQ_LEN),
]
SECONDS_PER_SHAPE = 20.0


def name_of(shape: GPTShape) -> str:
    return f"{shape.n_layer}x{shape.d_model}"


def tokens_for(shape: GPTShape) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(VOCAB_SIZE, (BATCH_SIZE, shape.seq_len + 1), generator=generator)


def ours(shape: GPTShape, precision: str = FULL, compiled: bool = False) -> Step:
    torch.manual_seed(0)
    model, objective, batch = GPT(shape), NextToken(), {"tokens": tokens_for(shape)}

    def loss_of() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == MIXED):
            return objective(model, batch)["loss"]

    called = torch.compile(loss_of) if compiled else loss_of  # as `TrainingModule` does
    return training_step(model, adamw(model, lr=1e-3), called)


def transformers_gpt2(shape: GPTShape, compiled: bool = False) -> Step:
    """transformers' GPT-2 with its default attention and the same fused optimizer as ours."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=shape.vocab_size, n_positions=shape.seq_len, n_embd=shape.d_model,
        n_layer=shape.n_layer, n_head=shape.n_head, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
    )  # fmt: skip
    model, tokens = transformers.GPT2LMHeadModel(config).train(), tokens_for(shape)
    inputs, targets = tokens[:, :-1], tokens[:, 1:].contiguous()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    called = torch.compile(model) if compiled else model
    return training_step(
        model, optimizer, lambda: called(inputs, labels=targets, shift_labels=targets).loss
    )


def minimal(shape: GPTShape) -> Step:
    """A minimal GPT in float32 with torch's default AdamW."""
    torch.manual_seed(0)
    model, tokens = MinimalGPT(shape), tokens_for(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return training_step(model, optimizer, lambda: model(tokens[:, :-1], tokens[:, 1:]))


def _resident(which: str) -> int:
    """Bytes: VmRSS, now, or VmHWM, at most so far. The peak of getrusage is the parent's, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(which))


def _grown_by(build: Callable[[GPTShape], Step], shape: GPTShape, queue) -> None:
    pytest.importorskip("transformers")  # for both, so that what is measured is not the import
    before = _resident("VmRSS")
    step = build(shape)
    for _ in range(3):
        step()
    queue.put(_resident("VmHWM") - before)


def peak_memory(build: Callable[[GPTShape], Step], shape: GPTShape) -> float:
    """Bytes by which a fresh process grows at most in three steps, model and optimizer included."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_grown_by, args=(build, shape, queue))
    process.start()
    grown = queue.get()
    process.join()
    return float(grown)


def test_all_programs_compute_the_same_loss():
    shape = GPTShape(2, 2, 32, VOCAB_SIZE, 16)
    # Untrained, each within the noise of its own draws: the step is the same task for all three.
    losses = [build(shape)() for build in (ours, transformers_gpt2, minimal)]
    assert losses == pytest.approx([losses[0]] * 3, abs=0.05)


def test_speed_of_a_gpt_training_step(capsys):
    ceilings = {
        precision: measured_rate("cpu", dtype, torch.get_num_threads())
        for precision, dtype in ((FULL, torch.float32), (MIXED, torch.bfloat16))
    }
    table = Table(
        title=f"GPT training step, batch {BATCH_SIZE} x {SEQ_LEN}, {torch.get_num_threads()} "
        f"threads; matrix products reach {ceilings[FULL] / 1e9:.0f} GFLOP/s in float32, "
        f"{ceilings[MIXED] / 1e9:.0f} in bfloat16"
    )
    columns = [
        "layers x width", "ours fp32, tokens/s", "share of fp32 matmul",
        "vs transformers GPT-2 (goal 1.2)", "vs minimal fp32", "bf16 vs fp32",
        "default", "default vs minimal (goal 1.7 from 4x256)", "share of its matmul",
        "peak memory, MB: ours / transformers",
    ]  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right")
    for shape in SHAPES:
        model, batch = GPT(shape), {"tokens": tokens_for(shape)}
        gain = bf16_speedup(model, NextToken(), batch, max_seconds=1.0)
        default = MIXED if gain >= MIN_GAIN else FULL  # what `fmscale plan` advises
        steps = {
            FULL: ours(shape, FULL),
            MIXED: ours(shape, MIXED),
            "transformers": transformers_gpt2(shape),
            "minimal": minimal(shape),
        }
        seconds = alternate(steps, SECONDS_PER_SHAPE)
        tokens = BATCH_SIZE * shape.seq_len
        flops = tokens * shape.train_flops_per_unit(BATCH_SIZE)["flops"]
        typical = {name: statistics.median(values) for name, values in seconds.items()}
        table.add_row(
            name_of(shape),
            f"{tokens / typical[FULL]:,.0f}",
            f"{flops / typical[FULL] / ceilings[FULL]:.0%}",
            ratio(seconds["transformers"], seconds[FULL]),
            ratio(seconds["minimal"], seconds[FULL]),
            ratio(seconds[FULL], seconds[MIXED]),
            default,
            ratio(seconds["minimal"], seconds[default]),
            f"{flops / typical[default] / ceilings[default]:.0%}",
            " / ".join(
                f"{peak_memory(build, shape) / 1e6:,.0f}" for build in (ours, transformers_gpt2)
            ),
        )
    with capsys.disabled():
        Console(width=150).print("\n", table)


def test_speed_of_compiled_models(capsys):
    """Both through torch.compile, in float32; needs a C++ compiler, and a minute a shape."""
    table = Table(title=f"compiled, batch {BATCH_SIZE} x {SEQ_LEN}, float32")
    for column in ("layers x width", "compiled vs eager", "vs transformers GPT-2 compiled"):
        table.add_column(column, justify="right")
    for shape in SHAPES:
        steps = {
            "eager": ours(shape),
            "compiled": ours(shape, compiled=True),
            "transformers": transformers_gpt2(shape, compiled=True),
        }
        seconds = alternate(steps, SECONDS_PER_SHAPE)
        table.add_row(
            name_of(shape),
            ratio(seconds["eager"], seconds["compiled"]),
            ratio(seconds["transformers"], seconds["compiled"]),
        )
    with capsys.disabled():
        Console(width=150).print("\n", table)
