"""GPT and CLIP in plain torch: no training loop, no configuration framework."""

from fmscale.public import shown

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "CLIP": "clip",
    "Captioner": "captioner",
    "GPT": "gpt",
    "MuP": "parametrization",
    "Pixels": "vit",
    "WordPredictor": "word_predictor",
}
__getattr__ = shown(__name__, PUBLIC)
