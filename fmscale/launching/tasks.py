"""What a backend's processes do, and how they say how it ended."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch

from fmscale.config.build import build_shape
from fmscale.launching.driver import Options, train
from fmscale.launching.in_process import InProcess
from fmscale.planning.job import Job
from fmscale.planning.store_plan import study_of
from fmscale.planning.sweep import Sweep
from fmscale.runs.lock import Held, gone
from fmscale.runs.secrets import redact_error
from fmscale.training.distributed.ranks import current_ranks
from fmscale.training.run import check, ignore, train_branch, train_trunk
from fmscale.training.run_status import fail_branches, is_out_of_memory
from fmscale.training.speed_test import measure_speed
from fmscale.training.vmapped.runs import train_group

Report = Callable[[dict[str, Any]], None]


def do_task(task: dict[str, Any], report: Report = ignore) -> dict[str, Any]:
    """Do one task.

    Args:
        task: the fields of a `backend.Task`.
        report: called with each sign of progress.

    Returns:
        How it ended: `event` is "done" (with its `result`), "held" by another process, or "failed"
        (with `state` and `reason`).

    Raises:
        Exception: what stopped a run that several processes train, since the others cannot continue
            with the next one then.
    """
    try:
        return {"event": "done", "result": _do(task, report)}
    except Held as error:
        return {"event": "held", "reason": str(error)}
    except Exception as error:
        if current_ranks() is not None:
            raise
        redact_error(error)
        state = "oom" if is_out_of_memory(error) else "failed"
        reason = f"{type(error).__name__}: {error}"
    if state == "oom":  # what the failed attempt leaves behind would starve the next one
        gc.collect()
        torch.cuda.empty_cache()
    return {"event": "failed", "state": state, "reason": reason}


def _do(task: dict[str, Any], report: Report) -> Any:
    jobs = [Job.plan(config, build_shape(config)) for config in task["configs"]]
    if task["kind"] == "job":
        sweep = Sweep(jobs)
        sweep.take_over()  # it may have waited in a queue for long
        train(sweep, InProcess(do_task), Options(**task["options"]), task["halvings"])
        return None
    job = jobs[0].halved(task["halvings"])
    study = study_of(job)
    if task["kind"] in ("group", "trunk", "branch") and not study.manifest_path.exists():
        raise gone(study.path)  # training would make it anew, at the old place
    match task["kind"]:
        case "check":
            check(job)
        case "speed":
            return measure_speed(job)
        case "group":
            train_group(jobs, report)
        case "trunk":
            try:
                train_trunk(job, report)
            except Exception as error:
                fail_branches(job, error)
                raise
        case "branch":
            branch = next(b for b in job.branches if b.run_id == task["run_id"])
            train_branch(job, branch, report)
        case unknown:
            raise ValueError(f"unknown task {unknown!r}")
    return None
