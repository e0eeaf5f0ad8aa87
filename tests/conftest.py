"""Fixtures shared by all tests: a tiny text, and jobs composed from the real configuration."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.helpers")  # a failed check there is as plain as here

# Tests run side by side; more than one thread each would only make them wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
# A shell has its background commands ignore Ctrl-C, and so would all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def text_folder(tmp_path: Path) -> Path:
    """A hundred small source files with some structure to learn."""
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(100):
        lines = [f"def function_{i}(x):\n    return x + {i * number}\n" for i in range(8)]
        (folder / f"file_{number:03d}.py").write_text("\n".join(lines))
    return folder


@pytest.fixture
def tiny(tmp_path: Path, text_folder: Path) -> list[str]:
    """Overrides that make any GPT run take a second and stay inside `tmp_path`."""
    return [
        f"paths.runs_dir={tmp_path / 'runs'}",
        f"paths.data_dir={tmp_path / 'data'}",
        f"data.root={text_folder}",
        "data.name=tiny_text",
        "data.n_val_tokens=512",
        "data.seq_len=16",
        "model=gpt/1x16",
        "batch_size=4",
        "trainer=cpu",
        "trainer.log_every_steps=2",
        "logger=none",
    ]


@pytest.fixture
def tiny_clip(tmp_path: Path) -> list[str]:
    """Overrides that make any CLIP run take a second and stay inside `tmp_path`."""
    return [
        f"paths.runs_dir={tmp_path / 'runs'}",
        f"paths.data_dir={tmp_path / 'data'}",
        "model=clip/1x16",
        "objective=contrastive",
        "data=scenes",
        "data.n_val_samples=64",
        "data.val_batch_size=32",
        "data.n_task_images=16",
        "evaluation=zero_shot",
        "budget=samples",
        "batch_size=16",
        "trainer=cpu",
        "logger=none",
    ]


@pytest.fixture
def token_files() -> Callable[[Path], Path]:
    """Writes a folder of token files with their vocabulary stated beside them."""

    def write(folder: Path) -> Path:
        folder.mkdir(parents=True)
        for name in ("train.bin", "val.bin"):
            (folder / name).write_bytes(bytes(range(256)) * 64)  # ids are not looked at here
        (folder / "meta.json").write_text('{"vocab_size": 65536}')
        return folder

    return write


@pytest.fixture
def plan_one() -> Callable[[list[str]], object]:
    """overrides -> the one planned Job they describe."""
    from fmscale.config.jobs import expand

    def plan(overrides: list[str]) -> object:
        (job,) = expand(overrides)
        return job

    return plan
