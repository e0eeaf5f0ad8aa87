"""What a sweep will cost: sizes, steps, FLOPs, time and price, before a FLOP is spent."""

from __future__ import annotations

from rich.console import Console

from fmscale.commands.arguments import make_parser
from fmscale.commands.plan_tables import Speed, print_plan
from fmscale.config.compose import with_config_dir
from fmscale.config.jobs import expand
from fmscale.errors import ConfigError, config_errors_exit
from fmscale.launching.backend import Event, Task
from fmscale.launching.pool import Workers
from fmscale.launching.preflight import check_all
from fmscale.planning.sweep import Sweep

EXAMPLE = """\
examples:
  fmscale plan experiment=gpt_demo
  fmscale plan experiment=gpt_demo --price 2.50
  fmscale plan model=gpt/2x64,gpt/4x128 budget.tokens=[1e6,2e6] --no-measure
  fmscale plan experiment=gpt_demo limits.max_hours=1
  fmscale plan --config-dir my_conf experiment=my_preset
"""


def measure(sweep: Sweep) -> dict[str, Speed]:
    """Train a few steps of each size in worker processes, as a sweep would.

    Returns:
        Speed by `trunk_id`; jobs of the same shape and batch are measured once.
    """
    measured: dict[tuple[str, int], Speed] = {}
    representative = {(job.shape.label, job.units_per_step): job for job in sweep.jobs}
    keys = list(representative)
    backend, console = Workers(), Console()
    backend.open(sweep)

    def note(event: Event) -> list[Task]:
        if event.name == "failed":
            raise ConfigError(event.fields["reason"])
        if event.name == "done":
            measured[keys[event.task.jobs[0]]] = Speed(**event.fields["result"])
            status.update(f"measured {len(measured)} of {len(keys)} sizes")
        return []

    with backend:
        with console.status("checking the configuration"):
            check_all(list(representative.values()), backend)
        with console.status("measuring a few steps of each size") as status:
            jobs = enumerate(representative.values())
            tasks = [Task("speed", [job.config], jobs=(index,)) for index, job in jobs]
            backend.run(tasks, note)
    return {job.trunk_id: measured[job.shape.label, job.units_per_step] for job in sweep.jobs}


def main() -> None:
    """Entry point of `fmscale plan`."""
    parser = make_parser("plan", __doc__, EXAMPLE, store=False, composes=True)
    parser.add_argument("overrides", nargs="*", help="as for fmscale sweep")
    parser.add_argument("--price", type=float, metavar="DOLLARS", help="per hour of this machine")
    parser.add_argument(
        "--no-measure", action="store_true", help="skip the timed steps: no torch, no times"
    )
    options = parser.parse_intermixed_args()
    with config_errors_exit():
        sweep = Sweep(expand(with_config_dir(options.overrides, options.config_dir)))
        speeds = {} if options.no_measure else measure(sweep)
        print_plan(sweep, speeds, options.price)
