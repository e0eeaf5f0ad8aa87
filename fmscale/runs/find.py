"""A run by what a person calls it: its id, the beginning of one, or STUDY/RUN."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from fmscale.runs.store import RunFolder, check_name

FORMS = "run id, a beginning of it that is unique, or STUDY/RUN"


def find(runs_dir: Path, name: str) -> RunFolder:
    """The one run of the store that `name` stands for.

    Copies of a run in several studies are one run: of them, the finished one in the study that it
    was trained for.

    Args:
        name: a run id or the beginning of one, after STUDY/ where one study is meant.

    Raises:
        ValueError: if there is none or more than one, if copies of it hold different numbers, or
            for a name that would leave the store.
    """
    study, slash, run = name.rstrip("/").rpartition("/")
    check_name(run, "run")
    if slash:
        check_name(study, "study")
        studies = [runs_dir / study]
    else:
        studies = sorted(p for p in runs_dir.iterdir() if p.is_dir()) if runs_dir.is_dir() else []
    found = [
        RunFolder(path)
        for folder in studies
        for path in sorted(folder.glob(f"{run}*"))
        if (path / "config.yaml").exists()
    ]
    found = [folder for folder in found if folder.run_id == run] or found
    n_runs = len({folder.run_id for folder in found})
    if n_runs != 1:
        what = f"{n_runs} runs in {runs_dir} begin" if found else f"no run in {runs_dir} begins"
        raise ValueError(
            f"{what} with {name!r}"
            + (f": {', '.join(map(_place, found[:5]))}" if found else "")
            + "; give more of the id, STUDY/RUN, or another store with --runs-dir"
        )
    finished = [folder for folder in found if folder.is_finished()]
    _check_copies(finished)
    at_home = [folder for folder in finished if folder.trained_for() == folder.study]
    return (at_home or finished or found)[0]


def _check_copies(copies: Sequence[RunFolder]) -> None:
    """Refuse copies of a run whose metrics are not the same, as far as both were measured."""
    for first, second in combinations(copies, 2):
        ours, theirs = first.record().metrics, second.record().metrics
        differ = sorted(name for name in set(ours) & set(theirs) if ours[name] != theirs[name])
        if differ:
            raise ValueError(
                f"{_place(first)} and {_place(second)} differ in {', '.join(differ[:5])}; say "
                "which is meant, as STUDY/RUN"
            )


def _place(folder: RunFolder) -> str:
    return f"{folder.study}/{folder.run_id}"
