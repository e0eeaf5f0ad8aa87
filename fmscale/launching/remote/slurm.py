"""Jobs on a Slurm cluster: one array, one member of it for each trunk with its runs.

Submission, and the requeueing of a job that is preempted or out of time, are submitit's. Whether
a job is lost is decided here, by the run store and the queue: submitit would wait for ever for a
canceled job on a cluster that keeps no accounts.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmscale.errors import ConfigError
from fmscale.launching.backend import Event, Task
from fmscale.launching.job_process import JobSpec, run_job
from fmscale.launching.remote import slurm_queue
from fmscale.launching.remote.backend import Remote, running
from fmscale.planning.job import Branch
from fmscale.planning.store_plan import study_of
from fmscale.planning.sweep import Sweep
from fmscale.runs.files import read_json, write_json
from fmscale.runs.identity import digest
from fmscale.training.distributed.world import World

# Options of submitit that every scheduler has; it wants the others with `slurm_` in front.
GENERAL = (
    "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name",
    "stderr_to_stdout",
)  # fmt: skip


class SlurmJob:
    """What submitit runs on a node, and queues again after a signal."""

    def __call__(self, spec: JobSpec) -> dict[str, Any]:
        # Slurm sends it beside the signal that announces preemption, and nothing must act on it:
        # after `scancel` the end comes anyway.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return run_job(spec)

    def checkpoint(self, spec: JobSpec) -> Any:
        """submitit asks for it when the job is to be queued again: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, spec)


class Slurm(Remote):
    """An array of Slurm jobs; jobs of an earlier sweep that still queue are watched again.

    They outlive the sweep's process, so each is a whole job that retries what fails by itself; one
    that is lost is submitted again from here.

    Args:
        submitit_folder: of submitit's files, the jobs' logs, and `tickets.json`, which remembers
            which Slurm job has which runs.
        lost_after_seconds: how long a job may have left the queue without its results being seen;
            a file system that several machines share needs a while to show them.
        options: `n_threads`, `poll_seconds`, and those of `sbatch` by the names that
            hydra-submitit-launcher gives them.
    """

    whole_jobs = True

    def __init__(self, submitit_folder: str, lost_after_seconds: float, **options: Any) -> None:
        super().__init__(options.pop("n_threads"), options.pop("poll_seconds"))
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
        self.options = options
        per_node, nodes = options["tasks_per_node"], options["nodes"]
        if per_node * nodes > 1:
            self.world = World(size=per_node * nodes, local_size=per_node, starter="srun")
            # Should one of them fail, the others would wait for it until the job's time is up.
            self.options["srun_args"] = ["--kill-on-bad-exit=1"]
        self.folder = Path(submitit_folder)
        self.tickets = self.folder / "tickets.json"
        self.lost_after_seconds = lost_after_seconds
        self.job_ids: dict[int, str] = {}  # Slurm's id of each of our tasks
        self._states: dict[str, str] = {}
        self._gone_since: dict[str, float] = {}
        self._runs: dict[tuple[int, str | None], Task] = {}  # reported on one by one

    def open(self, sweep: Sweep) -> int:
        self.left = {index: list(branches) for index, branches in sweep.left.items()}
        return min(super().open(sweep), int(self.options["array_parallelism"]))

    def send(self, specs: dict[int, JobSpec], tasks: list[Task]) -> None:
        known = read_json(self.tickets) if self.tickets.exists() else {}
        keys = {id(task): self._key(task) for task in tasks}
        mine = {index: known[key] for index, key in keys.items() if key in known}
        alive = self._alive(mine)
        jobs = {index: job_id for index, job_id in mine.items() if job_id in alive}
        if jobs:
            print(f"{len(jobs)} jobs are in Slurm's queue already and are watched again.")
        new = [task for task in tasks if id(task) not in jobs]
        for index, branch in self._runs_of(new):  # what an earlier attempt has noted is over
            folder = study_of(self.jobs[index]).run(branch.run_id)
            if not (folder.is_finished() or folder.is_at_work()):
                folder.set_status("queued", n_steps=branch.n_steps)
        sent = self._submit([specs[id(task)] for task in new])
        jobs |= {id(task): job_id for task, job_id in zip(new, sent, strict=True)}
        write_json(self.tickets, {**known, **{keys[i]: job_id for i, job_id in jobs.items()}})
        self.job_ids |= jobs
        print(f"Slurm jobs {', '.join(jobs.values())}; logs in {self.folder}")

    def _runs_of(self, tasks: list[Task]) -> list[tuple[int, Branch]]:
        return [(i, branch) for task in tasks for i in task.jobs for branch in self.left[i]]

    def _key(self, task: Task) -> str:
        """A name of a task's runs that stays the same from sweep to sweep."""
        return digest([b.run_id for index in task.jobs for b in self.jobs[index].branches])

    def _alive(self, mine: dict[int, str]) -> set[str]:
        try:
            found = slurm_queue.states(set(mine.values()))
        except slurm_queue.QueueSilent as error:
            raise ConfigError(f"launcher=slurm: squeue does not answer: {error}") from error
        return {job_id for job_id, state in found.items() if not slurm_queue.is_over(state)}

    def _submit(self, specs: list[JobSpec]) -> list[str]:
        if not specs:
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
            jobs = executor.map_array(SlurmJob(), specs)
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.output or b"").strip()
            raise ConfigError(f"sbatch refused: {said!r}") from error
        except (FailedJobError, FailedSubmissionError, ValueError, TypeError) as error:
            raise ConfigError(f"launcher=slurm: {error}") from error
        return [str(job.job_id) for job in jobs]

    def look(self, task: Task) -> Iterator[Event]:
        for index in task.jobs:
            job = self.jobs[index]
            yield from running(self._run(index), study_of(job).trunk(job.trunk_id))
            for branch in list(self.left[index]):
                folder, run = study_of(job).run(branch.run_id), self._run(index, branch.run_id)
                if folder.is_finished():
                    self.left[index].remove(branch)
                    yield Event(run, "done")
                else:
                    yield from running(run, folder)

    def _run(self, index: int, run_id: str | None = None) -> Task:
        kind = "trunk" if run_id is None else "branch"
        return self._runs.setdefault((index, run_id), Task(kind, [], run_id, jobs=(index,)))

    def ended(self) -> dict[int, dict[str, Any]]:
        gone = self._gone()  # before the store: an ended job's last words are in it
        over = {id(t): self._end_of(t, gone.get(self.job_ids[id(t)])) for t in self.tasks}
        return {index: message for index, message in over.items() if message is not None}

    def _end_of(self, task: Task, state: str | None) -> dict[str, Any] | None:
        """A job is over when all its runs are finished, or when it has left the queue."""
        runs = [study_of(self.jobs[i]).run(b.run_id) for i, b in self._runs_of([task])]
        states = [(r.status() or {"state": "queued"})["state"] for r in runs if not r.is_finished()]
        if not states:
            return {"event": "done"}
        if state is None:
            return None
        job_id = self.job_ids[id(task)]
        log = self.folder / f"{job_id}_0_log.err"
        noted = all(state in ("failed", "oom") for state in states)
        if state == "OUT_OF_MEMORY" or "oom" in states:
            how = "oom"
        else:
            how = "failed" if noted else "interrupted"
        return {
            "event": "failed",
            "state": how,
            "reason": f"Slurm job {job_id} is over ({state.lower()}); log: {log}",
            # By itself it has retried what failed; several processes cannot.
            "final": state == "CANCELLED" or (noted and self.world.size == 1),
        }

    def _gone(self) -> dict[str, str]:
        """Jobs that have been out of the queue for long enough, and their last states."""
        now = time.monotonic()
        mine = {self.job_ids[id(task)] for task in self.tasks}
        try:
            self._states = slurm_queue.states(mine)
        except slurm_queue.QueueSilent:
            return {}  # a controller that restarts; the jobs keep running
        over = {job_id for job_id in mine if slurm_queue.is_over(self._states[job_id])}
        self._gone_since = {job_id: self._gone_since.get(job_id, now) for job_id in over}
        return {
            job_id: self._states[job_id]
            for job_id, since in self._gone_since.items()
            if now - since >= self.lost_after_seconds
        }

    def leave(self) -> None:
        mine = {self.job_ids[id(task)] for task in self.tasks}
        active = [i for i in mine if not slurm_queue.is_over(self._states.get(i, "PENDING"))]
        if active:
            print(
                f"Slurm keeps {len(active)} jobs. The same command watches them again; "
                f"scancel {' '.join(sorted(active))} ends them."
            )
