"""Checkpoints in parts: every process writes what it holds, by `torch.distributed.checkpoint`.

A folder `step_*.parts` appears as a whole: safetensors files, which hold no code, and a manifest
with the SHA-256 of each. Before anything resumes from it, one process puts it together into an
ordinary checkpoint, from which any number of processes can resume.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from fmscale.runs.checkpoint_paths import PARTS, path_of, steps_saved, surplus
from fmscale.runs.files import read_json, write_json
from fmscale.training import checkpoint
from fmscale.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
NUMBERS = ("step", "seconds", "precision", "seconds_trunk")


def save(
    folder: Path, state: Checkpoint, *, keep: Collection[int], newest: int, group: Any
) -> None:
    """Write a checkpoint; all processes take part.

    Args:
        state: with the tensors that this process holds a part of.
        keep: steps whose checkpoints stay.
        newest: how many of the others stay, of those in parts and of ordinary ones.
        group: of all processes, for tensors on the CPU.
    """
    rank = dist.get_rank()
    path = path_of(folder, state.step, PARTS)
    growing = folder / f".growing_{path.name}"
    if rank == 0:
        shutil.rmtree(growing, ignore_errors=True)
        growing.mkdir(parents=True)
    dist.barrier(group=group)
    writer = HuggingFaceStorageWriter(str(growing), save_distributed=True)
    dcp.save(_flat(state), storage_writer=writer, process_group=group)
    mine = {p.name: _sha256(p) for p in growing.glob(f"shard-{rank + 1:05d}-*")}
    everyones: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyones, mine, group=group)
    if rank == 0:
        files = {name: digest for part in everyones for name, digest in part.items()}
        numbers = {name: getattr(state, name) for name in NUMBERS}
        write_json(growing / MANIFEST, {**numbers, "files": files})
        shutil.rmtree(path, ignore_errors=True)
        os.replace(growing, path)
        for old in surplus(folder, PARTS, keep=keep, newest=newest):
            shutil.rmtree(old)
        checkpoint.prune(folder, keep=keep, newest=newest)  # put together at earlier starts
    dist.barrier(group=group)


def assemble(folder: Path) -> None:
    """Turn what is whole into ordinary checkpoints; name and set aside what is not."""
    for path in _parts(folder):
        try:
            checkpoint.save(folder, load(path))
        except ValueError as error:
            log.warning("%s; resuming from the one before it", error)
            shutil.rmtree(path.with_suffix(".broken"), ignore_errors=True)
            os.replace(path, path.with_suffix(".broken"))
        else:
            shutil.rmtree(path)
    for debris in folder.glob(".growing_*"):
        shutil.rmtree(debris, ignore_errors=True)


def load(path: Path) -> Checkpoint:
    """A whole checkpoint from its parts, in one process; ValueError if one is lost or altered."""
    try:
        manifest = read_json(path / MANIFEST)
        for name, digest in manifest["files"].items():
            if _sha256(path / name) != digest:
                raise ValueError(f"{name} is torn or altered")
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise ValueError(f"checkpoint {path} cannot be put together ({error})") from error
    reader = HuggingFaceStorageReader(str(path))
    flat = {
        name: torch.empty(kind.size, dtype=kind.properties.dtype)
        for name, kind in reader.read_metadata().state_dict_metadata.items()
        if isinstance(kind, TensorStorageMetadata)  # safetensors hold nothing else
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*intent is to load in a single process.*")
        dcp.load(flat, storage_reader=reader, no_dist=True)
    return _nested(flat, {name: manifest[name] for name in NUMBERS})


def discard(folder: Path) -> None:
    """Delete all checkpoints in parts."""
    for path in _parts(folder):
        shutil.rmtree(path)


def _flat(state: Checkpoint) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint under one name each."""
    moments = {
        f"optimizer/{index}/{name}": value
        for index, entry in state.optimizer["state"].items()
        for name, value in entry.items()
    }
    return {**{f"model/{name}": value for name, value in state.model.items()}, **moments}


def _nested(flat: dict[str, torch.Tensor], numbers: dict[str, Any]) -> Checkpoint:
    """The reverse of `_flat`."""
    model: dict[str, torch.Tensor] = {}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in flat.items():
        kind, _, rest = name.partition("/")
        if kind == "model":
            model[rest] = value
        else:
            index, _, moment = rest.partition("/")
            moments.setdefault(int(index), {})[moment] = value
    return Checkpoint(model=model, optimizer={"state": dict(sorted(moments.items()))}, **numbers)


def _parts(folder: Path) -> list[Path]:
    return [path_of(folder, step, PARTS) for step in steps_saved(folder, PARTS)]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
