"""What a sweep will cost: sizes, steps, FLOPs, time and price, before a FLOP is spent."""

from __future__ import annotations

import argparse

from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from rich.console import Console

from fmscale.composition import Composer, add_config_dir, check_sizes, with_config_dir
from fmscale.job import Job
from fmscale.launching import register_launchers
from fmscale.launching.backend import Event, Task
from fmscale.launching.pool import Workers
from fmscale.launching.preflight import check_all
from fmscale.planner import merge
from fmscale.planning.sweep import Sweep
from fmscale.pricing import Speed, print_plan
from fmscale.settings import ConfigError, config_errors_exit
from fmscale.train import plan_job

EXAMPLE = """\
examples:
  fmscale plan experiment=gpt_demo
  fmscale plan experiment=gpt_demo --price 2.50
  fmscale plan model=gpt/2x64,gpt/4x128 budget.tokens=[1e6,2e6] --no-measure
  fmscale plan experiment=gpt_demo limits.max_hours=1
  fmscale plan --config-dir my_conf experiment=my_preset
"""


def expand(overrides: list[str]) -> list[Job]:
    """All jobs of a sweep, planned as the launcher would.

    Args:
        overrides: as on the command line of `fmscale sweep`.

    Raises:
        ConfigError: for a configuration that could not be trained.
    """
    register_launchers()
    check_sizes(overrides)
    try:
        with initialize_config_module("conf", version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            parser = OverridesParser.create(config_loader=loader)
            given = parser.parse_overrides(overrides)
            single = [o.input_line for o in given if not o.is_sweep_override() and o.input_line]
            base = compose("train", overrides=single, return_hydra_config=True)
            in_preset = [
                f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()
            ]
            grid = parser.parse_overrides([*in_preset, *overrides])
            (combinations,) = BasicSweeper.split_arguments(grid, max_batch_size=None)
            composed = Composer(loader, lambda own: compose("train", overrides=own))
            return merge([plan_job(composed(c)) for c in combinations])
    except HydraException as error:
        raise ConfigError(str(error)) from error
    except ConfigError:
        raise
    except ValueError as error:  # how Hydra refuses `group=null` within a sweep
        raise ConfigError(f"{error} ({' '.join(overrides)})") from error


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
    parser = argparse.ArgumentParser(
        prog="fmscale plan",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", help="as for fmscale sweep")
    add_config_dir(parser)
    parser.add_argument("--price", type=float, metavar="DOLLARS", help="per hour of this machine")
    parser.add_argument(
        "--no-measure", action="store_true", help="skip the timed steps: no torch, no times"
    )
    options = parser.parse_intermixed_args()
    with config_errors_exit():
        sweep = Sweep(expand(with_config_dir(options.overrides, options.config_dir)))
        speeds = {} if options.no_measure else measure(sweep)
        print_plan(sweep, speeds, options.price)


if __name__ == "__main__":
    main()
