"""Speed of the analysis, as ratios inside one process: run by `make bench`.

The yardstick is the plain loop other scripts use: scipy's L-BFGS from 500 starts, one after the
other, on the same points.
"""

import subprocess
import sys
import time

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp

from analysis import fit, load_runs
from tests.helpers.planted import isoflop_grid, write_study

pytestmark = pytest.mark.bench


@pytest.fixture(scope="module")
def frame():
    return isoflop_grid(budgets=15, points=16, noise=0.01)  # 240 points


def plain_loop(frame, weights=None, starts=500, seed=0):
    """Huber on log-sum-exp residuals by L-BFGS with analytic gradient, best of all starts."""
    n, d = np.log(frame["N"].to_numpy()), np.log(frame["D"].to_numpy())
    y = np.log(frame["metric"].to_numpy())
    w = np.ones(len(y)) if weights is None else weights

    def value(p):
        e, a, b, alpha, beta = p
        z = np.stack([np.full_like(y, e), a - alpha * n, b - beta * d])
        total = logsumexp(z, axis=0)
        share = np.exp(z - total)
        r = total - y
        first = np.clip(r, -1e-3, 1e-3)
        size = np.abs(r)
        rho = np.where(size <= 1e-3, 0.5 * r * r, 1e-3 * (size - 5e-4))
        g = w * first
        gradient = [g @ share[0], g @ share[1], g @ share[2],
                    -(g * n) @ share[1], -(g * d) @ share[2]]  # fmt: skip
        return 1e3 * float(w @ rho), 1e3 * np.array(gradient)

    rng = np.random.default_rng(seed)
    grid = np.column_stack([rng.uniform(-1, 1.5, starts), rng.uniform(0, 25, starts),
                            rng.uniform(0, 25, starts), rng.uniform(0, 2, starts),
                            rng.uniform(0, 2, starts)])  # fmt: skip
    runs = [
        minimize(value, p, jac=True, method="L-BFGS-B", options={"maxiter": 2000}) for p in grid
    ]
    best = min(runs, key=lambda r: r.fun)
    return best.fun / 1e3, best.x


def clock(call, repeats=3):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        out = call()
        times.append(time.perf_counter() - start)
    return min(times), out


def test_global_fit_against_a_loop_of_500_starts(frame, capsys):
    ours, result = clock(lambda: fit("joint", frame, interval="none"))
    loop, (objective, parameters) = clock(lambda: plain_loop(frame), repeats=1)
    with capsys.disabled():
        print(f"\nglobal joint fit of 240 points: {ours:.3f} s; loop of 500 L-BFGS starts "
              f"{loop:.2f} s; ratio {loop / ours:.0f}x")  # fmt: skip
    assert result.objective <= objective * (1 + 1e-9)
    assert result.parameters["alpha"] == pytest.approx(parameters[3], rel=2e-2)
    assert loop / ours > 20


def test_bootstrap_of_4000_refits_against_the_loop(frame, capsys):
    ours, result = clock(lambda: fit("joint", frame, interval="rows", bootstrap=4000, seed=1), 2)
    single, _ = clock(lambda: plain_loop(frame, starts=20), repeats=1)
    per_start = single / 20
    drawn = np.random.RandomState(1).choice(240, size=(4000, 240), replace=True)
    worst = 0.0
    for s in range(0, 4000, 800):
        weights = np.bincount(drawn[s], minlength=240).astype(float)
        _, p = plain_loop(frame, weights, starts=40, seed=s)
        worst = max(worst, abs(result.samples["beta"][s] / p[4] - 1))
    with capsys.disabled():
        print(f"\n4000 bootstrap refits: {ours:.2f} s; the loop {4000 * per_start:.0f} s "
              f"from one start each; largest difference of beta {worst:.1e}")  # fmt: skip
    assert worst < 2e-2
    assert 4000 * per_start / ours > 10


def test_import_costs_little_beyond_numpy_scipy_pandas(capsys):
    base = "import numpy, scipy, scipy.stats, scipy.optimize, scipy.interpolate, pandas"
    now = "time.perf_counter()"
    code = f"import time; {base}; t = {now}; import analysis; print({now} - t)"
    own = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                             check=True).stdout)
        for _ in range(3)
    )  # fmt: skip
    with capsys.disabled():
        print(f"\nimport analysis, beyond numpy, scipy, pandas: {own:.3f} s")
    assert own < 0.6


def test_ten_thousand_run_folders(tmp_path, capsys):
    write_study(tmp_path / "many", sizes=[1e4 * 1.02**i for i in range(100)],
                budgets=[1e6 * 1.05**i for i in range(100)])  # fmt: skip
    seconds, table = clock(lambda: load_runs(tmp_path / "many"), repeats=2)
    with capsys.disabled():
        print(f"\n10,000 run folders to a table: {seconds:.2f} s")
    assert len(table) == 10_000
    assert seconds < 3 * 3  # three times the goal: machines differ
