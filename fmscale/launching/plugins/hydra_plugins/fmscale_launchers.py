"""Hydra launchers `fmscale_basic`, `_local`, `_joblib`, `_slurm` and `_ray`: one, by its backend.

Options of the last three carry the names that Hydra's own plugins for joblib, submitit and Ray give
them.
"""

# No `from __future__ import annotations`: Hydra executes this module before it is in sys.modules,
# where dataclasses would look the annotations up.

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

DRIVER = ("on_error", "max_retries", "max_halvings", "vmap")  # options of `driver.Options`


@dataclass
class CommonConf:
    """Options of every launcher here, e.g. `hydra.launcher.max_retries=2`."""

    _target_: str = "hydra_plugins.fmscale_launchers.SweepLauncher"
    n_threads: int | None = None  # CPU threads of each job; None: 1 for small models, else all
    on_error: str = "continue"  # with the other runs, or "stop" the sweep
    max_retries: int = 0  # of a failed task, from its last checkpoint
    max_halvings: int = 0  # of the micro-batch of a task that ran out of memory
    vmap: int = 1  # small runs that differ in seed and learning rate, computed at once by vmap


@dataclass
class BasicConf(CommonConf):
    """`launcher=basic`."""

    backend: str = "fmscale.launching.job_process.in_process"


@dataclass
class LocalConf(CommonConf):
    """`launcher=local`."""

    backend: str = "fmscale.launching.pool.Workers"
    n_workers: int | None = None  # processes; None: as many as cores / threads


@dataclass
class RemoteConf(CommonConf):
    """Where the run store says how far a task is."""

    poll_seconds: float = 2.0  # between two looks at it


@dataclass
class JoblibConf(RemoteConf):
    """`launcher=joblib`."""

    backend: str = "fmscale.launching.remote.joblib.Joblib"
    n_jobs: int | None = None  # processes; None or -1: as many as cores / threads


@dataclass
class SlurmConf(RemoteConf):
    """`launcher=slurm`: what `sbatch` is asked for, for each job."""

    backend: str = "fmscale.launching.remote.slurm.Slurm"
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
class RayConf(RemoteConf):
    """`launcher=ray`."""

    backend: str = "fmscale.launching.remote.ray.Ray"
    ray: RayPartConf = field(default_factory=RayPartConf)


NODES = {"basic": BasicConf, "local": LocalConf, "joblib": JoblibConf, "slurm": SlurmConf,
         "ray": RayConf}  # fmt: skip
for name, node in NODES.items():
    ConfigStore.instance().store(group="hydra/launcher", name=f"fmscale_{name}", node=node)


class SweepLauncher(Launcher):
    """Composes every job first, then has a backend train them."""

    def __init__(self, backend: str, **options: Any) -> None:
        self.backend = backend
        self.own: dict[str, Any] = {
            k: OmegaConf.to_container(v, resolve=True) if OmegaConf.is_config(v) else v
            for k, v in options.items()
        }
        self.options = {name: self.own.pop(name) for name in DRIVER}

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra gives, before its sweeper writes into the store for the first time:
        should that not be possible, say so in a sentence.
        """
        from fmscale.errors import config_errors_exit
        from fmscale.launching.preflight import check_store

        with config_errors_exit():
            check_store(config.paths.runs_dir, str(config.study))
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def open_backend(self) -> Any:
        """What starts the jobs; ConfigError if the package behind it is not installed."""
        return get_method(self.backend)(**self.own)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Train all jobs; exit with code 1 after the sweep, if any run failed or was lost."""
        from fmscale.errors import config_errors_exit
        from fmscale.launching.driver import Options, run
        from fmscale.planning.sweep import Sweep

        with config_errors_exit():
            options, backend = Options(**self.options), self.open_backend()
            jobs, returns = planned_jobs(self, job_overrides)
            if run(Sweep(jobs), backend, options):
                raise SystemExit(1)
        return returns


def planned_jobs(
    launcher: Any, job_overrides: Sequence[Sequence[str]]
) -> tuple[list[Any], list[JobReturn]]:
    """Compose and plan every job; returns them, and what Hydra is to hear of each at the end."""
    from fmscale.config.compose import Composer
    from fmscale.config.jobs import compose_job
    from fmscale.errors import ConfigError
    from fmscale.training.distributed.world import World

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
        jobs.append(compose_job(config))
        done: Any = JobReturn(overrides=list(filter_overrides(overrides)), cfg=config)
        done.status = JobStatus.COMPLETED
        done.return_value = [branch.run_id for branch in jobs[-1].branches]
        returns.append(done)
    return jobs, returns


def register() -> None:
    """Tell Hydra, which looks for plugins only once in a process, of the launcher."""
    Plugins.instance().register(SweepLauncher)
