"""The closing table of a sweep says what its runs differ by, within a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fmscale.launching import display
from fmscale.plan import expand


@pytest.mark.parametrize(("seeds", "rates"), [((1,), (2e-3, 8e-3)), ((1, 2), (4e-3,))])
def test_runs_of_one_model_are_told_apart(tiny, monkeypatch, seeds, rates):
    monkeypatch.setattr(
        display, "Console", lambda: (out.append(Console(width=80, file=io.StringIO())), out[-1])[1]
    )
    out: list[Console] = []
    jobs = [
        job
        for seed in seeds
        for rate in rates
        for job in expand([*tiny, "budget.tokens=6400", f"seed={seed}", f"optimizer.lr={rate}"])
    ]
    display.print_outcome(jobs, {})
    text = out[0].file.getvalue()
    head = next(line for line in text.splitlines() if "model" in line)
    assert ("lr" in head) == (len(rates) > 1)
    assert ("seed" in head) == (len(rates) == 1)
    if len(rates) > 1:
        assert all(f" {rate:.3g} " in text for rate in rates)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("missing") == len(jobs)
