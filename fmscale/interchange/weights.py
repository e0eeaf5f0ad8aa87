"""Weights and sizes as transformers stores them: config.json, and safetensors or torch's format."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def read_object(path: Path, required: Collection[str] = ()) -> dict[str, Any]:
    """The object in a JSON file of a folder.

    Raises:
        ValueError: naming the file, if it is missing, holds no object, or lacks a key.
    """
    if not path.exists():
        raise ValueError(
            f"{path.parent} holds no {path.name}; give a folder as transformers' save_pretrained "
            "writes it"
        )
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object; fetch it again")
    if missing := [key for key in required if key not in found]:
        raise ValueError(f"{path} lacks {', '.join(missing)}; fetch it again")
    return found


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights; a ValueError names a folder without any."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        parts = read_object(index, ["weight_map"])["weight_map"].values()
        return [folder / name for name in sorted(set(parts))]
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return [folder / name]
    raise ValueError(f"{folder} holds no model.safetensors and no pytorch_model.bin")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors by name, floats as float32.

    Raises:
        ValueError: naming the file, if one cannot be read, or could run code.
    """
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            if path.suffix == ".bin":  # weights_only: nothing in the file can run
                tensors |= torch.load(path, map_location="cpu", weights_only=True)
            else:
                tensors |= load_file(path)
        # A broken or a malicious file raises errors of torch, pickle, zipfile or safetensors.
        except Exception as error:
            why = (str(error).splitlines() or [""])[0]
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}: {why:.200}); fetch it again, as "
                "safetensors if possible"
            ) from error
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def load_weights(model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    """Give a model its weights; a ValueError names the first of another size than config.json's."""
    for name, own in model.state_dict().items():
        if name in state and state[name].shape != own.shape:
            found, made = ("x".join(map(str, tensor.shape)) for tensor in (state[name], own))
            raise ValueError(
                f"{folder}: {name} is {found}, but config.json makes it {made}; state the sizes "
                "of the weights there (tokens may have been added without resizing)"
            )
    model.load_state_dict(state)
