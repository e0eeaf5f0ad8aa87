"""What is worth looking at in a study: panels in plain terms, whatever draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fmscale.runs.record import RunRecord


@dataclass(frozen=True)
class Panel:
    """One plot.

    A line follows logged rows of a run; a scatter has one point a run, its final value.
    """

    title: str
    kind: Literal["line", "scatter"]
    x: str  # logged key or record column
    y: str
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class PanelSection:
    """Panels under one heading."""

    name: str
    panels: tuple[Panel, ...]


def study_sections(records: Sequence[RunRecord]) -> tuple[PanelSection, ...]:
    """Sections of a study: of keys that its runs have."""
    first = records[0]
    unit, axis = first.unit or first.counted, first.counted
    main, *others = first.family_metrics or ("val_loss", "zero_shot_error")
    measured = {name: own for record in records for name, own in record.units.items()}
    loss = f"loss ({measured.get(main, 'nats')})"
    flops, params = "training FLOPs", "parameters, all"

    def line(title: str, x: str, y: str, x_label: str, y_label: str, log: bool = True) -> Panel:
        return Panel(title, "line", x, y, x_label, y_label, log, log)

    def scatter(title: str, x: str, y: str, x_label: str, y_label: str) -> Panel:
        return Panel(title, "scatter", x, y, x_label, y_label, log_x=True, log_y=True)

    training = [
        line(f"Training loss against {unit}", axis, "train/loss", unit, loss),
        line("Training loss against compute", "flops", "train/loss", flops, loss),
        line("Learning rate", axis, "lr", unit, "learning rate", log=False),
    ]
    scaling = [
        scatter("Validation loss against compute", "flops", main, flops, loss),
        scatter("Validation loss against size", "n_params_total", main, params, loss),
        scatter(f"Validation loss against {unit}", f"n_{axis}", main, unit, loss),
    ]
    for metric in (name for name in others if name in measured):
        words = metric.replace("zero_shot", "zero-shot").replace("_", " ")
        title = f"{words.capitalize()} against compute"
        scaling.append(scatter(title, "flops", metric, flops, words))
    rates = [scatter("Learning-rate sweep", "lr_peak", main, "peak learning rate", loss)]
    return (
        PanelSection("Scaling", tuple(scaling)),
        PanelSection("Training", tuple(training)),
        PanelSection("Learning rate", tuple(rates)),
    )
