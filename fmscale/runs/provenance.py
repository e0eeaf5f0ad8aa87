"""Where a number came from: commit, versions, machine."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("fmscale", "torch", "pytorch-lightning", "hydra-core", "numpy", "wandb")


@functools.cache
def git_state(folder: Path | None = None) -> dict[str, Any]:
    """`commit` and `dirty` of the tree that `folder` lies in; None outside a git checkout."""
    where = folder or Path(__file__).resolve().parent
    try:
        commit = _git(where, "rev-parse", "HEAD").strip()
        dirty = bool(_git(where, "status", "--porcelain", "--untracked-files=no").strip())
    except (subprocess.CalledProcessError, FileNotFoundError):
        return {"commit": None, "dirty": None}  # an installed wheel, or no git on the machine
    return {"commit": commit, "dirty": dirty}


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


@functools.cache
def environment() -> dict[str, Any]:
    """Versions and hardware, as plain values."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hostname": platform.node(),
        "cpu": cpu_name(),
        "n_cores": os.cpu_count(),
        "versions": versions,
    }


@functools.cache
def cpu_name() -> str:
    """Model name of the processor, or the machine type where the system does not tell."""
    info = Path("/proc/cpuinfo")
    if sys.platform == "linux" and info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
