"""The report of planted studies: files, numbers, and the page in a real browser."""

import contextlib
import dataclasses
import html
import io
import itertools
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("plotly")

from analysis import FitResult, TableError, final_runs, load_runs
from analysis.__main__ import main
from analysis.report import analyze_study, write_report
from analysis.report.html import render_html
from analysis.report.study import floor_of
from analysis.report.write import draw_panel
from tests.helpers.planted import CLIP_LAW, GPT_LAW, joint_loss, write_study

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    gpt = write_study(root / "runs" / "gpt_planted", seeds=(1, 2))
    clip = write_study(root / "runs" / "clip_planted", "clip", sizes=(1e5, 3e5, 8e5, 2e6, 5e6),
                       budgets=(2e4, 4e4, 8e4, 1.6e5, 3.2e5))  # fmt: skip
    run = next(iter(sorted(gpt.iterdir())))
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps({**record, "status": "diverged"}))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(
            ["report", str(gpt), str(clip), "--out", str(root / "out"), "--bootstrap", "100"]
        )
    assert code == 0
    (root / "out" / "printed.txt").write_text(printed.getvalue())
    return root / "out"


def test_every_panel_has_figures_and_a_card(report):
    stems = {p.stem for p in (report / "figures").glob("*.png")}
    assert {f"gpt_planted_val_loss_{p}" for p in ("vs_N", "vs_D", "vs_C", "joint")} <= stems
    assert {"gpt_planted_forecast", "clip_planted_forecast"} <= stems
    assert {f"clip_planted_{m}_{p}" for m in ("val_loss", "zero_shot_error")
            for p in ("vs_N", "vs_D", "vs_C", "joint")} <= stems  # fmt: skip
    assert {p.stem for p in (report / "figures").glob("*.svg")} == stems
    card = (report / "cards" / "gpt_planted_val_loss_joint_joint.md").read_text()
    for entry in ("objective", "certificate", "range fitted", "seed noise", "held out", "versions",
                  "status is diverged"):  # fmt: skip
        assert entry in card


def test_fits_json_holds_the_planted_truth_at_full_precision(report):
    studies = json.loads((report / "fits.json").read_text())["studies"]
    for study, law in zip(studies, (GPT_LAW, CLIP_LAW), strict=True):
        panel = next(p for p in study["panels"] if p["name"] == "val_loss_joint")
        entry = next(f for f in panel["fits"] if f["law"] == "joint")
        whole = FitResult.from_dict(entry["all_runs"])
        for name in ("alpha", "beta", "E"):
            low, high = whole.intervals[name]
            width = high - low
            assert low - 0.3 * width <= law[name] <= high + 0.3 * width, (study["study"], name)
        held = entry["fit"]["held_out"]
        assert held["n"] >= 1
        assert held["mean_absolute_relative_error"] < 0.02
    assert studies[0]["seed_noise"]["val_loss"]["freedom"] > 10
    assert studies[0]["dropped"][0]["reason"] == "status is diverged"


def test_the_summary_is_printed(report):
    out = (report / "printed.txt").read_text()
    assert "held-out error" in out
    assert "power_floor: L = " in out
    assert "report.html" in out
    wide = [line for line in out.splitlines() if len(line) > 80]
    assert all(line.strip().startswith("fmscale sweep ") for line in wide)
    assert "status is diverged" in out


def test_the_decision_stands_first_on_page_and_screen(report):
    answer = json.loads((report / "fits.json").read_text())["studies"][0]["decision"]
    truth = joint_loss(GPT_LAW, answer["n_opt"], answer["d_opt"])
    assert answer["loss_interval"][0] < truth < answer["loss_interval"][1]
    assert answer["distance"] == pytest.approx(10, rel=0.05)
    printed = (report / "printed.txt").read_text().splitlines()
    assert printed[:2] == ["gpt_planted:", answer["lines"][0]]
    page = (report / "report.html").read_text()
    body = page[page.index("<h1>") :]
    said = body.index(html.escape(answer["lines"][0]))
    assert said < body.index("id='f0'") < body.index("<li>") < body.index("<table>")
    assert "fmscale-analysis report" in body[:said]
    assert "gpt_planted, 2026-01-01, data planted" in body[:said]


def test_drawn_law_table_and_card_come_from_one_fit(report):
    page = (report / "report.html").read_text()
    drawn = json.loads(page.split("const figures=")[1].split(";for(const")[0])
    names = [trace.get("name", "") for figure in drawn.values() for trace in figure["data"]]
    studies = json.loads((report / "fits.json").read_text())["studies"]
    panel = next(p for p in studies[0]["panels"] if p["name"] == "val_loss_vs_C")
    for entry in panel["fits"]:
        whole, check = entry["all_runs"]["formula"], entry["fit"]["formula"]
        assert any(" ".join(name.split()).startswith(whole) for name in names)
        assert f"<code>{html.escape(whole)}</code>" in page
        card = report / "cards" / f"gpt_planted_val_loss_vs_C_{entry['law']}.md"
        assert whole in card.read_text()
        if check != whole:
            assert f"<code>{html.escape(check)}</code>" not in page
    assert any("held out" in name for name in names)


def test_any_metric_is_drawn_and_forecast(tmp_path):
    study = write_study(tmp_path / "gpt", sizes=(2e4, 2e5, 2e6), budgets=(1e6, 4e6, 1.6e7))
    flops = 1e16
    done = analyze_study(load_runs(study), 20, metric="val_loss / 0.693", flops=flops)
    assert {panel.metric for panel in done.panels} == {"val_loss / 0.693"}
    plain = analyze_study(load_runs(study), 20, flops=flops).outlook.decision
    decision = done.outlook.decision
    assert decision.budget.flops == plain.budget.flops == flops
    assert decision.loss["predicted"] == pytest.approx(plain.loss["predicted"] / 0.693, rel=1e-3)
    names = {p.name for p in write_report([done], tmp_path / "out")["figures"]}
    assert "gpt_val_loss___0.693_vs_C.png" in names
    with pytest.raises(TableError, match="nothing"):
        analyze_study(load_runs(study), 20, metric="nothing")


def test_which_run_next_ends_each_study(report):
    printed = (report / "printed.txt").read_text()
    page = (report / "report.html").read_text()
    for study in json.loads((report / "fits.json").read_text())["studies"]:
        plan = study["decision"]["next"]
        assert plan["budget"] == pytest.approx(0.1 * study["decision"]["flops"])
        told = f"{study['study']}, which run next:"
        assert printed.index(told) > printed.rindex("held-out error")
        for command in plan["commands"]:
            assert command in printed[printed.index(told) :]
            assert html.escape(command) in page
    assert page.count("Which run next") == 2


def test_a_study_of_very_many_runs_is_sent_to_the_command_for_its_plan(tmp_path, monkeypatch):
    study = write_study(tmp_path / "gpt", sizes=(2e4, 2e5, 2e6), budgets=(1e6, 4e6, 1.6e7))
    monkeypatch.setattr("analysis.forecasting.decision.MOST_PLANNED", 5)
    done = analyze_study(load_runs(study), 20)
    assert done.plan is None
    assert "ask fmscale-analysis next" in render_html([done])


def test_registered_forecasts_stand_on_page_and_screen(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "gpt", sizes=(2e4, 2e5, 2e6), budgets=(1e6, 2e6, 4e6, 1.6e7))
    small = ["forecast", "gpt", "--where", "n_tokens < 1e7"]
    for name, size in (("seen", "2e6"), ("waits", "2e5"), ("edited", "2e4")):
        assert main([*small, "--n", size, "--d", "1.6e7", "--register", name]) == 0
    assert main(["score", "seen", "gpt"]) == 0
    path = tmp_path / "forecasts" / "edited.json"
    path.write_text(path.read_text().replace('"N": 20000', '"N": 20001'))
    write_study(tmp_path / "other", sizes=(2e4, 2e5), budgets=(1e6, 2e6, 4e6, 8e6))
    assert main(["forecast", "other", "--n", "1e9", "--d", "1e9", "--register", "foreign"]) == 0
    capsys.readouterr()
    assert main(["report", "gpt", "--out", "out", "--bootstrap", "20"]) == 0
    printed = capsys.readouterr().out
    page = (tmp_path / "out" / "report.html").read_text()
    page = page[page.index("id='registered'") :]
    assert "1 of 1 scored runs lie in the interval" in printed
    assert "hit: gpt_2000000-16000000-s1 reached" in printed
    assert "fmscale-analysis score waits gpt" in printed
    for cell in ("seen", "val_loss of N = 2e+06, D = 1.6e+07", "hit", "waits", "open"):
        assert f"<td>{cell}</td>" in page
    for told in (" ".join(printed.split()), page):
        assert "edited.json was edited after it was registered" in told
        assert "foreign" not in told


def test_page_is_self_contained(report):
    page = (report / "report.html").read_text()
    assert "Plotly.newPlot" in page
    # plotly's own bundle mentions addresses in strings; nothing may be loaded from one.
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']https?:", page)


def test_page_opens_in_a_real_browser_without_console_errors(report, tmp_path):
    if CHROMIUM is None:
        pytest.skip(
            "no chromium on this machine: the page was NOT opened (apt-get install chromium)"
        )
    base = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr", "--log-level=0", "--virtual-time-budget=15000"]  # fmt: skip
    url = (report / "report.html").as_uri()
    done = subprocess.run([*base, "--dump-dom", url], capture_output=True, text=True, timeout=120)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    assert 'data-ready="yes"' in done.stdout
    assert done.stdout.count("main-svg") >= 12
    picture = tmp_path / "page.png"
    subprocess.run([*base, f"--screenshot={picture}", "--window-size=1100,1400", url],
                   capture_output=True, timeout=120, check=True)  # fmt: skip
    assert picture.stat().st_size > 50_000


def test_a_study_with_too_few_sizes_reports_refusals_instead_of_failing(tmp_path):
    study = write_study(tmp_path / "tiny", sizes=(2e4, 2e5), budgets=(1e6, 4e6))
    done = analyze_study(load_runs(study), bootstrap=50)
    refused = [law for panel in done.panels for law, _ in panel.refused]
    assert "power_floor" in refused
    assert "joint" in refused
    assert "free parameters" in render_html([done])


def test_a_study_without_usable_runs_is_refused(tmp_path):
    study = write_study(tmp_path / "none", sizes=(2e4,), budgets=(1e6,))
    run = next(iter(study.iterdir()))
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps({**record, "status": "diverged"}))
    with pytest.raises(TableError, match="no completed run"):
        analyze_study(load_runs(study))


def test_a_table_of_ones_own_is_sent_to_the_commands_that_take_it(tmp_path, capsys):
    path = tmp_path / "points.csv"
    path.write_text("params,tokens,loss\n1e6,1e8,3.0\n2e6,2e8,2.8\n")
    assert main(["report", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "no column study and no family" in capsys.readouterr().err


def test_missing_zero_shot_metric_is_noted(tmp_path):
    study = write_study(tmp_path / "clip", "clip", sizes=(1e5, 3e5, 1e6), budgets=(2e4, 4e4, 8e4))
    for run in study.iterdir():
        record = json.loads((run / "record.json").read_text())
        del record["metrics"]["zero_shot_error"]
        (run / "record.json").write_text(json.dumps(record))
    done = analyze_study(load_runs(study), bootstrap=50)
    assert any("zero_shot_error" in note for note in done.notes)
    assert not any(np.isnan(f.objective) for p in done.panels for f in p.fits)


def test_a_floor_that_all_runs_share_is_drawn(tmp_path):
    study = write_study(tmp_path / "clip", "clip", sizes=(1e5, 3e5, 1e6), budgets=(2e4, 4e4, 8e4))

    def floors(*values):
        for run, value in zip(sorted(study.iterdir()), itertools.cycle(values)):
            record = json.loads((run / "record.json").read_text())
            record["metrics"]["val_loss_floor"] = value
            (run / "record.json").write_text(json.dumps(record))
        return floor_of(final_runs(load_runs(study)), "val_loss")

    assert floors(0.25, 0.3) is None
    assert floors(0.25) == 0.25
    done = analyze_study(load_runs(study), bootstrap=50)
    assert {p.floor for p in done.panels if p.metric == "val_loss"} == {0.25}
    assert {p.floor for p in done.panels if p.metric == "zero_shot_error"} == {None}
    panel = next(p for p in done.panels if p.name == "val_loss_vs_C")
    (svg,) = [p for p in draw_panel(done, panel, tmp_path / "panel") if p.suffix == ".svg"]
    assert "floor 0.25" in svg.read_text()
    assert "floor 0.25" in render_html([done])


MARK = "document.body.dataset.owned='yes'"
HOSTILE = f'</script><script>{MARK}</script><img src=x onerror="{MARK}"><!--<script>'


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A study whose records hold markup and paths in place of names."""
    root = tmp_path_factory.mktemp("hostile")
    study = write_study(root / "study", sizes=(2e4, 2e5, 2e6), budgets=(1e6, 4e6, 1.6e7))
    for path in study.glob("*/record.json"):
        record = json.loads(path.read_text())
        record |= {"study": f"../../$x$ {HOSTILE}", "run_id": record["run_id"] + HOSTILE}
        path.write_text(json.dumps(record))
    done = analyze_study(load_runs(study), bootstrap=20)
    one = dataclasses.replace(done, panels=tuple(p for p in done.panels if p.fits)[:1])
    write_report([one], root / "out" / "report")
    return root


def test_names_in_records_lead_no_file_out_of_the_report(hostile):
    assert sorted(p.name for p in hostile.iterdir()) == ["out", "study"]
    assert [p.name for p in (hostile / "out").iterdir()] == ["report"]
    names = {p.name for p in (hostile / "out" / "report" / "figures").glob("*.png")}
    assert names == {"study_forecast.png", "study_val_loss_vs_N.png"}


def test_markup_in_records_stays_text(hostile):
    page = (hostile / "out" / "report" / "report.html").read_text()
    assert "&lt;img src=x" in page
    assert MARK not in page.replace("&#x27;", "")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: the page was NOT opened")
    base = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={hostile / 'profile'}", "--virtual-time-budget=15000"]  # fmt: skip
    url = (hostile / "out" / "report" / "report.html").as_uri()
    done = subprocess.run([*base, "--dump-dom", url], capture_output=True, text=True, timeout=120)
    assert 'data-ready="yes"' in done.stdout
    assert "data-owned" not in done.stdout


def test_a_report_of_very_many_runs_is_bounded_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("analysis.report.study.LARGE", 20)
    for module in ("report.write", "report.html", "report.parts", "plot.fits"):
        monkeypatch.setattr(f"analysis.{module}.MANY", 20)
    study = write_study(
        tmp_path / "many", sizes=np.geomspace(2e4, 2e7, 30).round(), budgets=(1e6, 4e6)
    )
    assert main(["report", str(study), "--out", str(tmp_path / "r"), "--bootstrap", "2000"]) == 0
    assert "intervals rest on 100 refits" in " ".join(capsys.readouterr().out.split())
    fits = json.loads((tmp_path / "r" / "fits.json").read_text())
    joint = next(p for p in fits["studies"][0]["panels"] if p["against"] == "joint")
    assert [f["law"] for f in joint["fits"]] == ["joint", "joint_tied"]
    assert joint["sensitivity"] is None
    assert "data" not in joint["fits"][0]["fit"]
    assert len(FitResult.from_dict(joint["fits"][0]["all_runs"]).data["y"]) == 60
    page = (tmp_path / "r" / "report.html").read_text()
    drawn = json.loads(page.split("const figures=")[1].split(";for(const")[0])
    points = [t for f in drawn.values() for t in f["data"] if t["mode"] == "markers"]
    assert max(len(t["x"]) for t in points) <= 20
    assert max(len(f["data"]) for f in drawn.values()) < 40
    assert "some are drawn" in page


def test_a_family_of_ones_own_is_reported_and_fitted_without_naming_columns(tmp_path, capsys):
    study = write_study(tmp_path / "runs" / "convs", seeds=(1,))
    for path in study.rglob("record.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "family": "conv"}))
    report = analyze_study(load_runs(study), bootstrap=50)
    assert report.family == "conv"
    assert {panel.metric for panel in report.panels} == {"val_loss"}
    assert main(["fit", str(study), "--law", "joint", "--interval", "none"]) == 0
    assert "val_loss against N = n_params_total, D = n_tokens" in capsys.readouterr().out
