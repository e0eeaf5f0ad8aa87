"""Weights as transformers stores them: safetensors, whole or in parts, or torch's own format."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights.

    Raises:
        ValueError: naming the folder, if there are none.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        parts = json.loads(index.read_text())["weight_map"].values()
        return [folder / name for name in sorted(set(parts))]
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).exists():
            return [folder / name]
    raise ValueError(f"{folder} holds no model.safetensors and no pytorch_model.bin")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors by name, floats as float32."""
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        if path.suffix == ".bin":  # weights_only: nothing in the file can run
            tensors |= torch.load(path, map_location="cpu", weights_only=True)
        else:
            tensors |= load_file(path)
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
