"""A disk on which every checkpoint takes long, and a note of when each was written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

from fmscale.training import checkpoint, sharded_checkpoint
from fmscale.training.saving import SAVING_SHARE, CheckpointCallback, SavePolicy

SECONDS = 0.05  # that a file takes longer


def slowly(write: Callable) -> Callable:
    def written(*arguments, **options):
        result = write(*arguments, **options)
        time.sleep(SECONDS)
        return result

    return written


@contextmanager
def slow_disk(notes: Path, rank: int = 0) -> Iterator[None]:
    """Inside, rank 0 is slow to write whole checkpoints, and another rank its part of one."""
    save, saving = CheckpointCallback.save, SavePolicy.saving

    def noted_save(self, module):
        self.policy.kept = module.step in self.policy.keep_at
        save(self, module)

    @contextmanager
    def noted_saving(self):
        with saving(self):
            began = time.monotonic()
            yield
            note = {"fit": self.began, "kept": self.kept, "began": began, "ended": time.monotonic()}
            if rank == 0:
                with notes.open("a") as file:
                    file.write(json.dumps(note) + "\n")

    slow = (checkpoint, "write_atomically") if rank == 0 else (sharded_checkpoint.dcp, "save")
    with ExitStack() as stack:
        stack.enter_context(patch.object(CheckpointCallback, "save", noted_save))
        stack.enter_context(patch.object(SavePolicy, "saving", noted_saving))
        stack.enter_context(patch.object(*slow, slowly(getattr(*slow))))
        yield


def assert_saving_was_rare(notes: Path, every_seconds: float) -> None:
    """After each checkpoint, trained for so long that it took 2 % of the time at most.

    Kept ones are written when they are due, whatever they cost.
    """
    found = [json.loads(line) for line in notes.open()]
    fits = [[note for note in found if note["fit"] == fit] for fit in {n["fit"] for n in found}]
    assert sum(not note["kept"] for note in found) >= len(fits)  # little is lost to a kill
    for before, after in (pair for fit in fits for pair in pairwise(fit)):
        took = before["ended"] - before["began"]
        assert took >= SECONDS
        assert after["kept"] or took <= SAVING_SHARE * (after["began"] - before["ended"])
    # Had it not been for what they took, there would have been many more.
    assert sum(fit[-1]["began"] - fit[0]["began"] for fit in fits) > 10 * every_seconds
