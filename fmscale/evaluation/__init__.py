"""What is measured on a trained model: held-out losses and zero-shot tasks."""

from fmscale.public import shown

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "Adaptation": "adaptation",
    "Answers": "answers",
    "FilledBlank": "cloze",
    "FineTuning": "fine_tuning",
    "HeldOutPairs": "pairs",
    "HeldOutText": "language",
    "ImageFineTuning": "image_finetuning",
    "InContext": "in_context",
    "LastWord": "cloze",
    "LossByPosition": "position",
    "LossBySource": "by_source",
    "MachineDetector": "detector",
    "OtherText": "other_text",
    "Regret": "regret",
    "Retrieval": "retrieval",
    "Samples": "samples",
    "ZeroShot": "zero_shot",
}
__getattr__ = shown(__name__, PUBLIC)
