"""What Slurm's queue says about jobs; `squeue` alone, since many clusters keep no accounts."""

from __future__ import annotations

import subprocess
from collections.abc import Collection

# Slurm's own words for a job that will not run on. One that was preempted may be queued again.
ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "TIMEOUT",
)  # fmt: skip
FORGOTTEN = "FORGOTTEN"  # ours: Slurm drops ended jobs from its memory after some minutes


class QueueSilent(Exception):
    """The queue does not answer; that says nothing of the jobs."""


def states(job_ids: Collection[str]) -> dict[str, str]:
    """State of each job in Slurm's words, or `FORGOTTEN`; QueueSilent if Slurm does not answer."""
    if not job_ids:
        return {}
    numbers = sorted({job_id.partition("_")[0] for job_id in job_ids})
    command = [
        "squeue", "--noheader", "--array", "--states=all", "--format=%i %T",
        f"--jobs={','.join(numbers)}",
    ]  # fmt: skip
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise QueueSilent(str(error)) from error
    # Asked for a single job that it has forgotten, squeue fails; for several, it says nothing.
    if answer.returncode and "Invalid job id" not in answer.stderr:
        raise QueueSilent(answer.stderr.strip())
    found = dict(line.split() for line in answer.stdout.splitlines() if line.strip())
    return {job_id: found.get(job_id, FORGOTTEN) for job_id in job_ids}


def is_over(state: str) -> bool:
    """Whether a job in this state will never run again."""
    return state in (*ENDED, FORGOTTEN)
