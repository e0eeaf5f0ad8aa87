"""The result of a fit: frozen, printable, able to predict, and unchanged when saved and loaded."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from analysis.laws import LAWS, Law, get_law
from analysis.laws.constraints import constrain
from analysis.laws.law import Array
from analysis.outputs import write_text
from analysis.solver.global_fit import Certificate
from analysis.tables.points import Noise
from analysis.tables.table import C_COLUMNS, D_COLUMNS, N_COLUMNS, Dropped
from analysis.uncertainty.bootstrap import percentiles
from analysis.uncertainty.profile_likelihood import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA = 1
SYMBOLS = {"err": "error", "acc": "accuracy", "recall": "recall"}  # instead of L, by column name
STORED_DRAWS = 1000  # draws written to disk: enough for a 95 % band, a tenth of the file


@dataclass(frozen=True)
class FitResult:
    """A fitted law. Numbers are in the units of the columns named in `columns`."""

    law: str
    breaks: int  # only for broken_power
    parameters: dict[str, float]
    fixed: tuple[str, ...]
    intervals: dict[str, Interval]  # None is an open (or unknown) end
    standard_errors: dict[str, float | None]
    level: float
    interval_method: str
    objective: float
    objective_name: str
    objective_delta: float | None
    objective_text: str
    n_points: int
    n_clusters: int
    metric: str
    columns: dict[str, str]  # letter of the law -> source column or rule
    conventions: dict[str, str]
    source: str
    dropped: tuple[Dropped, ...] = field(repr=False)
    certificate: Certificate
    warnings: tuple[str, ...]
    noise: Noise | None  # measured from repeats
    residual_sd: float | None
    residual_log: bool  # residuals, and new-run noise, are logarithmic
    bounds: tuple[float, float] | None  # of the metric
    samples: dict[str, Array] = field(repr=False)  # parameter -> (S,) refits
    widened: float | None  # two-sided level whose percentiles cover `level`; None: no correction
    data: dict[str, list[Any]] = field(repr=False)
    alternatives: dict[str, dict[str, list[float]]] = field(repr=False)  # other N and C
    seed: int
    held_out: dict[str, Any] | None
    versions: dict[str, str]
    limits: dict[str, tuple[float, float]] = field(default_factory=dict)  # of parameters
    tie: dict[str, str] = field(default_factory=dict)  # parameters that equal another
    notes: tuple[str, ...] = ()  # true of most fits: for the card, not for the screen
    law_class: str | None = None  # MODULE:CLASS of a law of one's own
    cluster: str | None = None  # columns that say which points travel together
    # Draws points, law and band on axes: `analysis.plot.plot_fit`, which is built on this class.
    plot: ClassVar[Callable[..., Axes]]

    def replace(self, **changes: Any) -> FitResult:
        return dataclasses.replace(self, **changes)

    @property
    def plain(self) -> Law:
        """The law without bounds and ties of one's own."""
        known = self.law_class is None or self.law in LAWS
        return get_law(self.law if known else str(self.law_class), max(self.breaks, 1))

    @property
    def model(self) -> Law:
        return constrain(self.plain, self.limits, self.tie)

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest fitted value of each column."""
        fitted = self.fitted()
        return {c: (float(fitted[c].min()), float(fitted[c].max())) for c in self.model.columns}

    def fitted(self) -> pd.DataFrame:
        """The stored points but those held out: id, the law's columns, y, and C, error if known."""
        frame = pd.DataFrame({k: v for k, v in self.data.items() if k != "cluster"})
        return frame[~frame.pop("held_out").astype(bool)].reset_index(drop=True)

    def other_conventions(self) -> list[tuple[str, str, Array]]:
        """Letter, column and values of the fitted points under other counting conventions."""
        used = ~np.array(self.data["held_out"], dtype=bool)
        return [
            (letter, name, np.array(values, dtype=float)[used])
            for letter, columns in self.alternatives.items()
            for name, values in columns.items()
        ]

    def predict(
        self, x: Mapping[str, Any] | pd.DataFrame, level: float | None = None
    ) -> pd.DataFrame:
        """Predictions for rows of columns, with a band for the mean and one for a new run.

        Returns:
            Columns mean, low, high, low_new, high_new; NaN ends where no interval is known.
        """
        law = self.model
        columns = {c: np.atleast_1d(np.asarray(x[c], dtype=float)) for c in law.columns}
        mean = law.predict(columns, self.parameters)
        draws = None
        if self.samples:
            p = {k: v[:, None] for k, v in self.samples.items()}
            with np.errstate(over="ignore"):
                draws = np.asarray(law.value(p, columns), dtype=float)
        return self.banded(mean, draws, self.effective_level(level), self.seed)

    def banded(
        self, mean: Array, draws: Array | None, level: float, seed: int | np.random.Generator
    ) -> pd.DataFrame:
        """Predictions (n,) with the bands of their draws (S, n); NaN ends without draws."""
        ends = [np.full(len(mean), np.nan)] * 4
        if draws is not None:
            sigma, bands = self.new_run_sd(), [np.broadcast_to(draws, (len(draws), len(mean)))]
            if sigma is not None:
                scatter = sigma * np.random.default_rng(seed).standard_normal(bands[0].shape)
                bands.append(draws * np.exp(scatter) if self.residual_log else draws + scatter)
            for k, values in enumerate(bands):
                low, high = percentiles(values, level)
                ends[2 * k : 2 * k + 2] = [np.minimum(low, mean), np.maximum(high, mean)]
        out = np.column_stack([mean, *ends])
        if self.metric_range is not None:
            out = np.clip(out, *self.metric_range)
        return pd.DataFrame(out, columns=["mean", "low", "high", "low_new", "high_new"])

    @property
    def metric_range(self) -> tuple[float, float] | None:
        """Where the metric lies: as the user said, and a share that a link predicts in [0, 1]."""
        shares = self.model.columns == ("L",) and bool(self.fitted()["y"].between(0, 1).all())
        return self.bounds or ((0.0, 1.0) if shares else None)

    def new_run_sd(self) -> float | None:
        """Scatter of one more run: the residuals', or the seed noise when that is larger."""
        seed = self.noise.sigma if self.noise and self.noise.log == self.residual_log else None
        known = [v for v in (self.residual_sd, seed) if v is not None]
        return max(known) if known else None

    def effective_level(self, level: float | None = None) -> float:
        """Level whose percentiles of the draws cover `level`."""
        if level is None or level == self.level:
            return self.widened or self.level
        if self.widened is None:
            return level
        from scipy.stats import norm

        # The correction is a factor on the normal quantile; keep it for other levels.
        factor = norm.ppf(0.5 + self.widened / 2) / norm.ppf(0.5 + self.level / 2)
        return float(2 * norm.cdf(factor * norm.ppf(0.5 + level / 2)) - 1)

    def formula(self) -> str:
        """The law with its numbers; x is called N, D or C when that is what it is."""
        text = self.model.format(self.parameters)
        source = self.columns.get("x")
        known = {"N": N_COLUMNS, "D": D_COLUMNS, "C": C_COLUMNS, "S": ()}
        for letter, columns in known.items():
            if source is not None and source in (letter, self.conventions.get(letter), *columns):
                text = re.sub(r"\bx\b", letter, text)
        return text.replace(f"{self.model.target} =", f"{self._symbol()} =", 1)

    def _symbol(self) -> str:
        """What stands left of the equals sign: a known kind of metric, or the user's formula."""
        name = self.metric_name
        if re.search(r"[-+*/]", name):
            return f"({name})"
        known = next((s for piece, s in SYMBOLS.items() if piece in name.lower()), None)
        is_loss = re.search("loss|metric|nll|bpb|bits|entropy|nats|^[ly]$", name.lower())
        return known or (self.model.target if is_loss else name)

    @property
    def metric_name(self) -> str:
        """Source column of what is predicted."""
        return self.conventions.get(self.metric, self.metric)

    def summary(self) -> str:
        """A page for people: formula, table of parameters, evidence, what was dropped."""
        inputs = ", ".join(k if k == v else f"{k} = {v}" for k, v in self.columns.items())
        lines = [f"{self.law}: {self.formula()}", f"  {self.metric_name} against {inputs}"]
        for name, value in self.parameters.items():
            lines.append(f"  {name:>8} = {value:.6g}  {self.interval_text(name)}")
        lines.append(f"  objective {self.objective:.12g} ({self.objective_text})")
        some = any(map(any, self.intervals.values()))
        kind = f"{self.level:.0%} if this law is true, " if some else ""
        lines.append(f"  {self.points_text()}; intervals: {kind}{self.interval_method}")
        lines.append(f"  certificate: {self.certificate.describe()}")
        if self.held_out:
            error = self.held_out["mean_absolute_relative_error"]
            text = "" if error is None else f", mean error {error:.2%}"
            lines.append(f"  held out: {self.held_out['n']} runs{text}")
        lines += [f"  {d}" for d in self.dropped]
        lines += [f"  warning: {w}" for w in self.warnings]
        return "\n".join(lines)

    def points_text(self) -> str:
        """How many points were fitted, and what they are part of."""
        if self.cluster is None:
            return f"{self.n_points} points"
        return f"{self.n_points} points in {self.n_clusters} clusters (by {self.cluster})"

    def interval_text(self, name: str) -> str:
        if name in self.fixed:
            return "(fixed)"
        low, high = self.intervals[name]
        if low is None and high is None:
            return "[no interval]"
        left, right = ("open" if end is None else f"{end:.4g}" for end in (low, high))
        return f"[{left}, {right}]"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, at full precision; at most STORED_DRAWS draws."""
        return {
            "schema": SCHEMA,
            "formula": self.formula(),
            "ranges": {k: list(v) for k, v in self.ranges().items()},
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)},
            **{k: list(getattr(self, k)) for k in ("fixed", "warnings", "notes")},
            **{
                k: {n: list(v) for n, v in getattr(self, k).items()}
                for k in ("intervals", "limits")
            },
            "bounds": list(self.bounds) if self.bounds else None,
            "dropped": [d.to_dict() for d in self.dropped],
            "certificate": self.certificate.to_dict(),
            "noise": dataclasses.asdict(self.noise) if self.noise else None,
            "samples": {k: v[:STORED_DRAWS].tolist() for k, v in self.samples.items()},
        }

    @staticmethod
    def from_dict(d: Mapping[str, Any]) -> FitResult:
        if d.get("schema") != SCHEMA:
            raise ValueError(f"fit file schema {d.get('schema')!r}: this version reads {SCHEMA}")
        names = {f.name for f in dataclasses.fields(FitResult)}
        values = {k: v for k, v in d.items() if k in names}
        values["fixed"] = tuple(d["fixed"])
        values["intervals"] = {k: (v[0], v[1]) for k, v in d["intervals"].items()}
        values["dropped"] = tuple(Dropped(x["reason"], tuple(x["rows"])) for x in d["dropped"])
        values["certificate"] = Certificate.from_dict(d["certificate"])
        values["warnings"] = tuple(d["warnings"])
        values["noise"] = Noise(**d["noise"]) if d["noise"] else None
        values["limits"] = {k: (v[0], v[1]) for k, v in d.get("limits", {}).items()}
        values["notes"] = tuple(d.get("notes", ()))
        values["bounds"] = tuple(d["bounds"]) if d["bounds"] else None
        values["samples"] = {k: np.array(v) for k, v in d["samples"].items()}
        return FitResult(**values)

    def save(self, path: str | Path) -> None:
        write_text(path, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")

    @staticmethod
    def load(path: str | Path) -> FitResult:
        try:
            return FitResult.from_dict(json.loads(Path(path).read_text()))
        except FileNotFoundError as error:
            raise ValueError(f"{path}: no such file") from error
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a fit written by this tool ({error!r})") from error
