"""The coordinate check tells muP from the standard parametrization, and says how."""

import sys

import pytest

from fmscale.commands import coord_check
from fmscale.errors import ConfigError
from fmscale.training.coordinate_check import Movement, measure, spreads

WIDTHS = (32, 64, 128, 256)


@pytest.fixture
def overrides(tiny):
    return [*tiny, "model=gpt/2x32", "batch_size=8"]


@pytest.mark.parametrize("mup", [True, False])
def test_movement_is_flat_under_mup_and_grows_without(overrides, mup):
    jobs = coord_check.jobs_of(overrides, WIDTHS, mup)
    found = spreads([m for job in jobs for m in measure(job, 5, (1, 2))])
    assert set(found) == {"0.attention", "0", "1.attention", "1", "logits"}
    if mup:
        assert max(found.values()) <= 2
    else:
        assert min(found.values()) > 3


def test_spread_is_largest_over_smallest_after_the_last_step():
    rows = [Movement(w, "a", s, 1.0, c) for w, s, c in
            ((8, 1, 9.0), (8, 2, 2.0), (16, 2, 5.0), (32, 2, 4.0))]  # fmt: skip
    assert spreads(rows) == {"a": 2.5}


def test_command_prints_verdicts_and_draws(overrides, monkeypatch, capsys, tmp_path):
    out = tmp_path / "figure.png"
    options = ["--widths", "16,32,48,64", "--steps", "1", "--seeds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["fmscale coord-check", *overrides, *options])
    coord_check.main()
    printed = capsys.readouterr().out
    assert "standard: " in printed
    assert "mup: " in printed
    assert out.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("extra", "widths", "message"),
    [
        ([], (32, 64), "give at least 4"),
        ([], (32, 64, 100, 128), "heads of width 16 do not divide it"),
        (["model=gpt/2x16"], (8, 16, 32, 64), "--widths 8: heads of width 16"),
    ],
)
def test_mistakes_are_named(overrides, extra, widths, message):
    with pytest.raises(ConfigError, match=message):
        coord_check.jobs_of([*overrides, *extra], widths, mup=True)


def test_clip_is_refused(tiny_clip):
    with pytest.raises(ConfigError, match=r"coord-check takes a GPT, not clip_"):
        coord_check.jobs_of([*tiny_clip, "budget.samples=160"], WIDTHS, mup=True)
