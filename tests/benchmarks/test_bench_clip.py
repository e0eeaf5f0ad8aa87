"""Speed and memory of a CLIP training step.

The step is that of `test_bench_models`, taken in turns with transformers' CLIPModel of the same
shape, on the same pixels and tokens, at the same precision and with the same fused optimizer.
Memory is the peak of a process of its own. Nothing is asserted about either.
"""

import multiprocessing
import resource
import statistics

import pytest
import torch
from rich.console import Console
from rich.table import Table

from fmscale.models.clip import CLIP
from fmscale.objectives.contrastive import Contrastive
from fmscale.optim.param_groups import adamw
from fmscale.sizing import CLIPShape, TextShape, VisionShape
from fmscale.training.precision import FULL, MIXED
from tests.helpers.timing import Step, alternate, ratio, training_step

pytestmark = pytest.mark.bench

VOCAB_SIZE, SEQ_LEN, IMAGE_SIZE, PATCH_SIZE = 87, 20, 24, 4  # those of the rendered scenes
SIZES = [(2, 48, 3, 64), (3, 64, 4, 64), (6, 192, 6, 64)]  # layers, width, heads, pairs
SECONDS_PER_SIZE = 15.0
LARGE_BATCH, CHUNKS = 4096, (None, 1024, 256, 64)


def shape_of(n_layer: int, d_model: int, n_head: int) -> CLIPShape:
    widths = {"n_layer": n_layer, "d_model": d_model, "n_head": n_head}
    image = VisionShape(image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, **widths)
    return CLIPShape(d_model, image, TextShape(vocab_size=VOCAB_SIZE, seq_len=SEQ_LEN, **widths))


def pairs(batch_size: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    size = (batch_size, 3, IMAGE_SIZE, IMAGE_SIZE)
    text = torch.randint(1, VOCAB_SIZE - 1, (batch_size, SEQ_LEN), generator=generator)
    text[:, -5], text[:, -4:] = VOCAB_SIZE - 1, 0  # the end of the text, then padding
    image = torch.randint(256, size, generator=generator, dtype=torch.uint8)
    return {"image": image, "text": text}


def ours(shape: CLIPShape, batch_size: int, precision: str = FULL, compiled: bool = False) -> Step:
    torch.manual_seed(0)
    model, batch = CLIP(shape), pairs(batch_size)
    run = torch.compile(model) if compiled else model

    def loss_of() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == MIXED):
            return Contrastive()(run, batch)["loss"]

    return training_step(model, adamw(model, lr=1e-3), loss_of)


def transformers_clip(shape: CLIPShape, batch_size: int) -> Step:
    """transformers' CLIPModel with its default attention, in float32."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)

    def tower(sizes: VisionShape | TextShape) -> dict[str, object]:
        return {
            "hidden_size": sizes.d_model, "intermediate_size": sizes.d_hidden,
            "num_hidden_layers": sizes.n_layer, "num_attention_heads": sizes.n_head,
            "hidden_act": "gelu_new", "projection_dim": shape.d_embed,
        }  # fmt: skip

    config = transformers.CLIPConfig(
        projection_dim=shape.d_embed,
        text_config={
            **tower(shape.text), "vocab_size": VOCAB_SIZE, "max_position_embeddings": SEQ_LEN,
            "bos_token_id": 0, "eos_token_id": VOCAB_SIZE - 1, "pad_token_id": 0,
        },
        vision_config={
            **tower(shape.image), "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE
        },
    )  # fmt: skip
    model, batch = transformers.CLIPModel(config).train(), pairs(batch_size)
    pixels = batch["image"].float() / 127.5 - 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    return training_step(
        model,
        optimizer,
        lambda: model(input_ids=batch["text"], pixel_values=pixels, return_loss=True).loss,
    )


def test_speed_of_a_clip_training_step(capsys):
    table = Table(title=f"CLIP training step, {torch.get_num_threads()} threads, float32")
    columns = [
        "layers x width", "pairs/s", "transformers' pairs/s", "vs transformers (goal 1.2)",
        "bf16", "compiled", "compiled bf16", "best (goal 1.6)",
    ]  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right")
    for n_layer, d_model, n_head, batch_size in SIZES:
        shape = shape_of(n_layer, d_model, n_head)
        steps = {
            "transformers": transformers_clip(shape, batch_size),
            FULL: ours(shape, batch_size),
            MIXED: ours(shape, batch_size, MIXED),
            "compiled": ours(shape, batch_size, compiled=True),
            "compiled bf16": ours(shape, batch_size, MIXED, compiled=True),
        }
        seconds = alternate(steps, SECONDS_PER_SIZE)
        typical = {name: statistics.median(values) for name, values in seconds.items()}
        best = min((name for name in steps if name != "transformers"), key=typical.__getitem__)
        against = {name: ratio(seconds["transformers"], seconds[name]) for name in steps}
        table.add_row(
            f"{n_layer}x{d_model}",
            f"{batch_size / typical[FULL]:,.0f}",
            f"{batch_size / typical['transformers']:,.0f}",
            against[FULL],
            against[MIXED],
            against["compiled"],
            against["compiled bf16"],
            f"{best} {against[best]}",
        )
    with capsys.disabled():
        Console(width=170).print("\n", table)


def peak_megabytes(chunk_size: int | None, sender) -> None:
    """Memory that one large step takes at its peak beyond what the process had before it."""
    model, batch = CLIP(shape_of(3, 64, 4)), pairs(LARGE_BATCH)
    Contrastive()(model, pairs(2))["loss"].backward()  # libraries and threads
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Contrastive(chunk_size)(model, batch)["loss"].backward()
    sender.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def test_peak_memory_of_a_large_batch_with_gradient_caching(capsys):
    context = multiprocessing.get_context("spawn")
    table = Table(title=f"clip_3x64, a step of {LARGE_BATCH:,} pairs: peak memory beyond the start")
    for column in ("pairs at once", "MB"):
        table.add_column(column, justify="right")
    for chunk_size in CHUNKS:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=peak_megabytes, args=(chunk_size, sender))
        process.start()
        megabytes = receiver.recv()
        process.join()
        table.add_row(str(chunk_size or "all"), f"{megabytes:,.0f}")
    with capsys.disabled():
        Console().print("\n", table)
