"""Training with Lightning: one module for GPT and CLIP, trunks and branches, W&B."""

from fmscale.public import shown

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "NoOutlet": "outlet",
    "WandbOutlet": "wandb_outlet",
}
__getattr__ = shown(__name__, PUBLIC)
