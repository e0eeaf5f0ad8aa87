"""Public names of what configurations name by `_target_`: `fmscale.data.ByteText`.

Stored configurations and run ids hold these names and not the modules behind them, so code can move
without making other runs of those that are stored: only the table of its package changes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

# Where stored configurations may still look for what a package shows by its last name.
PLACES = {
    "fmscale.sizing": ("gpt3.gpt3_shape",),
    "fmscale.models": (
        "clip.CLIP",
        "gpt.GPT",
        "captioner.Captioner",
        "word_predictor.WordPredictor",
        "parametrization.MuP",
        "vit.Pixels",
    ),
    "fmscale.objectives": (
        "caption_likelihood.CaptionLikelihood",
        "contrastive.Contrastive",
        "next_token.NextToken",
        "sigmoid.PairwiseSigmoid",
    ),
    "fmscale.optim": (
        "param_groups.adamw",
        "schedules.constant",
        "schedules.cosine",
        "schedules.wsd",
    ),
    "fmscale.data": (
        "languages.in_context_markov.InContextMarkov",
        "languages.markov.Markov",
        "languages.random_hierarchy.RandomHierarchy",
        "languages.zipf_facts.ZipfFacts",
        "pairs.image_text.caption_table",
        "pairs.image_text.webdataset",
        "prompts.task_documents.TaskDocuments",
        "scenes.dataset.Scenes",
        "scenes.grammar.SceneGrammar",
        "text.mixture.Mixture",
        "text.mixture.Source",
        "text.token_dataset.ByteText",
        "text.token_shards.TokenShards",
    ),
    "fmscale.evaluation": (
        "adaptation.Adaptation",
        "answers.Answers",
        "by_source.LossBySource",
        "cloze.FilledBlank",
        "cloze.LastWord",
        "detector.MachineDetector",
        "fine_tuning.FineTuning",
        "image_finetuning.ImageFineTuning",
        "in_context.InContext",
        "language.HeldOutText",
        "other_text.OtherText",
        "pairs.HeldOutPairs",
        "position.LossByPosition",
        "regret.Regret",
        "retrieval.Retrieval",
        "samples.Samples",
        "zero_shot.ZeroShot",
    ),
}
# Earlier name -> public name. What gets another public name is added here, too.
RENAMED = {
    f"{package}.{place}": f"{package}.{place.rpartition('.')[2]}"
    for package, places in PLACES.items()
    for place in places
}
for old, new in (("outlet.NoOutlet", "NoTracker"), ("wandb_outlet.WandbOutlet", "WandbTracker")):
    for place in (old, old.rpartition(".")[2]):
        RENAMED[f"fmscale.training.{place}"] = f"fmscale.tracking.{new}"


def shown(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package (PEP 562): a name's module is imported when it is asked for.

    Args:
        places: name -> module, relative to the package.
    """

    def load(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{places[name]}"), name)

    return load


def with_public_names(node: Any) -> Any:
    """A configuration in which every `_target_` has its public name."""
    if isinstance(node, Mapping):
        return {
            key: RENAMED.get(value, value)
            if key == "_target_" and isinstance(value, str)
            else with_public_names(value)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [with_public_names(item) for item in node]
    return node
