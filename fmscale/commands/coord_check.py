"""Do the first steps move activations alike at every width? They do under muP, and only there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from fmscale.commands.arguments import make_parser
from fmscale.config.compose import with_config_dir
from fmscale.config.jobs import expand
from fmscale.errors import ConfigError, config_errors_exit
from fmscale.planning.job import Job
from fmscale.sizing import GPTShape

if TYPE_CHECKING:
    from fmscale.training.coordinate_check import Movement

MIN_WIDTHS = 4
FLAT = 2.0  # largest over smallest movement across widths
EXAMPLE = """\
examples:
  fmscale coord-check
  fmscale coord-check model=modern/2x64 --widths 64,128,256,512 --out coordinates.png
  fmscale coord-check optimizer.lr=4e-3 --steps 10 --seeds 3
"""


def jobs_of(overrides: Sequence[str], widths: Sequence[int], mup: bool) -> list[Job]:
    """The same GPT at each width, with heads as wide as the chosen model's.

    Raises:
        ConfigError: for a model that is no GPT, too few widths, or one that heads do not divide.
    """
    if len(set(widths)) < MIN_WIDTHS:
        raise ConfigError(f"--widths {','.join(map(str, widths))}: give at least {MIN_WIDTHS}")
    fixed = ["+budget.tokens=1e6", "budget.max_epochs=1e9", "logger=none", "optimizer.lr=1e-3",
             "batch_size=4"]  # fmt: skip
    given = [*_unless_given(fixed, overrides), *overrides]
    (job,) = expand(given)
    if not isinstance(job.shape, GPTShape):
        raise ConfigError(f"coord-check takes a GPT, not {job.shape.label}")
    d_head = job.shape.d_head
    jobs = []
    for width in sorted(set(widths)):
        if width % d_head:
            raise ConfigError(f"--widths {width}: heads of width {d_head} do not divide it")
        sizes = [f"model.shape.d_model={width}", f"model.shape.n_head={width // d_head}"]
        base = ["parametrization=mup", f"model.parametrization.base_width={min(widths)}",
                f"model.parametrization.base_d_head={d_head}"]  # fmt: skip
        jobs += expand([*given, *sizes, *(base if mup else [])])
    return jobs


def _unless_given(fixed: Sequence[str], overrides: Sequence[str]) -> list[str]:
    keys = {override.partition("=")[0].lstrip("+") for override in overrides}
    if any(key == "budget" or key.startswith("budget.") for key in keys):
        keys.add("budget.tokens")  # another horizon is chosen; only --steps are trained
    return [f.lstrip("+") for f in fixed if f.partition("=")[0].lstrip("+") not in keys]


def table_of(movements: dict[str, list[Movement]]) -> Table:
    """One row a layer: change after the last step at each width, and the spread."""
    from fmscale.training.coordinate_check import spreads

    some = next(iter(movements.values()))
    widths, last = sorted({m.width for m in some}), max(m.step for m in some)
    table = Table(title=f"mean absolute change of activations after {last} steps",
                  title_justify="left")  # fmt: skip
    table.add_column("")
    table.add_column("block")
    for name in (*map(str, widths), "spread"):
        table.add_column(name, justify="right")
    for name, rows in movements.items():
        changes = {(m.layer, m.width): m.change for m in rows if m.step == last}
        for layer, spread in spreads(rows).items():
            values = [f"{changes[layer, width]:.3g}" for width in widths]
            table.add_row(name, layer, *values, f"{spread:.2f}")
        table.add_section()
    return table


def draw(movements: dict[str, list[Movement]], path: Path) -> None:
    """Change against width, one panel a parametrization, one line a layer."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(movements), figsize=(4.6 * len(movements), 3.8), sharey=True,
                                squeeze=False, layout="constrained")  # fmt: skip
    ax: Any
    for ax, (name, rows) in zip(axes[0], movements.items(), strict=True):
        last = max(m.step for m in rows)
        for layer in dict.fromkeys(m.layer for m in rows):
            points = sorted((m.width, m.change) for m in rows if m.layer == layer
                            and m.step == last)  # fmt: skip
            ax.plot(
                *zip(*points, strict=True),
                "o-",
                ms=4,
                label=layer if layer == "logits" else f"block {layer}",
            )
        widths = sorted({m.width for m in rows})
        ax.set(xscale="log", yscale="log", title=name, xlabel="width d_model")
        ax.set_xticks(widths, [str(width) for width in widths])
        ax.minorticks_off()
    axes[0][0].set_ylabel(f"mean |change| of activations\nafter {last} steps")
    axes[0][-1].legend(fontsize=7, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Entry point of `fmscale coord-check`."""
    parser = make_parser("coord-check", __doc__, EXAMPLE, store=False, composes=True)
    parser.add_argument("overrides", nargs="*", help="as for fmscale train")
    parser.add_argument("--widths", default="32,64,128,256", help="at least 4; default %(default)s")
    parser.add_argument("--steps", type=int, default=5, help="optimizer steps; default 5")
    parser.add_argument("--seeds", type=int, default=4, help="averaged over; default 4")
    parser.add_argument("--out", type=Path, help="write the figure here, too")
    options = parser.parse_intermixed_args()
    with config_errors_exit():
        try:
            widths = [int(width) for width in options.widths.split(",")]
        except ValueError as error:
            raise ConfigError(f"--widths {options.widths}: give whole numbers") from error
        if options.steps < 1 or options.seeds < 1:
            raise ConfigError("--steps and --seeds must be at least 1")
        overrides = with_config_dir(options.overrides, options.config_dir)
        arms = {name: jobs_of(overrides, widths, mup=name == "mup")
                for name in ("standard", "mup")}  # fmt: skip
        from fmscale.training.coordinate_check import measure, spreads

        console = Console()
        movements: dict[str, list[Movement]] = {name: [] for name in arms}
        work = [(name, job) for name, jobs in arms.items() for job in jobs]
        for name, job in track(work, "training each width", console=console, transient=True):
            movements[name] += measure(job, options.steps, range(1, options.seeds + 1))
    console.print(table_of(movements))
    for name, rows in movements.items():
        worst = max(spreads(rows).values())
        verdict = "flat" if worst <= FLAT else "not flat"
        console.print(f"{name}: {verdict}, activations move within a factor of {worst:.2f} "
                      f"over the widths (flat: at most {FLAT:g})", highlight=False)  # fmt: skip
    if options.out:
        draw(movements, options.out)
        console.print(f"figure: {options.out}", highlight=False)
