"""What is measured on a trained model: held-out losses and zero-shot tasks."""

from fmscale.public import shown

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "Adaptation": "image_text.probes",
    "Answers": "language.answers",
    "FilledBlank": "language.cloze",
    "FineTuning": "language.fine_tuning",
    "HeldOutPairs": "image_text.pairs",
    "HeldOutText": "language.language",
    "ImageFineTuning": "image_text.fine_tuning",
    "InContext": "language.in_context",
    "LastWord": "language.cloze",
    "LossByPosition": "language.position",
    "LossBySource": "language.by_source",
    "MachineDetector": "language.detector",
    "OtherText": "language.other_text",
    "Regret": "language.regret",
    "Retrieval": "image_text.retrieval",
    "Samples": "language.samples",
    "ZeroShot": "image_text.zero_shot",
}
__getattr__ = shown(__name__, PUBLIC)
