"""Which fits a study gets: each metric against N, D and C, and the joint laws of N and D.

Every choice that other tools leave implicit is made here by name: against N the runs at one D,
against D the runs at one N, against C the Pareto front; the largest-compute runs are held out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.compare import log_errors
from analysis.diagnostics.identifiability import distinct
from analysis.diagnostics.lack_of_fit import LACK_OF_FIT
from analysis.diagnostics.scores import aicc
from analysis.fit import fit
from analysis.forecasting.decision import MOST_PLANNED, Outlook, look_ahead
from analysis.forecasting.proposals import Proposals
from analysis.laws import SumLaw, get_law, standard_laws
from analysis.optima.compute_optimal import compare_approaches, under_conventions
from analysis.result import FitResult
from analysis.sensitivity import sensitivity
from analysis.solver.global_fit import FitError
from analysis.tables.envelope import envelope
from analysis.tables.files import map_columns
from analysis.tables.filters import cross_section, final_runs, largest_compute, positive_values
from analysis.tables.points import Noise
from analysis.tables.repeats import measure_noise
from analysis.tables.table import D_COLUMNS, RunTable, TableError, data_column, metrics_of

PARAMETERS = "n_params_total"
COMPUTE = "flops"
CLEARLY = 10.0  # difference in AICc beyond which a law has no support (Burnham & Anderson 2004)
OPTIMAL_REFITS = 400  # enough for an interval of an exponent that 19 fits are made for
LARGE = 2000  # runs; a report of more leaves out what takes minutes, and says so
LARGE_REFITS = 100
EMBEDDING_SHARE = 0.2  # above it non-embedding and total counts tell different stories


@dataclass(frozen=True)
class Panel:
    """One figure: a metric against a letter, with every law that could be fitted."""

    metric: str
    against: str  # "N", "D", "C" or "joint"
    rule: str  # how its runs were chosen
    fits: tuple[FitResult, ...]  # joint laws: the one that is drawn first
    full: tuple[FitResult, ...]  # the same laws on all runs, nothing held out
    refused: tuple[tuple[str, str], ...]  # law, reason
    sizes: NDArray[np.float64]  # N of each point, for colour
    sensitivity: pd.DataFrame | None = None  # of the first law on all runs (joint panels)
    floor: float | None = None  # of the metric, where the data know it and all runs share it

    @property
    def answers(self) -> tuple[FitResult, ...]:
        """The laws of all runs, each with the error of the same law without the held-out runs."""
        pairs = zip(self.full, self.fits, strict=True)
        return tuple(whole.replace(held_out=check.held_out) for whole, check in pairs)

    @property
    def drawn(self) -> tuple[FitResult, ...]:
        """The answers, with the held-out runs marked for a figure."""
        marks = [one.data["held_out"] for one in self.fits]
        return tuple(
            one.replace(data={**one.data, "held_out": held})
            for one, held in zip(self.answers, marks, strict=True)
        )

    @property
    def letters(self) -> str:
        return "N and D" if self.against == "joint" else self.against

    @property
    def name(self) -> str:
        return f"{self.metric}_{'joint' if self.against == 'joint' else f'vs_{self.against}'}"


@dataclass(frozen=True)
class StudyReport:
    study: str
    family: str
    table: RunTable  # usable runs with columns N, D, C
    panels: tuple[Panel, ...]
    noise: dict[str, Noise | None]
    optimal: dict[str, Any]  # three approaches and the exponents under each convention
    notes: tuple[str, ...] = field(default=())
    outlook: Outlook | None = None  # what to train
    no_outlook: str = ""  # why it is not known

    @property
    def title(self) -> str:
        """The name for a figure, where what stands between two $ would be read as a formula."""
        return self.study.replace("$", r"\$")

    def others(self, panel: Panel) -> pd.DataFrame:
        """Runs that have a panel's metric and no part in its fits."""
        frame = self.table.frame
        fitted = frame["run_id"].astype(str).isin(panel.full[0].data["id"])
        return frame[~fitted & frame[panel.metric].notna()]

    @property
    def plan(self) -> Proposals | None:
        return self.outlook.plan if self.outlook else None

    @property
    def no_plan(self) -> str:
        """Why no run is proposed, where none is."""
        if self.outlook is None:
            return self.no_outlook
        return f"more than {MOST_PLANNED:,} runs: ask fmscale-analysis next"

    def cautions(self) -> list[str]:
        """What a reader must know after the answer, each once."""
        first = self.outlook.decision.cautions if self.outlook else ()
        return list(dict.fromkeys([*first, *self.table.warnings, *self.notes]))


def analyze_study(
    runs: RunTable,
    bootstrap: int = 2000,
    seed: int = 0,
    parameters: str = PARAMETERS,
    compute: str = COMPUTE,
    progress: Callable[[str], None] | None = None,
    curves: RunTable | None = None,
    metric: str | None = None,
    flops: float | None = None,
    laws: Sequence[str] = (),
) -> StudyReport:
    """All panels of one study.

    Args:
        curves: its training curves (load.load_curves), for approach 1.
        parameters, compute: the convention for N and C (columns of the record).
        progress: called with a line of text before each fit.
        metric: column (or formula of columns) that is drawn and forecast; default: the loss, and
            what else the family is known for.
        flops: compute to decide about; default: ten times the largest run.
        laws: fitted beside the standard ones of as many variables.
    """
    table = final_runs(runs)
    if len(table) == 0:
        raise TableError(f"{runs.source}: no completed run. {table.account()}")
    lacking = [name for name in ("study", "family") if name not in table.frame]
    if lacking:
        raise TableError(
            f"{runs.source} has no column {' and no '.join(lacking)}: a report is of study folders "
            "(runs/<study>); for a table of your own take fmscale-analysis fit, compare or isoflop"
        )
    families = sorted(set(table.frame["family"].astype(str)))
    data = data_column(table)
    if len(families) != 1 or data is None:
        raise TableError(
            f"{runs.source}: families {families}; one study is of one family, whose losses can be "
            f"compared, with a column {' or '.join(D_COLUMNS)}"
        )
    family = families[0]
    table = map_columns(table, {"N": parameters, "D": data, "C": compute})
    table = positive_values(table, ["N", "D", "C"], None)
    notes = _notes(table)
    if len(table) > LARGE:
        bootstrap = min(bootstrap, LARGE_REFITS)
        notes.append(
            f"more than {LARGE:,} runs: intervals rest on {bootstrap} refits; the law kaplan, the "
            "sensitivity to choices and the other ways to count are left to fmscale-analysis fit"
        )
    panels: list[Panel] = []
    noise: dict[str, Noise | None] = {}
    if metric is not None:
        table = map_columns(table, {"metric": metric})
    measures = metrics_of(table)
    wanted = measures if metric is None else (metric,)
    for metric in wanted:
        if metric not in table.frame or table.frame[metric].notna().sum() == 0:
            notes.append(f"no run has {metric}: it is not fitted")
            continue
        usable = positive_values(table, [], metric)
        noise[metric] = measure_noise(usable, metric, log=True, letters=("N", "D"))
        for against in ("N", "D", "C", "joint"):
            chosen, rule = choose_runs(usable, against, metric)
            panels.append(_panel(chosen, rule, metric, against, bootstrap, seed, progress, laws))
    notes += [
        f"{panel.name}, law {one.law}: {warning}"
        for panel in panels
        for one in panel.full
        for warning in one.warnings
        if warning.startswith(LACK_OF_FIT)
    ]
    study = str(table.frame["study"].iloc[0])
    if progress:
        progress("compute-optimal training, three ways")
    if curves is not None:
        curves = map_columns(curves, {"N": parameters, "D": "n_seen", "C": compute})
    refits = min(bootstrap, OPTIMAL_REFITS)
    optimal = compute_optimal(table, measures[0], data, refits, seed, curves)
    outlook, no_outlook = None, ""
    try:
        outlook = look_ahead(table, wanted[0], flops)
    except (FitError, TableError) as reason:
        no_outlook = f"not determined: {reason}"
    return StudyReport(
        study, family, table, tuple(panels), noise, optimal, tuple(notes), outlook, no_outlook
    )


def compute_optimal(
    table: RunTable, loss: str, data: str, bootstrap: int, seed: int, curves: RunTable | None = None
) -> dict[str, Any]:
    """N*(C) and D*(C) of the validation loss, three ways and under each convention."""
    if loss not in table.frame or table.frame[loss].notna().sum() < 3:
        return {"refused": f"too few runs have {loss}"}
    usable = positive_values(table, [], loss)
    try:
        found = compare_approaches(usable, loss, "pareto", bootstrap, seed, curves)
        if len(usable) > LARGE:
            return {**found, "conventions": []}
        found["conventions"] = under_conventions(usable, loss, data, bootstrap, seed)
    except (FitError, TableError) as reason:
        return {"refused": str(reason)}
    return found


def choose_runs(table: RunTable, against: str, metric: str) -> tuple[RunTable, str]:
    """Runs for a panel and the rule that chose them."""
    if against == "N":
        chosen = cross_section(table, vary="N", hold="D")
        return chosen, f"runs at one D = {float(np.max(chosen.numbers('D'))):.4g}"
    if against == "D":
        chosen = cross_section(table, vary="D", hold="N")
        return chosen, f"runs at one N = {float(np.max(chosen.numbers('N'))):.4g}"
    if against == "C":
        return envelope(table, "pareto", x="C", metric=metric), "Pareto front of all runs in C"
    return table, "all runs"


def _panel(
    chosen: RunTable,
    rule: str,
    metric: str,
    against: str,
    bootstrap: int,
    seed: int,
    progress: Callable[[str], None] | None,
    extra: Sequence[str],
) -> Panel:
    joint = against == "joint"
    large = len(chosen) > LARGE
    letters = ("N", "D") if joint else ("x",)
    laws = [*standard_laws(*letters), *(n for n in extra if get_law(n).columns == letters)]
    if joint and large:  # sums of powers are fitted fast
        laws = [name for name in laws if isinstance(get_law(name), SumLaw)]
    columns = {} if joint else {"x": against}
    held = largest_compute(chosen, "C") if joint else _last(chosen, against)
    good, full, refused = [], [], []
    for law in dict.fromkeys(laws):
        if progress:
            progress(f"{metric} against {against}: {law}")
        common: dict[str, Any] = {
            "metric": metric, "columns": columns, "bounds": _bounds(chosen, metric),
            "bootstrap": bootstrap, "seed": seed,
        }  # fmt: skip
        try:
            full_fit = fit(law, chosen, **common)
        except (FitError, TableError) as reason:
            refused.append((law, str(reason)))
            continue
        full.append(full_fit)
        try:
            good.append(fit(law, chosen, hold_out=held, **common))
        except (FitError, TableError) as reason:
            refused.append((f"{law} below the held-out runs", str(reason)))
            good.append(full_fit)
    if joint:
        best = _most_likely(full)
        good, full = ([*some[best:], *some[:best]] for some in (good, full))
    choices = sensitivity(full[0]) if joint and full and not large else None
    sizes = chosen.numbers("N")
    return Panel(
        metric, against, rule, tuple(good), tuple(full), tuple(refused), sizes, choices,
        floor_of(chosen, metric),
    )  # fmt: skip


def _bounds(table: RunTable, metric: str) -> tuple[float, float] | None:
    """A fraction lies between 0 and 1; the records say which metrics are fractions."""
    stated = {cell.get(metric) for cell in table.frame.get("units", ()) if isinstance(cell, dict)}
    return (0.0, 1.0) if stated == {"fraction"} else None


def _most_likely(fits: Sequence[FitResult]) -> int:
    """The first law that no other beats clearly, by AICc on all runs."""
    scores = [aicc(log_errors(one), len(one.parameters)) for one in fits]
    known = [score for score in scores if score is not None]
    if len(known) < len(fits) or not known:
        return 0
    return next(i for i, score in enumerate(known) if score < min(known) + CLEARLY)


def _last(table: RunTable, letter: str) -> NDArray[np.bool_]:
    """The runs at the largest value of a letter, all seeds of it; none when too few remain."""
    values = table.numbers(letter)
    mask = values >= float(np.max(values)) / 1.02
    return mask if distinct(values[~mask]) >= 2 else np.zeros(len(table), dtype=bool)


def floor_of(table: RunTable, metric: str) -> float | None:
    """The lowest expected value of a metric that the data allow, where all runs have the same."""
    column = f"{metric}_floor"
    if column not in table.frame or table.frame[column].isna().any():
        return None
    values = table.numbers(column)
    return float(values[0]) if np.ptp(values) <= 1e-6 * abs(values[0]) else None


def _notes(table: RunTable) -> list[str]:
    """What a reader must know about the conventions of this study."""
    notes = []
    frame = table.frame
    if "n_params_non_embedding" in frame and "n_params_total" in frame:
        share = 1 - table.numbers("n_params_non_embedding") / table.numbers("n_params_total")
        if np.nanmax(share) > EMBEDDING_SHARE:
            notes.append(
                f"embeddings hold up to {np.nanmax(share):.0%} of the parameters (smallest size): "
                "exponents of N depend on whether they are counted"
            )
    if "flops_formula" in frame:
        texts = sorted(set(frame["flops_formula"].dropna().astype(str)))
        notes.append(f"C: {'; '.join(texts)}" if texts else "C: formula not stated")
    notes.append(f"N = {table.conventions['N']}, D = {table.conventions['D']}")
    return notes
