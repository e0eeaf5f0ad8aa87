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
    unit = "tokens" if records[0].n_tokens is not None else "samples"
    measured = {name: own for record in records for name, own in record.units.items()}
    loss = f"loss ({measured.get('val_loss', 'nats')})"
    flops, params = "training FLOPs", "parameters, all"

    def line(title: str, x: str, y: str, x_label: str, y_label: str, log: bool = True) -> Panel:
        return Panel(title, "line", x, y, x_label, y_label, log, log)

    def scatter(title: str, x: str, y: str, x_label: str, y_label: str) -> Panel:
        return Panel(title, "scatter", x, y, x_label, y_label, log_x=True, log_y=True)

    training = [
        line(f"Training loss against {unit}", unit, "train/loss", unit, loss),
        line("Training loss against compute", "flops", "train/loss", flops, loss),
        line("Learning rate", unit, "lr", unit, "learning rate", log=False),
    ]
    scaling = [
        scatter("Validation loss against compute", "flops", "val_loss", flops, loss),
        scatter("Validation loss against size", "n_params_total", "val_loss", params, loss),
        scatter(f"Validation loss against {unit}", f"n_{unit}", "val_loss", unit, loss),
    ]
    if "zero_shot_error" in measured:
        error = "zero-shot error"
        scaling.append(
            scatter("Zero-shot error against compute", "flops", "zero_shot_error", flops, error)
        )
    rates = [scatter("Learning-rate sweep", "lr_peak", "val_loss", "peak learning rate", loss)]
    return (
        PanelSection("Scaling", tuple(scaling)),
        PanelSection("Training", tuple(training)),
        PanelSection("Learning rate", tuple(rates)),
    )
