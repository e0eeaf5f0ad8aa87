"""Training objectives: (model, batch) -> dict with the scalar "loss" and extras to log."""

from fmscale.public import shown

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "CaptionLikelihood": "caption_likelihood",
    "Contrastive": "contrastive",
    "NextToken": "next_token",
    "PairwiseSigmoid": "sigmoid",
}
__getattr__ = shown(__name__, PUBLIC)
