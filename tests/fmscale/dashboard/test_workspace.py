"""Dashboards as the JSON that W&B's page reads, against golden files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("wandb_workspaces")

from fmscale.dashboard.panels import study_sections
from fmscale.dashboard.workspace import build_workspace
from fmscale.runs.record import UNITS

FOLDER = Path(__file__).parent


def spec_of(family: str) -> dict:
    workspace = build_workspace(study_sections(family), study="s1", entity="e", project="p")
    # No public method gives the JSON without a server.
    model = json.loads(workspace._to_model().model_dump_json(by_alias=True, exclude_none=True))
    return model["spec"]["section"]


def essence(spec: dict) -> dict:
    """Panels, axes and filters; ids are drawn anew each time and layout is W&B's own."""
    sections = {
        section["name"]: [{"type": p["viewType"], **p["config"]} for p in section["panels"]]
        for section in spec["panelBankConfig"]["sections"]
        if section["panels"]
    }
    return {"sections": sections, "filters": spec["runSets"][0]["filters"]}


@pytest.mark.parametrize("family", ["gpt", "clip"])
def test_the_workspace_equals_its_golden_file(family):
    golden = json.loads((FOLDER / f"workspace_{family}.json").read_text())
    assert essence(spec_of(family)) == golden


@pytest.mark.parametrize("family", ["gpt", "clip"])
def test_every_axis_is_logged_or_recorded(family):
    logged = {"tokens", "samples", "flops", "lr", "train/loss"}
    for section in study_sections(family):
        for panel in section.panels:
            metrics = {"val_loss", "zero_shot_error"}
            known = logged if panel.kind == "line" else set(UNITS) | metrics
            assert {panel.x, panel.y} <= known, panel


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="known: gpt, clip"):
        study_sections("bert")
