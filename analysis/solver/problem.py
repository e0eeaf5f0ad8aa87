"""Objective, gradient and Hessian of many fits at once.

A problem holds one law, one table and S versions of its weights or values (bootstrap resamples,
starts, profile points). `SumProblem` uses that log-terms of a sum law are linear in the
parameters: the Hessian is exact and made of matrix products. `GeneralProblem` serves any other
law, with the Hessian by central differences of the exact gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array, Columns, Law, Rows
from analysis.laws.sums import SumLaw
from analysis.solver.objectives import Objective
from analysis.tables.points import Points

# Samples are processed in blocks of about this many residuals: the work arrays then stay in the
# second-level cache, which is worth a factor of three.
BLOCK = 32_768
CURVATURE_STEP = 1e-5
BEND_STEP = 1e-3  # of a step: for second differences along it
SMALL_TERM = 0.02  # of the lowest value: where a refit looks for a term that was zero


def all_rows(working: Array) -> Rows:
    return np.arange(len(working), dtype=np.intp)


@dataclass
class Problem(ABC):
    """S fits of one law: y, weights are (n,) shared or (S, n) one row per fit.

    `scale` (n,) divides residuals (standard errors of the points; 1 when unweighted).
    """

    law: Law
    x: Columns
    y: Array
    objective: Objective
    scale: Array
    weights: Array
    span: tuple[float, float] | None = None  # of the values given; redrawn ones keep its bounds

    def __post_init__(self) -> None:
        self.span = self.span or (float(np.min(self.y)), float(np.max(self.y)))
        self.log_y = np.log(self.y) if self.objective.log else self.y

    # working coordinates: what the optimiser moves in (see SumProblem)
    def to_working(self, theta: Array) -> Array:
        return theta.copy()

    def from_working(self, working: Array) -> Array:
        return working.copy()

    def natural(self, working: Array, fixed: NDArray[np.bool_]) -> dict[str, Array]:
        """Natural parameters, each (S,); a term held at its lower bound is exactly zero."""
        low, _ = self.bounds()
        out = self.law.decode(self.from_working(working))
        for j, p in enumerate(self.law.parameters):
            if p.positive and p.bounds[0] <= 0 and not fixed[j]:
                out[p.name] = np.where(working[:, j] <= low[j] + 1e-9, 0.0, out[p.name])
        return out

    def bounds(self) -> tuple[Array, Array]:
        y = self.y if self.y.ndim == 1 else self.y[0]
        return self.law.bounds(self.x, y)

    def lift(self, working: Array) -> Array:
        """Start of a refit (P,): off a bound where the objective is flat."""
        return working

    def near(self, working: Array) -> Problem:
        """The same problem for fits that begin at (and end near) `working` (P,)."""
        return self

    def anywhere(self) -> Problem:
        """The same problem without what holds near one place only."""
        return self

    def rows(self, array: Array, rows: Rows) -> Array:
        return array if array.ndim == 1 else array[rows]

    def value(self, working: Array, rows: Rows) -> Array:
        """Objective (S,) at working coordinates (S, P)."""
        out = np.empty(len(working))
        for block in self._blocks(len(working)):
            r, _ = self._residuals(working[block], rows[block])
            w = self.rows(self.weights, rows[block])
            out[block] = np.sum(self.objective.rho(r) * w, axis=1)
        return np.where(np.isfinite(out), out, np.inf)

    @abstractmethod
    def derivatives(self, working: Array, rows: Rows) -> tuple[Array, Array, Array]:
        """Objective (S,), gradient (S, P), Hessian (S, P, P)."""

    def residuals(self, working: Array) -> Array:
        """Residuals (S, n), divided by `scale`."""
        return self._residuals(working, all_rows(working))[0]

    @abstractmethod
    def residual_jacobian(self, working: Array) -> Array:
        """Derivatives of the residuals by working coordinates, (S, n, P)."""

    @abstractmethod
    def _residuals(self, working: Array, rows: Rows) -> tuple[Array, list[Array]]:
        """Residuals (S, n) and what else the law's terms gave on the way."""

    @abstractmethod
    def bend(self, working: Array, rows: Rows, step: Array) -> Array:
        """Gradient (S, P) of what the residuals bend by along `step` (S, P): J' psi' r''."""

    def _blocks(self, count: int) -> list[slice]:
        size = max(1, BLOCK // self.scale.size)
        return [slice(a, min(a + size, count)) for a in range(0, count, size)]


@dataclass
class SumProblem(Problem):
    """Sum laws. Working coordinates measure log columns from their mean, which makes amplitudes
    and exponents nearly uncorrelated; amplitudes become the terms' sizes at the centre.
    An amplitude named in `uncentred` keeps its meaning at x = 1: what is held fixed."""

    uncentred: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        assert isinstance(self.law, SumLaw)
        inputs = self.law.inputs(self.x)
        names = self.law.names
        p = len(names)
        self._terms: list[tuple[list[int], Array]] = []  # parameter indices, coefficients (n, m)
        self._shift = np.eye(p)  # working = shift @ theta
        n = self.scale.size
        for term in self.law.terms:
            index = [names.index(term.amplitude)]
            coefficients = [np.ones(n)]
            if term.column is not None and term.exponent is not None:
                log_column = np.log(inputs[term.column])
                # An amplitude shared by two columns could not be centred; none of ours is.
                moved = term.amplitude not in self.uncentred
                centre = float(np.mean(log_column)) if moved else 0.0
                index.append(names.index(term.exponent))
                coefficients.append(-(log_column - centre))
                self._shift[index[0], index[1]] = -centre
            self._terms.append((index, np.stack(coefficients, axis=1)))
        self._unshift = np.linalg.inv(self._shift)
        self._pairs = {
            (k, m): np.einsum("na,nb->nab", ck, cl).reshape(n, -1)
            for k, (_, ck) in enumerate(self._terms)
            for m, (_, cl) in enumerate(self._terms)
            if k <= m
        }

    def to_working(self, theta: Array) -> Array:
        return np.asarray(theta @ self._shift.T)

    def from_working(self, working: Array) -> Array:
        return np.asarray(working @ self._unshift.T)

    def bounds(self) -> tuple[Array, Array]:
        low, high = super().bounds()
        assert self.span is not None
        # A term this small is reported as zero (fit.py); the objective cannot feel it.
        near = np.log(1e-9 * self.span[0]), np.log(1e6 * self.span[1])
        at_one = -200.0, 700.0  # an amplitude at x = 1, far from the data
        assert isinstance(self.law, SumLaw)
        far = {t.amplitude for t in self.law.terms if t.column} & set(self.uncentred)
        for j, parameter in enumerate(self.law.parameters):
            if parameter.positive:
                a, b = parameter.bounds
                lowest, highest = at_one if parameter.name in far else near
                low[j] = np.log(a) if a > 0 else lowest
                high[j] = np.log(b) if np.isfinite(b) else highest
        return low, high

    def lift(self, working: Array) -> Array:
        low, _ = self.bounds()
        assert self.span is not None
        positive = np.array([p.positive for p in self.law.parameters])
        # A term of size zero has no slope in its logarithm: a refit that needs it must see it.
        small = np.log(SMALL_TERM * self.span[0])
        return np.where(positive & (working <= low) & (low < small), small, working)

    def log_terms(self, working: Array) -> list[Array]:
        return [working[:, index] @ coefficients.T for index, coefficients in self._terms]

    def _residuals(self, working: Array, rows: Rows) -> tuple[Array, list[Array]]:
        sizes = [np.exp(z) for z in self.log_terms(working)]  # K x (S, n)
        total = sizes[0].copy()
        for size in sizes[1:]:
            total += size
        if self.objective.log:
            for size in sizes:
                size /= total  # shares: d log total / d z_k
            np.log(total, out=total)
        total -= self.rows(self.log_y, rows)
        total /= self.scale
        return total, sizes

    def residual_jacobian(self, working: Array) -> Array:
        _, parts = self._residuals(working, all_rows(working))
        out = np.zeros((*parts[0].shape, working.shape[1]))
        for part, (index, coefficients) in zip(parts, self._terms, strict=True):
            for m, j in enumerate(index):
                out[..., j] += part * (coefficients[:, m] / self.scale)
        return out

    def bend(self, working: Array, rows: Rows, step: Array) -> Array:
        out = np.zeros_like(working)
        for block in self._blocks(len(working)):
            r, parts = self._residuals(working[block], rows[block])
            along = self.log_terms(step[block])
            bend = np.sum([part * a * a for part, a in zip(parts, along, strict=True)], axis=0)
            if self.objective.log:
                slope = np.sum([part * a for part, a in zip(parts, along, strict=True)], axis=0)
                bend = bend - slope * slope
            second = self.objective.derivatives(r)[1] * self.rows(self.weights, rows[block])
            bend *= second / self.scale**2
            for part, (index, coefficients) in zip(parts, self._terms, strict=True):
                out[block][:, index] += (bend * part) @ coefficients
        return out

    def derivatives(self, working: Array, rows: Rows) -> tuple[Array, Array, Array]:
        s, p = working.shape
        f, g, h = np.empty(s), np.zeros((s, p)), np.zeros((s, p, p))
        for block in self._blocks(s):
            w = self.rows(self.weights, rows[block])
            r, parts = self._residuals(working[block], rows[block])
            first, second = self.objective.derivatives(r)
            f[block] = np.sum(self.objective.rho(r) * w, axis=1)
            first *= w / self.scale
            second *= w / self.scale**2
            # H = sum second J J' + first d2r;  d2r = sum_k part_k c_k c_k' (- J J' in log space)
            outer = second - first if self.objective.log else second
            gb, hb = g[block], h[block]
            for k, (index, coefficients) in enumerate(self._terms):
                weighted = first * parts[k]
                gb[:, index] += weighted @ coefficients
                m = len(index)
                own = (weighted @ self._pairs[k, k]).reshape(-1, m, m)
                hb[:, np.array(index)[:, None], np.array(index)] += own
                outer_k = outer * parts[k]
                for other_k in range(k, len(self._terms)):
                    other = self._terms[other_k][0]
                    cross = (outer_k * parts[other_k]) @ self._pairs[k, other_k]
                    cross = cross.reshape(-1, m, len(other))
                    hb[:, np.array(index)[:, None], np.array(other)] += cross
                    if other_k != k:
                        hb[:, np.array(other)[:, None], np.array(index)] += cross.transpose(0, 2, 1)
        f = np.where(np.isfinite(f), f, np.inf)
        return f, g, h


@dataclass
class GeneralProblem(Problem):
    """Any law, through `Law.evaluate` and `Law.jacobian`.

    The law's own curvature is a difference of its slopes, which costs a pass for each parameter;
    thousands of refits of one start share the curvature (n, P, P) there. It only slows last steps.
    """

    curvature: Array | None = None

    def near(self, working: Array) -> Problem:
        columns = []
        for j in range(len(working)):
            step = np.zeros(len(working))
            step[j] = CURVATURE_STEP * max(1.0, abs(working[j]))
            ahead, behind = (self._slopes((working + s)[None])[1][0] for s in (step, -step))
            columns.append((ahead - behind) / (2 * step[j]))
        return replace(self, curvature=np.nan_to_num(np.stack(columns, axis=1)))

    def anywhere(self) -> Problem:
        return self if self.curvature is None else replace(self, curvature=None)

    def _residuals(self, working: Array, rows: Rows) -> tuple[Array, list[Array]]:
        with np.errstate(all="ignore"):  # a wild trial point gives inf and is rejected
            return self._values(working) - self.rows(self.log_y, rows) / self.scale, []

    def residual_jacobian(self, working: Array) -> Array:
        return self._slopes(working)[1]

    def bend(self, working: Array, rows: Rows, step: Array) -> Array:
        out = np.empty_like(working)
        for block in self._blocks(len(working)):
            at, ahead = working[block], BEND_STEP * step[block]
            value, jac = self._slopes(at)
            with np.errstate(all="ignore"):
                r = value - self.rows(self.log_y, rows[block]) / self.scale
                second = self.objective.derivatives(r)[1] * self.rows(self.weights, rows[block])
                bend = self._values(at + ahead) - 2 * value + self._values(at - ahead)
                out[block] = np.einsum("sn,snp->sp", bend * second, jac) / BEND_STEP**2
        return np.nan_to_num(out, posinf=0.0, neginf=0.0)

    def _values(self, working: Array) -> Array:
        """Law on the scale of its residuals (S, n)."""
        value = self.law.evaluate(working, self.x)
        if self.objective.log:
            value = np.log(np.where(value > 0, value, np.nan))
        return value / self.scale

    def _slopes(self, working: Array) -> tuple[Array, Array]:
        """Law on the scale of its residuals (S, n), and its derivatives (S, n, P)."""
        with np.errstate(all="ignore"):
            value, jac = self.law.jacobian(working, self.x)
            if self.objective.log:
                jac = jac / value[..., None]
                value = np.log(np.where(value > 0, value, np.nan))
            return value / self.scale, jac / self.scale[:, None]

    def derivatives(self, working: Array, rows: Rows) -> tuple[Array, Array, Array]:
        s, p = working.shape
        f, g, h = np.empty(s), np.empty((s, p)), np.empty((s, p, p))
        for block in self._blocks(s):
            at, which = working[block], rows[block]
            w = self.rows(self.weights, which)
            value, jac = self._slopes(at)
            with np.errstate(all="ignore"):
                r = value - self.rows(self.log_y, which) / self.scale
                first, second = self.objective.derivatives(r)
                first, second = first * w, second * w
                f[block] = np.sum(self.objective.rho(r) * w, axis=1)
                g[block] = np.einsum("sn,snp->sp", first, jac)
                # Exact in the objective, whose slope may jump within a narrow Huber; only the
                # law's own curvature is a difference, and that only slows the last steps.
                h[block] = np.swapaxes(jac * second[..., None], 1, 2) @ jac
                if self.curvature is not None:
                    flat = self.curvature.reshape(-1, p * p)
                    h[block] += (np.nan_to_num(first) @ flat).reshape(-1, p, p)
                    continue
                step = 1e-6 * np.maximum(1.0, np.abs(at))  # (B, P)
                for j in range(p):
                    moved = at.copy()
                    moved[:, j] += step[:, j]
                    bend = self._slopes(moved)[1] - jac
                    h[block, j] += np.einsum("sn,snp->sp", first, bend) / step[:, j : j + 1]
        h = np.nan_to_num(0.5 * (h + h.transpose(0, 2, 1)), posinf=0.0, neginf=0.0)
        return np.where(np.isfinite(f), f, np.inf), np.nan_to_num(g), h


def make_problem(
    law: Law, points: Points, objective: Objective, fixed: NDArray[np.bool_]
) -> Problem:
    """The fastest problem that can hold `law`: of these points, each divided by its error.

    Fixed and bounded parameters keep a coordinate of their own.
    """
    ones = scale = np.ones(len(points))
    if points.error is not None:
        scale = points.error / points.y if objective.log else points.error
    kind = SumProblem if isinstance(law, SumLaw) else GeneralProblem
    x = {c: points.x[c] for c in law.columns}
    problem = kind(law, x, points.y, objective, scale, ones)
    bounded = [p.positive and bool(np.isfinite(p.bounds).any()) for p in law.parameters]
    own = tuple(n for n, k in zip(law.names, fixed | np.array(bounded), strict=True) if k)
    return replace(problem, uncentred=own) if isinstance(problem, SumProblem) and own else problem
