"""Models, objectives and optimizers are plain torch, seen from a fresh interpreter."""

import subprocess
import sys

PLAIN = [
    "fmscale.models.gpt",
    "fmscale.models.clip",
    "fmscale.objectives.next_token",
    "fmscale.objectives.contrastive",
    "fmscale.optim.param_groups",
    "fmscale.optim.schedules",
]
FOREIGN = ["pytorch_lightning", "lightning", "hydra", "omegaconf", "wandb", "analysis"]


def loaded_after(imports: list[str]) -> set[str]:
    """Which of FOREIGN a fresh interpreter holds after the imports."""
    code = f"import sys, {', '.join(imports)}\nprint(*(set({FOREIGN}) & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_models_objectives_and_optimizers_import_no_framework():
    assert loaded_after(PLAIN) == set()


def test_the_check_can_fail():
    assert loaded_after(["omegaconf"]) == {"omegaconf"}
