"""Status, traceback and tracker of a run stay true whatever happens while it trains."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator

import torch

from fmscale.planning.job import Job
from fmscale.planning.store_plan import study_of
from fmscale.runs import config_file
from fmscale.runs.lock import Held, LockLost
from fmscale.runs.secrets import redact_error
from fmscale.runs.store import RunFolder
from fmscale.signals import Interrupted
from fmscale.tracking.tracker import RunInfo, Tracker, exit_code
from fmscale.training import checkpoint
from fmscale.training.fit import Fitted

# How torch says that the processor's own memory is used up: a plain RuntimeError.
CPU_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")


class Outcome:
    """How a run ended; failed until `finish` says otherwise."""

    def __init__(self, folder: RunFolder, n_steps: int) -> None:
        self.folder = folder
        self.n_steps = n_steps
        self.exit_code = 1

    def finish(self, state: str, fitted: Fitted) -> None:
        """Set the final status: "completed" or "diverged"."""
        self.folder.set_status(
            state, step=fitted.step, n_steps=self.n_steps, reason=fitted.diverged
        )
        self.exit_code = exit_code(state)


@contextlib.contextmanager
def keeping_status(
    folder: RunFolder, tracker: Tracker, info: RunInfo, *, n_steps: int, step: int
) -> Iterator[Outcome]:
    """Keep `status.json`, `traceback.txt` and the tracker true whatever happens inside.

    Args:
        n_steps: of the whole run.
        step: where it resumes from.
    """
    outcome = Outcome(folder, n_steps)
    folder.set_status("running", step=step, n_steps=n_steps)
    try:
        tracker.open(info)
        yield outcome
    except LockLost:
        raise  # the folder is another process's now
    except Exception as error:
        note_failure(folder, error, n_steps)
        raise
    except BaseException as error:  # interrupted by a person or the system
        reason = str(error) if isinstance(error, Interrupted) else type(error).__name__
        if isinstance(error.__cause__, Exception):
            redact_error(error.__cause__)
            reason += f"; its last step is lost: {error.__cause__}"
            print(f"{folder.run_id}: {reason}", file=sys.stderr)
        saved = checkpoint.steps_saved(folder.checkpoints)
        # A full disk takes no status either, and a run that another process has is not ours.
        with contextlib.suppress(OSError, LockLost):
            folder.set_status(
                "interrupted", step=max(saved, default=0), n_steps=n_steps, reason=reason
            )
        raise
    finally:
        tracker.close(outcome.exit_code)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was what a failed run lacked, on the processor or on the device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(t in str(error) for t in CPU_OUT_OF_MEMORY)


def note_failure(folder: RunFolder, error: Exception, n_steps: int) -> None:
    """Store status and traceback of a failed run.

    On a full disk these cannot be written either; the original error then says so in a note.
    """
    redact_error(error)
    text = "".join(traceback.format_exception(error))
    last = f"{type(error).__name__}: {error}".splitlines()[0]
    state = "oom" if is_out_of_memory(error) else "failed"
    with noting(folder, error):
        step = (folder.status() or {"step": 0})["step"]
        folder.write_traceback(text)
        folder.set_status(state, step=step, n_steps=n_steps, reason=last)


@contextlib.contextmanager
def noting(folder: RunFolder, error: Exception) -> Iterator[None]:
    """What goes wrong while an error is noted must not hide it."""
    try:
        yield
    except (OSError, ValueError) as second:
        error.add_note(f"the failure could not be noted in {folder.path}: {second}")


def fail_branches(job: Job, error: Exception) -> None:
    """After a trunk failed: note the failure in each branch that can no longer start.

    Not where another process trains it now: then nothing has failed; nor where the study was
    moved away, since it would be made anew.
    """
    study = study_of(job)
    if isinstance(error, Held) or not study.path.is_dir():
        return
    saved = checkpoint.steps_saved(study.trunk(job.trunk_id).checkpoints)
    for branch in job.branches:
        folder = study.run(branch.run_id)
        starts = not branch.branch_step or branch.branch_step in saved
        if not starts and not folder.is_finished() and not folder.is_at_work():
            with noting(folder, error):
                folder.create(config_file.write(job.branch_config(branch)))
            note_failure(folder, error, branch.n_steps)
