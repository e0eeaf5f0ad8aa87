"""Which numeric precision trains faster here: a short measurement instead of a guess.

bfloat16 autocast triples the speed of matrix products on processors with matrix units, helps little
where the model is so small that element-wise work rules, and can halve the speed where bfloat16 is
only emulated by vector instructions. So a few training steps of the very model and batch decide.

The choice changes the numbers (in the noise of a seed), so a run keeps the precision it began with:
store the choice with the run and do not measure again on resume.
"""

import copy
import json
import logging
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fmscale.optim.param_groups import adamw
from fmscale.runs.files import write_json

log = logging.getLogger(__name__)

FULL, MIXED = "32-true", "bf16-mixed"  # Lightning's names
MIN_GAIN = 1.15  # bfloat16 must be this much faster, or exactness is worth more

Objective = Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class PrecisionChoice:
    """The faster precision and what it was chosen by."""

    precision: str  # FULL or MIXED
    ratio: float  # seconds at FULL / seconds at MIXED: of medians or of fastest, the smaller
    seconds_full: float  # median seconds per training step
    seconds_mixed: float
    n_pairs: int  # alternating pairs of steps measured, warm-up left out

    def __str__(self) -> str:
        return f"{self.precision} (bf16-mixed runs at {self.ratio:.2f} times the speed of 32-true)"


def choose_precision(
    model: nn.Module,
    objective: Objective,
    batch: dict[str, Tensor],
    *,
    cache_path: Path | None = None,
    max_seconds: float = 0.5,
    max_pairs: int = 7,
) -> PrecisionChoice:
    """Measure a few training steps at both precisions and return the faster one.

    Steps alternate, so that other load on the machine slows both alike. The model is copied and the
    random state restored: what follows is the same with and without a measurement.

    Args:
        model: on the device to train on, with `shape` and `param_groups` as the models here have.
        objective: (model, batch) -> dict with "loss".
        batch: one training batch on the same device.
        cache_path: JSON file of earlier choices; None measures anew.
        max_seconds: no new pair of steps starts after this; one pair is always measured.
        max_pairs: pairs of steps at most.
    """
    key = _key(model, batch)
    if cache_path is not None and key in (known := _read(cache_path)):
        return known[key]
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        choice = _measure(copy.deepcopy(model), objective, batch, max_seconds, max_pairs)
    if cache_path is not None:
        _write(cache_path, {**_read(cache_path), key: choice})
    return choice


def _measure(
    model: nn.Module,
    objective: Objective,
    batch: dict[str, Tensor],
    max_seconds: float,
    max_pairs: int,
) -> PrecisionChoice:
    device = next(model.parameters()).device
    optimizer = adamw(model, lr=0.0)  # type: ignore[arg-type]

    def seconds_of_step(precision: str) -> float:
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == MIXED):
            loss = objective(model, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    model.train()
    for precision in (FULL, MIXED):  # warm-up: allocation, kernel selection
        seconds_of_step(precision)
    seconds: dict[str, list[float]] = {FULL: [], MIXED: []}
    started = time.perf_counter()
    while not seconds[FULL] or (
        len(seconds[FULL]) < max_pairs and time.perf_counter() - started < max_seconds
    ):
        for precision, measured in seconds.items():
            measured.append(seconds_of_step(precision))
    full, mixed = (statistics.median(measured) for measured in seconds.values())
    # A burst of other load can hit one side more; the fastest steps have to agree with the median.
    ratio = min(full / mixed, min(seconds[FULL]) / min(seconds[MIXED]))
    return PrecisionChoice(
        precision=MIXED if ratio >= MIN_GAIN else FULL,
        ratio=ratio,
        seconds_full=full,
        seconds_mixed=mixed,
        n_pairs=len(seconds[FULL]),
    )


def _key(model: nn.Module, batch: dict[str, Tensor]) -> str:
    """What the ratio depends on: machine, torch, threads, sizes."""
    device = next(model.parameters()).device
    is_cuda = device.type == "cuda"
    processor = torch.cuda.get_device_name(device) if is_cuda else _cpu_name()
    sizes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in sorted(batch.items()))
    threads = f"{torch.get_num_threads()} threads"
    return " | ".join([processor, threads, f"torch {torch.__version__}", f"{model.shape}", sizes])


def _cpu_name() -> str:
    """Model name and the bfloat16 instructions, on which the ratio hangs."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    flags = sorted({"amx_bf16", "avx512_bf16"} & set(facts.get("flags", "").split()))
    return " ".join([facts.get("model name", platform.machine()), *flags])


def _read(cache_path: Path) -> dict[str, PrecisionChoice]:
    """Earlier choices; a file that is damaged or of another version counts as none."""
    if not cache_path.exists():
        return {}
    try:
        entries = json.loads(cache_path.read_text())
        return {key: PrecisionChoice(**entry) for key, entry in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s is unreadable (%s); measuring anew", cache_path, error)
        return {}


def _write(cache_path: Path, choices: dict[str, PrecisionChoice]) -> None:
    """Replace the file in one step, so that no process ever reads half of it."""
    write_json(cache_path, {key: asdict(choice) for key, choice in choices.items()})
