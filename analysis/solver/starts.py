"""Where to start: variable projection over the exponents of a sum law.

For given exponents the best non-negative amplitudes are a tiny non-negative least-squares problem
(Golub & Pereyra 1973; Lawson & Hanson 1974). With at most four terms all sets of positive
amplitudes can be tried at once, so a whole grid of exponents is searched in a few array operations
and no starting amplitude is ever guessed.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np

from analysis.laws.law import Array
from analysis.laws.sums import SumLaw
from analysis.solver.problem import Problem, SumProblem

GRID_POINTS = {1: 64, 2: 20, 3: 9}  # per exponent, by number of exponents


def project_amplitudes(basis: Array, target: Array) -> tuple[Array, Array]:
    """Non-negative least squares for each basis of a batch, by trying every support.

    Args:
        basis: (G, n, K), columns scaled to the target.
        target: (n,) what the amplitudes must sum to.

    Returns:
        amplitudes (G, K) and residual sums of squares (G,).
    """
    k = basis.shape[2]
    size = np.sqrt(np.einsum("gnk,gnk->gk", basis, basis))
    unit = basis / size[:, None, :]
    gram = unit.transpose(0, 2, 1) @ unit
    moment = target @ unit  # (G, K)
    best = np.zeros_like(moment)
    best_gain = np.zeros(len(basis))
    for count in range(1, k + 1):
        for support in combinations(range(k), count):
            s = np.array(support)
            sub = gram[:, s[:, None], s] + 1e-13 * np.eye(count)
            solution = np.linalg.solve(sub, moment[:, s, None])[..., 0]
            # Gain is y'B(B'B)^-1B'y; only admissible when no amplitude is negative.
            gain = np.einsum("gk,gk->g", solution, moment[:, s])
            take = (solution >= 0).all(axis=1) & (gain > best_gain)
            best_gain[take] = gain[take]
            fresh = np.zeros_like(best)
            fresh[:, s] = solution
            best[take] = fresh[take]
    return best / size, np.maximum(target @ target - best_gain, 0.0)


def exponent_grid(law: SumLaw) -> tuple[list[str], Array]:
    """Names of the exponents and a grid over them, log-spaced where they are positive, (G, e)."""
    exponents = [p for p in law.parameters if not p.positive]
    axes = []
    for p in exponents:
        axis = np.geomspace(*p.guess, GRID_POINTS.get(len(exponents), 6))
        axes.append(np.concatenate([-axis[::-1], axis]) if p.bounds[0] < 0 else axis)
    return [p.name for p in exponents], np.array(list(product(*axes)))


def projected_starts(problem: SumProblem) -> Array:
    """A grid of exponents, each with its best amplitudes, working coordinates (G, P)."""
    law = problem.law
    assert isinstance(law, SumLaw)
    y = problem.y if problem.y.ndim == 1 else problem.y[0]
    names, grid = exponent_grid(law)
    theta = np.zeros((len(grid), len(law.names)))
    theta[:, [law.names.index(name) for name in names]] = grid
    # Unit amplitudes at the centre: log terms are then -exponent * centred log column.
    basis = np.stack([np.exp(z) for z in problem.log_terms(theta)], axis=2)  # (G, n, K)
    weight = problem.weights if problem.weights.ndim == 1 else problem.weights[0]
    relative = np.sqrt(weight) / problem.scale
    if problem.objective.log:
        relative = relative / y  # first order of a log residual
    amplitudes, _ = project_amplitudes(basis * relative[None, :, None], y * relative)
    low, _ = problem.bounds()
    index = [law.names.index(t.amplitude) for t in law.terms]
    with np.errstate(divide="ignore"):
        theta[:, index] = np.maximum(np.log(amplitudes), low[index])
    return theta


def make_starts(problem: Problem, keep: int, seed: int) -> Array:
    """Starts in working coordinates (M, P): the best of many, and a random share of the rest.

    The random share is there so that "how many starts agree" says something about the landscape
    and not only about neighbors of one grid point.
    """
    if isinstance(problem, SumProblem):
        candidates = projected_starts(problem)
    else:
        y = problem.y if problem.y.ndim == 1 else problem.y[0]
        candidates = problem.to_working(problem.law.starts(problem.x, y, 16 * keep, seed))
    score = problem.value(candidates, np.zeros(len(candidates), dtype=np.intp))
    order = np.argsort(score, kind="stable")
    best, rest = order[: keep - keep // 4], order[keep - keep // 4 :]
    extra = np.random.default_rng(seed).choice(rest, size=min(keep // 4, rest.size), replace=False)
    return np.asarray(candidates[np.concatenate([best, extra])], dtype=float)
