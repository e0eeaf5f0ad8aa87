"""The processes that train one run together, as torchrun or srun has started them.

Standard library only: what does not fit is refused before torch is imported.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from fmscale.errors import ConfigError
from fmscale.planning.job import Job
from fmscale.planning.sections import TrainerSettings


@dataclass(frozen=True)
class World:
    """Where this process stands among those that started with it."""

    rank: int = 0
    size: int = 1  # processes of all machines together
    local_rank: int = 0  # among those of this machine; the number of its GPU
    local_size: int = 1
    starter: str | None = None  # "torchrun" or "srun"; None: a process by itself

    @staticmethod
    def here(environment: Mapping[str, str] = os.environ) -> World:
        """Read the variables that torchrun, or srun for each task of a step, sets."""
        if "TORCHELASTIC_RUN_ID" in environment:
            return World(
                int(environment["RANK"]), int(environment["WORLD_SIZE"]),
                int(environment["LOCAL_RANK"]), int(environment["LOCAL_WORLD_SIZE"]), "torchrun",
            )  # fmt: skip
        # `salloc` and `sbatch` set SLURM_NTASKS for shells too; a step's variables are srun's.
        if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
            per_node = re.match(r"\d+", environment["SLURM_STEP_TASKS_PER_NODE"])
            assert per_node is not None, environment["SLURM_STEP_TASKS_PER_NODE"]
            return World(
                int(environment["SLURM_PROCID"]), int(environment["SLURM_STEP_NUM_TASKS"]),
                int(environment["SLURM_LOCALID"]), int(per_node[0]), "srun",
            )  # fmt: skip
        return World()

    @property
    def leads(self) -> bool:
        """Whether this process keeps the records; the others only compute."""
        return self.rank == 0

    @property
    def n_nodes(self) -> int:
        return self.size // self.local_size

    def export(self) -> None:
        """Give torch.distributed the variables that torchrun would have set."""
        if self.starter != "srun":
            return
        os.environ |= {
            "RANK": str(self.rank), "WORLD_SIZE": str(self.size),
            "LOCAL_RANK": str(self.local_rank), "LOCAL_WORLD_SIZE": str(self.local_size),
            "GROUP_RANK": str(self.rank // self.local_size),
        }  # fmt: skip
        os.environ.setdefault("MASTER_ADDR", _first_host(os.environ["SLURM_STEP_NODELIST"]))
        port = 20_000 + int(os.environ["SLURM_JOB_ID"]) % 20_000
        os.environ.setdefault("MASTER_PORT", str(port))


# How long a process that may not be the only one to see a mistake waits for the end.
SILENT_SECONDS = 10.0


@contextmanager
def error_on_rank_zero(world: World) -> Iterator[None]:
    """Report a mistake in the configuration, which all processes see, on rank 0 alone.

    The others wait for torchrun or srun to end them. One that is left waiting was alone to see
    it, as when one machine lacks a file, and does report it.

    Raises:
        ConfigError: as raised inside.
    """
    try:
        yield
    except ConfigError:
        if not world.leads:
            signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(1))
            time.sleep(SILENT_SECONDS)
        raise


def check_world(job: Job, world: World) -> None:
    """Refuse a job not started as its trainer needs it; the ConfigError names the right command."""
    settings = job.trainer
    wanted = settings.devices
    if settings.strategy == "single":
        if world.size > 1:
            raise ConfigError(
                f"{world.starter} started {world.size} processes, but trainer.strategy=single "
                "trains in one: add trainer=ddp or trainer=fsdp"
            )
        return
    if world.starter is None:
        raise ConfigError(
            f"trainer.strategy={settings.strategy} trains one run in several processes, which "
            f"torchrun or srun must start: {how_to_start(settings)}"
        )
    if wanted is not None and wanted != world.size:
        raise ConfigError(
            f"trainer.devices={wanted}, but {world.starter} started {world.size} processes; leave "
            "trainer.devices=null, or start as many"
        )
    if world.size % world.local_size:
        raise ConfigError(
            f"{world.size} processes on machines of {world.local_size}: start as many on each"
        )
    parts = settings.accumulate * world.size
    for step in range(job.batches.ramp_steps + 1):
        if job.batches.batch(step) % parts:
            raise ConfigError(
                f"the batch of step {step}, {job.batches.batch(step)}, is not divisible into "
                f"{settings.accumulate} micro-batches of {world.size} processes; choose a "
                f"batch_size that is a multiple of {parts}"
            )


def how_to_start(settings: TrainerSettings) -> str:
    """The command for one machine."""
    n = settings.devices or 2
    return (
        f"torchrun --nproc-per-node {n} -m fmscale.train trainer={settings.strategy} ... (or srun "
        f"--ntasks={n} fmscale train ..., or a sweep with launcher=slurm "
        f"hydra.launcher.tasks_per_node={n})"
    )


def _first_host(nodes: str) -> str:
    """The first machine of Slurm's compressed list, e.g. "n[07-09]" -> "n07"."""
    if "[" not in nodes:
        return nodes.split(",")[0]
    listed = subprocess.run(
        ["scontrol", "show", "hostnames", nodes], check=True, capture_output=True, text=True
    )
    return listed.stdout.split()[0]
