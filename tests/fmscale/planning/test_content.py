"""What changes a run's numbers from outside its configuration is in its id, and checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fmscale.config.jobs import expand
from fmscale.data.file_names import walk
from fmscale.data.text import sources, token_dataset
from fmscale.errors import ConfigError
from fmscale.planning import content
from fmscale.planning.content import code_mark, file_mark
from fmscale.training import run

OWN = """\
from {package}.parts.gate import Gate
from fmscale.models.gpt import GPT


class Gated(GPT):
    gate = Gate
"""


@pytest.fixture(autouse=True)
def fresh():
    """Marks are remembered for the length of a process."""
    yield forget()
    forget()


def forget() -> None:
    for remembered in (file_mark, code_mark, content._file_of):
        remembered.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package of one's own: a model, what it imports, and what it does not."""
    folder = tmp_path / "own" / "mine"
    (folder / "parts").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "parts" / "__init__.py").write_text("from . import gate\n")
    (folder / "parts" / "gate.py").write_text("from ..scale import S\nclass Gate: size = S\n")
    (folder / "scale.py").write_text("import beside\nS = 1\n")
    (folder.parent / "beside.py").write_text("import torch\n")
    (folder / "model.py").write_text(OWN.format(package="mine"))
    (folder / "unused.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def ids(job) -> tuple[str, list[str]]:
    forget()
    return job.trunk_id, [branch.run_id for branch in job.branches]


def test_code_of_ones_own_is_in_the_id_with_all_that_it_imports(tiny, plan_one, package):
    overrides = [*tiny, "budget.tokens=2560", "model._target_=mine.model.Gated"]
    seen = [ids(plan_one(overrides))]
    for edited in ("model.py", "scale.py", "parts/gate.py", "parts/__init__.py", "../beside.py"):
        path = package / edited
        path.write_text(path.read_text() + "# changed\n")
        forget()
        seen.append(ids(plan_one(overrides)))
    assert len({trunk for trunk, _ in seen}) == len(seen)
    (package / "unused.py").write_text("x = 2\n")
    forget()
    assert ids(plan_one(overrides)) == seen[-1]
    moved = package.parent.rename(package.parent.with_name("elsewhere"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(moved))
        forget()
        assert ids(plan_one(overrides)) == seen[-1]


def test_code_that_changed_since_a_run_was_planned_is_refused(tiny, plan_one, package):
    job = plan_one([*tiny, "budget.tokens=2560", "model._target_=mine.model.Gated"])
    (package / "scale.py").write_text("S = 2\n")
    forget()
    with pytest.raises(ConfigError, match="model._target_ names has changed since the run was"):
        run.train_trunk(job)


def test_an_evaluator_of_ones_own_changes_its_run_and_not_its_trunk(tiny, plan_one, package):
    overrides = [*tiny, "budget.tokens=2560", "+evaluation.evaluators.x._target_=mine.unused.E"]
    trunk, before = ids(plan_one(overrides))
    (package / "unused.py").write_text("x = 2\n")
    forget()
    same, after = ids(plan_one(overrides))
    assert same == trunk
    assert before != after


def test_installed_packages_are_marked_by_what_was_installed():
    assert code_mark("torch.optim.SGD") == code_mark("torch.optim.adamw.AdamW")
    assert code_mark("torch.optim.SGD") != code_mark("numpy.array")
    assert code_mark("functools.partial") is None
    assert code_mark("no_such_module_here.X") is None


def test_a_file_of_an_evaluator_counts_by_what_it_holds(tiny, plan_one, tmp_path):
    file = tmp_path / "a" / "passages.txt"
    file.parent.mkdir()
    file.write_text("What was said. ")

    def planned(path):
        forget()
        return ids(plan_one([*tiny, "budget.tokens=2560", "evaluation=other_text",
                             f"evaluation.evaluators.other_text.file={path}"]))  # fmt: skip

    trunk, before = planned(file)
    moved = shutil.copy(file, tmp_path)
    assert planned(moved) == (trunk, before)
    Path(moved).write_text("What was sung. ")
    same, after = planned(moved)
    assert same == trunk
    assert before != after


def folder_of_images(root: Path, name: str) -> Path:
    for label in ("cat", "dog"):
        (root / name / label).mkdir(parents=True)
        (root / name / label / "1.png").write_bytes(f"pixels of a {label}".encode())
    return root / name


def test_pairs_and_tasks_count_by_what_they_hold(tiny_clip, plan_one, tmp_path):
    tars = tmp_path / "tars"
    tars.mkdir()
    (tars / "0.tar").write_bytes(b"one")
    pets = folder_of_images(tmp_path, "pets")

    def planned(root, tasks):
        forget()
        overrides = [o for o in tiny_clip if "n_task_images" not in o and o != "data=scenes"]
        return plan_one([*overrides, "budget.samples=320", "data=webdataset", f"data.root={root}",
                         "data.name=own", f"data.tasks=[{tasks}]"]).trunk_id  # fmt: skip

    first = planned(tars, pets)
    moved = Path(shutil.copytree(tmp_path / "tars", tmp_path / "b" / "other_name"))
    assert planned(moved, shutil.copytree(pets, tmp_path / "c" / "pets")) == first
    assert planned(tars, shutil.copytree(pets, tmp_path / "c" / "cars")) != first
    (pets / "cat" / "1.png").write_bytes(b"pixels of a rat")
    other_images = planned(tars, pets)
    (tars / "0.tar").write_bytes(b"two")
    assert len({first, other_images, planned(tars, pets)}) == 3


def test_a_large_folder_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "WHOLE", 10)
    monkeypatch.setattr(content, "STRIDE", 1 << 16)
    data = bytearray(1 << 18)
    (tmp_path / "x").write_bytes(data)
    seen = {file_mark(tmp_path)}
    for place in (0, len(data) // 2, len(data) - 1):
        data[place] = 1
        (tmp_path / "x").write_bytes(data)
        file_mark.cache_clear()
        seen.add(file_mark(tmp_path))
    (tmp_path / "x").write_bytes(data + b"\0")
    file_mark.cache_clear()
    assert len({*seen, file_mark(tmp_path)}) >= 4


def test_the_text_of_the_standard_library_is_in_the_id(tiny, plan_one, monkeypatch):
    library = [o for o in tiny if not o.startswith("data.root")]
    told = [
        [*library, "budget.tokens=2560"],
        [*tiny, "budget.tokens=2560", "evaluation=answers"],
        [*tiny, "budget.tokens=2560", "evaluation=in_context"],
    ]
    before = [ids(plan_one(overrides))[1] for overrides in told]
    own = ids(plan_one([*tiny, "budget.tokens=2560"]))

    def other(root, suffixes=(".py",)):
        return "f" * 16 if root is None else sources.text_mark(root, suffixes)

    for module in (content, token_dataset):
        monkeypatch.setattr(module, "text_mark", other)
    after = [ids(plan_one(overrides))[1] for overrides in told]
    assert not [a for a, b in zip(before, after, strict=True) if a == b]
    assert ids(plan_one([*tiny, "budget.tokens=2560"])) == own


def test_a_class_that_cannot_be_imported_is_named(tiny):
    with pytest.raises(ConfigError, match="_target_=nowhere.Data"):
        expand([*tiny, "budget.tokens=2560", "data._target_=nowhere.Data"])


def test_folders_behind_links_count_and_are_read(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("one")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "more").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "text")  # is entered once
    before = file_mark(tmp_path / "text")
    (tmp_path / "real" / "a.txt").write_text("two")
    file_mark.cache_clear()
    assert file_mark(tmp_path / "text") != before
    assert [names for _, _, names in walk(tmp_path / "text") if names] == [["a.txt"]]


def test_a_root_of_ones_own_that_is_no_path_counts_as_itself(tiny, plan_one, package):
    def run_id(root: str) -> str:
        mine = ["objective._target_=mine.model.Gated", f"+objective.root={root}"]
        return plan_one([*tiny, *mine, "budget.tokens=1280"]).branches[0].run_id

    assert run_id("hub:c4") != run_id("hub:wiki")
