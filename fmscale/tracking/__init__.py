"""Where metrics go besides the run store: Weights & Biases, its uploads and workspaces."""

from fmscale.public import shown

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "NoTracker": "tracker",
    "WandbTracker": "wandb",
}
__getattr__ = shown(__name__, PUBLIC)
