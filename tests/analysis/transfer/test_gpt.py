"""Few-shot curves, detector, fine-tuning and calibration on tables whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.plot.language import (
    plot_calibration,
    plot_detector,
    plot_few_shot,
    plot_fine_tuning,
    plot_positions,
)
from analysis.tables.table import TableError
from analysis.transfer.gpt import (
    calibration_tables,
    detector_law,
    fine_tuned_tasks,
    longest_runs,
    positions,
    shot_columns,
)

A, C = 1.3, 0.06  # of the detector's accuracy, A N^-C
SIZES = (1e4, 3e4, 1e5, 3e5, 1e6)


def ladder() -> pd.DataFrame:
    """Two budgets of five sizes; all that is measured follows from the size."""
    rows = []
    for n, noise in zip(SIZES, (0.01, -0.01, 0.0, 0.01, -0.01), strict=True):
        detected = A * n**-C + noise
        for tokens in (1e6, 4e6):
            step = np.log10(n) - 4
            row = {
                "run_id": f"m{n:.0f}-{tokens:.0f}-s1-abc", "model": f"m{n:.0f}",
                "n_params_total": n, "n_tokens": tokens, "seed": 1,
                "detector_accuracy": detected, "detector_n_test": 400,
                "detector_accuracy_low": detected - 0.02,
                "detector_accuracy_high": detected + 0.02,
                "finetune_toy_accuracy": 0.6 + 0.1 * step, "finetune_toy_forgotten": 0.1,
                "finetune_toy_accuracy_standard_error": 0.01,
                "finetune_toy_scratch_accuracy": 0.5, "finetune_toy_chance": 0.4,
                "finetune_toy_without_lm_accuracy": 0.55,
                "finetune_toy_without_lm_forgotten": 0.2,
            }  # fmt: skip
            for k in (0, 1, 4):
                row[f"task_mean_accuracy_at_{k}"] = 0.1 * step * k
                row[f"task_mean_accuracy_standard_error_at_{k}"] = 0.01
                row[f"task_mean_nats_at_{k}"] = 9.0 - k - step
                row[f"task_mean_described_accuracy_at_{k}"] = 0.1 * step * k + 0.05
                row[f"task_one_digit_described_thing_nats_at_{k}"] = 1.0
            row |= {f"val_loss_at_{k}": 3.0 - 0.1 * k for k in (1, 2, 4)}
            rows.append(row)
    return pd.DataFrame(rows)


def test_columns_say_task_description_quantity_and_k():
    found = shot_columns(ladder())
    assert [(p.described, p.quantity, p.shots) for p in found] == [
        *((False, "accuracy", k) for k in (0, 1, 4)),
        *((False, "nats", k) for k in (0, 1, 4)),
        *((True, "accuracy", k) for k in (0, 1, 4)),
    ]
    odd = shot_columns(ladder(), "one_digit_described_thing")
    assert {(p.task, p.described) for p in odd} == {("one_digit_described_thing", False)}
    with pytest.raises(TableError, match="tasks of this table: mean, one_digit"):
        shot_columns(ladder(), "reversed_words")
    assert fine_tuned_tasks(ladder()) == ["toy"]
    assert positions(ladder()) == [1, 2, 4]


def test_the_longest_run_of_each_size_counts_and_an_imported_one_as_it_is():
    runs = pd.concat(
        [ladder(), pd.DataFrame([{"model": "theirs", "n_params_total": 5e4}])], ignore_index=True
    )
    sizes = longest_runs(runs)
    assert sizes["n_params_total"].tolist() == sorted([*SIZES, 5e4])
    assert set(sizes["n_tokens"].dropna()) == {4e6}


def test_the_detectors_law_and_band_find_what_was_planted():
    """Binomial draws about A N^-C: the exponent is near, and the band holds the truth."""
    rng = np.random.default_rng(3)
    runs = longest_runs(ladder())
    runs["detector_accuracy"] = rng.binomial(400, A * runs["n_params_total"] ** -C) / 400
    law = detector_law(runs)
    assert law is not None
    assert law.parameters["c"] == pytest.approx(C, abs=0.025)
    band = law.predict({"x": np.array(SIZES)})
    truth = A * np.array(SIZES) ** -C
    assert ((band["low"] < truth) & (truth < band["high"])).all()
    assert detector_law(runs.iloc[:3]) is None


def test_figures_show_the_data_on_labelled_axes():
    runs = ladder()
    few = plot_few_shot(runs)
    accuracy = few.axes[0]
    largest = next(line for line in accuracy.lines if line.get_label() == "N = 1M")
    assert largest.get_ydata() == pytest.approx([0.0, 0.2, 0.8])
    assert sum(line.get_linestyle() == "--" for line in accuracy.lines) == len(SIZES)
    tuned = plot_fine_tuning(runs).axes[0]
    dotted = {line.get_label() for line in tuned.lines if line.get_linestyle() == ":"}
    assert dotted == {"fresh weights", "without language-model loss", "chance"}
    detector = plot_detector(runs).axes[0]
    assert "95 % band of the law" in {t.get_text() for t in detector.get_legend().get_texts()}
    bins = pd.DataFrame({"mean_probability": [0.1, 0.9], "accuracy": [0.2, 0.8], "n": [5, 5]})
    calibrated = plot_calibration({"r": bins}, {"r": "one"}).axes[0]
    assert calibrated.lines[1].get_ydata() == pytest.approx([0.2, 0.8])
    for ax in (*few.axes, tuned, detector, calibrated, plot_positions(runs).axes[0]):
        assert ax.get_xlabel()
        assert ax.get_ylabel()


def test_the_command_prints_and_draws(tmp_path, capsys):
    path, out = tmp_path / "runs.csv", tmp_path / "figures"
    ladder().to_csv(path, index=False)
    assert main(["language", str(path), "--out", str(out), "--json", str(tmp_path / "a.json")]) == 0
    text = capsys.readouterr().out
    assert "task_mean_accuracy_at_4" in text
    assert "detector: " in text
    names = {p.name for p in out.iterdir()}
    assert names == {"few_shot.png", "detector.png", "fine_tuning.png", "positions.png"}
    found = json.loads((tmp_path / "a.json").read_text())
    assert [row["n_params_total"] for row in found["sizes"]] == list(SIZES)
    assert main(["language", str(path), "--task", "reversed_words"]) == 2
    (tmp_path / "clip.csv").write_text("run_id,model,n_params_total\na,b,1\n")
    assert main(["language", str(tmp_path / "clip.csv")]) == 2
    assert "evaluation=in_context" in capsys.readouterr().err


def test_calibration_is_read_beside_the_records(tmp_path):
    folder = tmp_path / "run-a" / "tables"
    folder.mkdir(parents=True)
    row = {"low": 0.0, "high": 0.1, "n": 3, "mean_probability": 0.05, "accuracy": 0.0}
    (folder / "answers_exam_calibration.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "answers_exam.jsonl").write_text("{}\n")
    assert calibration_tables(tmp_path)["exam"]["run-a"].to_dict("records") == [row]
