"""Records and configurations of runs that were not trained."""

from __future__ import annotations

import copy
from typing import Any

from fmscale.runs.record import RunRecord

BASE: dict[str, Any] = {
    "study": "s",
    "seed": 1,
    "batch_size": 16,
    "model": {"_target_": "fmscale.models.gpt.GPT", "dropout": 0.0, "shape": {"d_model": 8}},
    "objective": {"_target_": "fmscale.objectives.next_token.NextToken"},
    "data": {"_target_": "fmscale.data.X", "root": "/a", "content": "c1", "data_dir": "/d"},
    "budget": {"tokens": 100},
    "optimizer": {"lr": 0.1, "betas": [0.9, 0.95], "weight_decay": 0.1},
    "schedule": {"warmup_units": 10},
    "trainer": {"precision": "32-true", "gradient_clip_val": 1.0, "keep_checkpoints": 2},
    "evaluation": {"evaluators": {"language": {"_target_": "fmscale.e.Language"}}},
    "logger": {"mode": None},
    "paths": {"runs_dir": "r"},
}


def record(**changes) -> RunRecord:
    fields = {
        "run_id": "gpt_1x16-1k-s1-0", "study": "s", "family": "gpt", "model": "gpt_1x16",
        "trunk_id": "t", "seed": 1, "status": "completed", "annealed": True, "schedule": "wsd",
        "n_params_total": 10, "n_params_non_embedding": 5, "n_params_matmul": 7,
        "n_params_by_group": {"mlp": 10}, "n_tokens": 1000, "metrics": {"val_loss": 2.0},
        "units": {"val_loss": "nats/token"},
    }  # fmt: skip
    return RunRecord(**{**fields, **changes})


def changed(**changes: Any) -> dict[str, Any]:
    """The base configuration with dotted keys (`model__dropout`) set, or removed by `...`."""
    config = copy.deepcopy(BASE)
    for place, value in changes.items():
        *path, name = place.split("__")
        node = config
        for key in path:
            node = node.setdefault(key, {})
        if value is ...:
            del node[name]
        else:
            node[name] = value
    return config
