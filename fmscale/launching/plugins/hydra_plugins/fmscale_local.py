"""Hydra launcher `fmscale_local`: hands a sweep's jobs to warm worker processes."""

# No `from __future__ import annotations`: Hydra executes this module before it is in sys.modules,
# where dataclasses would look the annotations up.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class LocalLauncherConf:
    """Options of the launcher, e.g. `hydra.launcher.n_workers=4`."""

    _target_: str = "hydra_plugins.fmscale_local.LocalLauncher"
    n_workers: int | None = None  # processes; None: as many as cores / threads
    n_threads: int | None = None  # CPU threads of each; None: 1 for small models, else all
    on_error: str = "continue"  # with the other runs, or "stop" the sweep
    max_retries: int = 0  # of a failed task, from its last checkpoint
    max_halvings: int = 0  # of the micro-batch of a task that ran out of memory
    pack: int = 1  # small runs that differ in seed and learning rate, computed at once


ConfigStore.instance().store(group="hydra/launcher", name="fmscale_local", node=LocalLauncherConf)


class LocalLauncher(Launcher):
    """Composes every job first, then trains them in worker processes."""

    def __init__(
        self,
        n_workers: int | None = None,
        n_threads: int | None = None,
        on_error: str = "continue",
        max_retries: int = 0,
        max_halvings: int = 0,
        pack: int = 1,
    ) -> None:
        self.options: dict[str, Any] = {
            "n_workers": n_workers, "n_threads": n_threads,
            "on_error": on_error, "max_retries": max_retries, "max_halvings": max_halvings,
            "pack": pack,
        }  # fmt: skip

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        set_up(self, hydra_context, task_function, config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Train all jobs.

        Raises:
            SystemExit: with code 1 after the sweep, if any run failed.
        """
        from fmscale.launching.sweep import run_sweep
        from fmscale.settings import config_errors_exit

        with config_errors_exit():
            jobs, returns = planned_jobs(self, job_overrides)
            if run_sweep(jobs, **self.options):
                raise SystemExit(1)
        return returns


def set_up(
    launcher: Any, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
) -> None:
    """Keep what Hydra gives a launcher, before its sweeper writes into the store for the first
    time: should that not be possible, say so in a sentence.
    """
    from fmscale.launching.sweep import check_store
    from fmscale.settings import config_errors_exit

    with config_errors_exit():
        check_store(config.paths.runs_dir, str(config.study))
    launcher.hydra_context = hydra_context
    launcher.task_function = task_function
    launcher.config = config


def planned_jobs(
    launcher: Any, job_overrides: Sequence[Sequence[str]]
) -> tuple[list[Any], list[JobReturn]]:
    """Compose and plan every job of a launcher that has been set up.

    Returns:
        The jobs, and what Hydra wants to hear of each once all are done.

    Raises:
        ConfigError: for a configuration that could not be trained.
    """
    from fmscale.composition import Composer
    from fmscale.settings import ConfigError
    from fmscale.train import plan_job
    from fmscale.world import World

    if World.here().size > 1:
        raise ConfigError(
            "each of several processes would start this whole sweep; start it once, without "
            "torchrun or srun, with launcher=slurm hydra.launcher.tasks_per_node=N for jobs of N "
            "processes, or train run by run: torchrun ... -m fmscale.train"
        )
    jobs, returns = [], []
    loader = launcher.hydra_context.config_loader
    composed = Composer(loader, lambda own: loader.load_sweep_config(launcher.config, own))
    for overrides in job_overrides:
        config = composed(overrides)
        jobs.append(plan_job(config))
        done: Any = JobReturn(overrides=list(filter_overrides(overrides)), cfg=config)
        done.status = JobStatus.COMPLETED
        done.return_value = [branch.run_id for branch in jobs[-1].branches]
        returns.append(done)
    return jobs, returns


def register() -> None:
    """Tell Hydra, which looks for plugins only once in a process, of this launcher."""
    Plugins.instance().register(LocalLauncher)
