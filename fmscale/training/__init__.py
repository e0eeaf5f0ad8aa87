"""Training with Lightning: one module for GPT and CLIP, trunks and branches, W&B."""

from typing import Any

from fmscale.public import load

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "NoOutlet": "outlet",
    "WandbOutlet": "wandb_outlet",
}


def __getattr__(name: str) -> Any:
    return load(__name__, PUBLIC, name)
