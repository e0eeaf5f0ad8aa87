"""Dashboards as the JSON that W&B's page reads, against golden files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("wandb_workspaces")

from fmscale.tracking.panels import study_sections
from fmscale.tracking.workspace import build_workspace
from tests.helpers.records import record

FOLDER = Path(__file__).parent
# A record of each family, as its runs leave them.
RECORDS = {
    "gpt": record(),
    "clip": record(
        family="clip", n_tokens=None, n_samples=1000,
        metrics={"val_loss": 2.0, "zero_shot_error": 0.5},
        units={"val_loss": "nats/pair", "zero_shot_error": "1"},
    ),
}  # fmt: skip


def spec_of(family: str) -> dict:
    workspace = build_workspace(
        study_sections([RECORDS[family]]), study="s1", entity="e", project="p"
    )
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


def test_a_family_of_ones_own_has_panels_of_what_it_measured():
    own = record(family="mine", units={"val_loss": "bits"}, metrics={"val_loss": 2.0})
    panels = [panel for section in study_sections([own]) for panel in section.panels]
    assert {panel.y for panel in panels} == {"val_loss", "train/loss", "lr"}
    assert {panel.y_label for panel in panels if panel.y == "val_loss"} == {"loss (bits)"}
