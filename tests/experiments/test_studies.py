"""Every committed study can be read, traced to its preset, and checked against its own table."""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
STUDIES = sorted(p.parent for p in (ROOT / "experiments").glob("*/README.md"))
TABLE = (ROOT / "experiments" / "README.md").read_text()


def status(study: Path) -> str:
    """What the table of studies says of one: ``asked`` (prediction only) or ``done``."""
    row = re.search(rf"\({study.name}/README\.md\) \|[^|]+\| (\w+) \|", TABLE)
    assert row, f"{study.name} is not in the table of studies"
    return row[1]


@pytest.mark.parametrize("study", STUDIES, ids=lambda p: p.name)
def test_a_study_says_what_was_asked_and_what_came_out(study):
    text = (study / "README.md").read_text()
    if status(study) == "asked":
        assert "**Prediction**" in text
        assert not (study / "results.csv").exists()
    else:
        for part in ("**Command**", "**Result**", "**Caveats**"):
            assert part in text
    for figure in re.findall(r"!\[[^]]+\]\(([^)]+)\)", text):
        assert (study / figure).stat().st_size > 5_000
    if "fmscale sweep" in text:
        assert (ROOT / "conf" / "experiment" / f"{study.name}.yaml").exists()


@pytest.mark.parametrize("study", [s for s in STUDIES if (s / "results.csv").exists()],
                         ids=lambda p: p.name)  # fmt: skip
def test_a_table_of_results_holds_finished_runs(study):
    table = pd.read_csv(study / "results.csv")
    assert len(table) >= 2
    if "run_id" in table:
        assert table["run_id"].is_unique
    if "status" in table:
        assert set(table["status"]) <= {"completed", "diverged"}
    if "val_loss_floor" in table:
        known = table.dropna(subset=["val_loss_floor"])
        assert (known["val_loss"] >= known["val_loss_floor"]).all()
