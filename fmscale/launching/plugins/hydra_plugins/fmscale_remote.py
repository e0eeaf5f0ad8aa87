"""Hydra launchers `fmscale_joblib`, `fmscale_slurm`, `fmscale_ray`: jobs in other processes.

Options carry the names that Hydra's own plugins for joblib, submitit and Ray give them.
"""

# No `from __future__ import annotations`: see fmscale_local.

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

COMMON = ("n_threads", "on_error", "max_retries", "poll_seconds")


@dataclass
class CommonConf:
    """Options of every launcher here."""

    n_threads: int | None = None  # CPU threads of each job; None: 1 for small models, else all
    on_error: str = "continue"  # with the other jobs, or "stop" the sweep
    max_retries: int = 0  # of a failed trunk or run, from its last checkpoint
    poll_seconds: float = 2.0  # between two looks at the run store


@dataclass
class JoblibConf(CommonConf):
    """`launcher=joblib`."""

    _target_: str = "hydra_plugins.fmscale_remote.JoblibLauncher"
    n_jobs: int | None = None  # processes; None or -1: as many as cores / threads


@dataclass
class SlurmConf(CommonConf):
    """`launcher=slurm`: what `sbatch` is asked for, for each job."""

    _target_: str = "hydra_plugins.fmscale_remote.SlurmLauncher"
    submitit_folder: str = "${hydra.sweep.dir}/slurm"  # logs; shared between the machines
    lost_after_seconds: float = 60.0  # a job that left the queue without results counts as lost
    timeout_min: int = 60
    nodes: int = 1
    tasks_per_node: int = 1  # more than one task trains one run: trainer=ddp or trainer=fsdp
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    name: str = "fmscale"
    stderr_to_stdout: bool = False
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    comment: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    cpus_per_gpu: int | None = None
    gpus_per_task: int | None = None
    mem_per_gpu: str | None = None
    mem_per_cpu: str | None = None
    signal_delay_s: int = 120  # warning before the end, to save and to queue again
    max_num_timeout: int = 1000  # how often a job out of time is queued again
    array_parallelism: int = 256  # jobs at the same time
    setup: list[str] | None = None  # shell commands before the job, e.g. module load
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # others of sbatch


@dataclass
class RayPartConf:
    """Arguments of Ray itself."""

    # "auto" joins the cluster that runs here. Ray's own default would as well, and look for the
    # last one, if that has died, for minutes.
    init: dict[str, Any] = field(default_factory=lambda: {"address": "local"})
    remote: dict[str, Any] = field(default_factory=dict)


@dataclass
class RayConf(CommonConf):
    """`launcher=ray`."""

    _target_: str = "hydra_plugins.fmscale_remote.RayLauncher"
    ray: RayPartConf = field(default_factory=RayPartConf)


for name, node in (("joblib", JoblibConf), ("slurm", SlurmConf), ("ray", RayConf)):
    ConfigStore.instance().store(group="hydra/launcher", name=f"fmscale_{name}", node=node)


class RemoteLauncher(Launcher):
    """Composes every job first, then has a crew carry them out."""

    def __init__(self, **options: Any) -> None:
        plain = {k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v
                 for k, v in options.items()}  # fmt: skip
        self.common: dict[str, Any] = {name: plain.pop(name) for name in COMMON}
        self.own: dict[str, Any] = plain

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        from hydra_plugins.fmscale_local import set_up

        set_up(self, hydra_context, task_function, config)

    @abstractmethod
    def crew(self) -> Any:
        """Who carries out the jobs.

        Raises:
            ConfigError: if the package behind it is not installed.
        """

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Train all jobs.

        Raises:
            SystemExit: with code 1 after the sweep, if any run failed or was lost.
        """
        from hydra_plugins.fmscale_local import planned_jobs

        from fmscale.launching.remote import Options, run_remote_sweep
        from fmscale.settings import config_errors_exit

        with config_errors_exit():
            crew = self.crew()
            jobs, returns = planned_jobs(self, job_overrides)
            if run_remote_sweep(jobs, crew, Options(**self.common)):
                raise SystemExit(1)
        return returns


class JoblibLauncher(RemoteLauncher):
    """Worker processes of joblib on this machine."""

    def crew(self) -> Any:
        from fmscale.launching.joblib_crew import JoblibCrew

        return JoblibCrew(**self.own)


class SlurmLauncher(RemoteLauncher):
    """An array of Slurm jobs."""

    def crew(self) -> Any:
        from fmscale.launching.slurm_crew import SlurmCrew

        options = dict(self.own)
        folder = Path(options.pop("submitit_folder"))
        lost_after_seconds = options.pop("lost_after_seconds")
        return SlurmCrew(
            options, folder=folder, tickets=folder / "tickets.json",
            lost_after_seconds=lost_after_seconds,
        )  # fmt: skip


class RayLauncher(RemoteLauncher):
    """Tasks of Ray."""

    def crew(self) -> Any:
        from fmscale.launching.ray_crew import RayCrew

        return RayCrew(**self.own["ray"])


def register() -> None:
    """Tell Hydra, which looks for plugins only once in a process, of these launchers."""
    for launcher in (JoblibLauncher, SlurmLauncher, RayLauncher):
        Plugins.instance().register(launcher)
