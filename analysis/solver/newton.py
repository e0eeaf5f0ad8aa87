"""Damped Newton steps for thousands of small fits side by side.

Every fit has its own damping and stops by itself; box bounds are kept by projection. The
stopping rule looks at the step in coordinates of order one, not at an objective whose scale the
user chose, because early stopping is how published laws went wrong (Besiroglu et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array
from analysis.solver.problem import Problem

ROUNDING = 1e-12  # relative, of an objective summed from residuals
MAX_STEP = 3.0  # e-folds of an amplitude or units of an exponent in one iteration
MAX_ITERATIONS = 2000  # a narrow Huber on a shallow valley takes hundreds; most fits take ten
NEAR = 30  # iterations after which a refit has left the neighborhood of its start
STRAIGHT = 6  # iterations after which a fit still running is in a bent valley
MAX_TURN = 0.75  # of a step's length, by which it may be bent
PATIENCE = 8  # iterations in which nothing but rounding was to be gained


@dataclass(frozen=True)
class Minimum:
    """End points of S minimisations, in working coordinates."""

    working: Array  # (S, P)
    objective: Array  # (S,)
    gradient: Array  # (S, P), zero in fixed coordinates and where a bound holds it
    hessian: Array  # (S, P, P)
    converged: NDArray[np.bool_]  # (S,)
    at_bound: NDArray[np.bool_]  # (S, P)
    iterations: int


@np.errstate(all="ignore")  # a wild trial point overflows, gives NaN and is rejected
def solve_damped(hessian: Array, gradient: Array) -> Array:
    """Solve H step = gradient for each fit with an LDL' whose pivots are kept positive.

    Vectorised over fits; the loops run over the parameters.
    """
    p = gradient.shape[1]
    a = np.ascontiguousarray(np.moveaxis(hessian, 0, -1))  # (P, P, S)
    b = np.array(gradient.T, order="C")  # (P, S), a copy even of a single fit
    scale = np.abs(a[np.arange(p), np.arange(p)])
    floor = 1e-14 * np.maximum(scale, 1e-300)
    pivots = np.empty_like(b)
    lower = np.zeros_like(a)
    for j in range(p):
        known = lower[j, :j] * pivots[:j]
        d = a[j, j] - np.sum(lower[j, :j] * known, axis=0)
        # A negative pivot is reflected, so the step still goes downhill.
        pivots[j] = np.where(np.abs(d) < floor[j], floor[j], np.abs(d))
        below = np.einsum("iks,ks->is", lower[j + 1 :, :j], known)
        lower[j + 1 :, j] = (a[j + 1 :, j] - below) / pivots[j]
    for i in range(p):
        b[i] -= np.sum(lower[i, :i] * b[:i], axis=0)
    b /= pivots
    for i in reversed(range(p)):
        b[i] -= np.sum(lower[i + 1 :, i] * b[i + 1 :], axis=0)
    return b.T


def minimize(
    problem: Problem,
    starts: Array,
    rows: NDArray[np.intp] | None = None,
    fixed: NDArray[np.bool_] | None = None,
    max_iterations: int = MAX_ITERATIONS,
    tolerance: float = 1e-10,
) -> Minimum:
    """Minimise from each row of `starts` (S, P), working coordinates.

    Args:
        rows: which version of weights and values each start belongs to; default 0..S-1.
        fixed: coordinates (P,) that must not move.
    """
    s, p = starts.shape
    rows = np.arange(s) if rows is None else np.asarray(rows)
    fixed = np.zeros(p, dtype=bool) if fixed is None else fixed
    low, high = problem.bounds()
    low, high = np.where(fixed, -np.inf, low), np.where(fixed, np.inf, high)
    theta = np.clip(starts, low, high)
    f, g, h = problem.derivatives(theta, rows)
    damping = np.full(s, 1e-3)
    converged = np.zeros(s, dtype=bool)
    held = np.zeros((s, p), dtype=bool)
    idle = np.zeros(s, dtype=int)
    active = np.arange(s)
    iterations = 0
    eye = np.eye(p, dtype=bool)
    logarithmic = np.array([parameter.positive for parameter in problem.law.parameters])
    while active.size and iterations < max_iterations:
        iterations += 1
        t, ga, ha = theta[active], g[active], h[active]
        stuck = ((t <= low) & (ga > 0)) | ((t >= high) & (ga < 0)) | fixed
        held[active] = stuck
        ga = np.where(stuck, 0.0, ga)
        diagonal = np.abs(np.einsum("spp->sp", ha))
        diagonal = np.maximum(diagonal, 1e-10 * diagonal.max(axis=1, keepdims=True) + 1e-300)
        matrix = ha + np.where(eye, (damping[active, None] * diagonal)[:, :, None], 0.0)
        both = stuck[:, :, None] | stuck[:, None, :]
        matrix = np.where(both, np.where(eye, diagonal[:, :, None], 0.0), matrix)
        step = -solve_damped(matrix, ga)
        # A coordinate that is no logarithm may be of any size: its step is measured by its own.
        unit = np.where(logarithmic, 1.0, np.maximum(1.0, np.abs(t)))
        long = np.maximum((np.abs(step) / unit).max(axis=1), 1e-300)
        step *= np.minimum(1.0, MAX_STEP / long)[:, None]
        if iterations == NEAR:
            problem = problem.anywhere()
        if iterations > STRAIGHT:
            # Follow the valley's bend (geodesic acceleration, Transtrum & Sethna 2012).
            bend = np.where(stuck, 0.0, problem.bend(t, rows[active], step))
            turn = -0.5 * solve_damped(matrix, bend)
            small = np.abs(turn).max(axis=1) <= MAX_TURN * np.abs(step).max(axis=1)
            step = np.where(small[:, None], step + turn, step)
        trial = np.clip(t + step, low, high)
        step = trial - t
        ft, gt, ht = problem.derivatives(trial, rows[active])
        old = f[active]
        size = np.abs(step).max(axis=1)
        gain = np.abs(np.einsum("sp,sp->s", ga, step))
        # Where the promised gain drowns in the objective's rounding, the gradient is the guide.
        drowned = gain <= ROUNDING * np.abs(old)
        better = (ft <= old) | (drowned & (ft <= old * (1 + ROUNDING)))
        accepted = active[better]
        theta[accepted], f[accepted] = trial[better], ft[better]
        g[accepted], h[accepted] = gt[better], ht[better]
        damping[active] = np.where(
            better, np.maximum(damping[active] * 0.1, 1e-14), np.maximum(damping[active] * 8, 1e-6)
        )
        idle[active] = np.where(drowned, idle[active] + 1, 0)
        # Finished: a tiny step, or a promised gain below rounding of the objective.
        done = (size < tolerance) | (gain <= 4e-16 * np.abs(old)) | (old == 0)
        done |= idle[active] >= PATIENCE
        lost = (damping[active] > 1e12) & ~done
        converged[active[done]] = True
        active = active[~(done | lost)]
    g_free = np.where(held, 0.0, g)
    return Minimum(theta, f, g_free, h, converged, held & ~fixed, iterations)
