"""What a worker can be asked to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fmscale.build import build_shape
from fmscale.job import Job
from fmscale.planner import study_of
from fmscale.runs.lock import gone
from fmscale.training.calibration import measure_speed
from fmscale.training.packing import train_pack
from fmscale.training.run import check, train_branch, train_trunk
from fmscale.training.supervision import fail_branches

Report = Callable[[dict[str, Any]], None]


def run_task(task: dict[str, Any], report: Report) -> Any:
    """Do one task.

    Args:
        task: `kind` is "check", "pack", "trunk", "branch" or "speed"; `config` the resolved
            configuration of the job (of a pack: "jobs", a list of them); `run_id` the branch to
            train; `halvings` how often the micro-batch is halved, for want of memory.
        report: told about progress.
    """
    if task["kind"] == "pack":
        configs = task["config"]["jobs"]
        train_pack([Job.plan(config, build_shape(config)) for config in configs], report)
        return None
    job = Job.plan(task["config"], build_shape(task["config"])).halved(task["halvings"])
    study = study_of(job)
    if task["kind"] in ("trunk", "branch") and not study.manifest_path.exists():
        raise gone(study.path)  # training would make it anew, at the old place
    match task["kind"]:
        case "check":
            check(job)
        case "trunk":
            try:
                train_trunk(job, report)
            except Exception as error:
                fail_branches(job, error)
                raise
        case "branch":
            branch = next(b for b in job.branches if b.run_id == task["run_id"])
            train_branch(job, branch, report)
        case "speed":
            return measure_speed(job)
        case unknown:
            raise ValueError(f"unknown task {unknown!r}")
    return None
