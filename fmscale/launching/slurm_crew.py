"""Jobs on a Slurm cluster: one array, one task of it for each trunk with its runs.

Submission, and the requeueing of a job that is preempted or out of time, are submitit's. Whether
a job is lost is decided here, by the run store and the queue: submitit would wait for ever for a
cancelled job on a cluster that keeps no accounts.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fmscale.launching import slurm_queue
from fmscale.launching.carry_out import Order, carry_out
from fmscale.launching.remote import Crew
from fmscale.runs.files import read_json, write_json
from fmscale.settings import ConfigError
from fmscale.world import World

# Options of submitit that every scheduler has; it wants the others with `slurm_` in front.
GENERAL = (
    "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name",
    "stderr_to_stdout",
)  # fmt: skip


class SlurmOrder:
    """What submitit runs on a node, and queues again after a signal."""

    def __call__(self, order: Order) -> dict[str, str]:
        # Slurm sends it beside the signal that announces preemption, and nothing must act on it:
        # after `scancel` the end comes anyway.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return carry_out(order)

    def checkpoint(self, order: Order) -> Any:
        """submitit asks for it when the job is to be queued again: the same order."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, order)


class SlurmCrew(Crew):
    """An array of Slurm jobs; jobs of an earlier sweep that still queue are watched again.

    Args:
        options: of `sbatch`, by the names that hydra-submitit-launcher gives them.
        folder: of submitit's files and the jobs' logs.
        tickets: file that remembers which Slurm job has which order.
        lost_after_seconds: how long a job may have left the queue without its results being seen;
            a file system that several machines share needs a while to show them.
        clock: seconds; a test may turn it.
    """

    def __init__(
        self,
        options: dict[str, Any],
        *,
        folder: Path,
        tickets: Path,
        lost_after_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise ConfigError(
                "launcher=slurm needs the package submitit: pip install 'fmscale[slurm]'"
            ) from error
        if shutil.which("sbatch") is None:
            raise ConfigError(
                "launcher=slurm finds no Slurm here (no sbatch on the path); launch from a login "
                "node of the cluster, or choose launcher=local"
            )
        self.options = dict(options)
        per_node, nodes = options["tasks_per_node"], options["nodes"]
        if per_node * nodes > 1:
            self.world = World(size=per_node * nodes, local_size=per_node, starter="srun")
            # Should one of them fail, the others would wait for it until the job's time is up.
            self.options["srun_args"] = ["--kill-on-bad-exit=1"]
        self.folder = folder
        self.tickets = tickets
        self.lost_after_seconds = lost_after_seconds
        self.clock = clock
        self.job_ids: dict[int, str] = {}  # Slurm's id of each of our jobs
        self._states: dict[str, str] = {}
        self._gone_since: dict[str, float] = {}

    def width(self, n_jobs: int) -> int:
        return min(n_jobs, int(self.options["array_parallelism"]))

    def start(self, orders: dict[int, Order], keys: dict[int, str]) -> None:
        known = read_json(self.tickets) if self.tickets.exists() else {}
        mine = {index: known[key] for index, key in keys.items() if key in known}
        self.job_ids = {i: job_id for i, job_id in mine.items() if job_id in self._alive(mine)}
        if self.job_ids:
            print(f"{len(self.job_ids)} jobs are in Slurm's queue already and are watched again.")
        new = [index for index in orders if index not in self.job_ids]
        self.job_ids |= dict(zip(new, self._submit([orders[i] for i in new]), strict=True))
        write_json(self.tickets, {**known, **{keys[i]: self.job_ids[i] for i in orders}})
        print(f"Slurm jobs {', '.join(self.job_ids.values())}; logs in {self.folder}")

    def _alive(self, mine: dict[int, str]) -> set[str]:
        try:
            found = slurm_queue.states(set(mine.values()))
        except slurm_queue.QueueSilent as error:
            raise ConfigError(f"launcher=slurm: squeue does not answer: {error}") from error
        return {job_id for job_id, state in found.items() if not slurm_queue.is_over(state)}

    def _submit(self, orders: list[Order]) -> list[str]:
        if not orders:
            return []
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        options = dict(self.options)
        try:
            executor = submitit.AutoExecutor(
                self.folder, cluster="slurm",
                slurm_max_num_timeout=options.pop("max_num_timeout"),
            )  # fmt: skip
            executor.update_parameters(
                **{k if k in GENERAL else f"slurm_{k}": v for k, v in options.items()}
            )
            jobs = executor.map_array(SlurmOrder(), orders)
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.output or b"").strip()
            raise ConfigError(f"sbatch refused: {said!r}") from error
        except (FailedJobError, FailedSubmissionError, ValueError, TypeError) as error:
            raise ConfigError(f"launcher=slurm: {error}") from error
        return [str(job.job_id) for job in jobs]

    def ended(self) -> dict[int, str]:
        now = self.clock()
        try:
            self._states = slurm_queue.states(set(self.job_ids.values()))
        except slurm_queue.QueueSilent:
            return {}  # a controller that restarts; the jobs go on
        over = {}
        for index, job_id in self.job_ids.items():
            state = self._states[job_id]
            if not slurm_queue.is_over(state):
                self._gone_since.pop(job_id, None)
                continue
            since = self._gone_since.setdefault(job_id, now)
            if now - since >= self.lost_after_seconds:
                log = self.folder / f"{job_id}_0_log.err"
                over[index] = f"Slurm job {job_id} is over ({state.lower()}); log: {log}"
        return over

    def leave(self, *, finished: bool) -> None:
        active = [i for i, state in self._states.items() if not slurm_queue.is_over(state)]
        if not finished and active:
            print(
                f"Slurm goes on with {len(active)} jobs. The same command watches them again; "
                f"scancel {' '.join(sorted(active))} ends them."
            )
