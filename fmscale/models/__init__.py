"""GPT and CLIP in plain torch: no training loop, no configuration framework."""

from typing import Any

from fmscale.public import load

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "CLIP": "clip",
    "Captioner": "captioner",
    "GPT": "gpt",
    "MuP": "parametrization",
    "Pixels": "vit",
    "WordPredictor": "word_predictor",
}


def __getattr__(name: str) -> Any:
    return load(__name__, PUBLIC, name)
