"""Imports run one way; each rule is tested, and so is that the check can fail."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STANDARD = set(sys.stdlib_module_names)

# (files, packages that must not be imported anywhere in them)
FORBIDDEN = [
    ("analysis/**/*.py", {"torch", "fmscale", "experiments", "pytorch_lightning", "hydra"}),
    ("fmscale/**/*.py", {"analysis", "experiments"}),
    ("fmscale/models/**/*.py", {"pytorch_lightning", "hydra", "omegaconf", "wandb"}),
    ("fmscale/objectives/**/*.py", {"pytorch_lightning", "hydra", "omegaconf", "wandb"}),
    ("fmscale/optim/**/*.py", {"pytorch_lightning", "hydra", "omegaconf", "wandb"}),
    ("fmscale/evaluation/**/*.py", {"pytorch_lightning", "hydra", "omegaconf", "wandb"}),
    ("fmscale/training/**/*.py", {"hydra", "omegaconf"}),
]
# Files that need the standard library and each other, nothing else.
PURE = [
    "fmscale/sizing/*.py",
    "fmscale/planning/budget.py",
    "fmscale/planning/job.py",
    "fmscale/optim/batch_schedule.py",
    "fmscale/planning/hyperparameters.py",
    "fmscale/planning/rules.py",
    "fmscale/planning/sections.py",
    "fmscale/runs/*.py",
]
# The text of a configuration is YAML.
ALSO = {"fmscale/runs/config_file.py": {"yaml"}}
LIGHTNING_IN_DATA = {"fmscale/data/module.py"}
HYDRA_IN = {
    "fmscale/train.py",
    "fmscale/commands/evaluate.py",
    "fmscale/config/build.py",
    "fmscale/config/compose.py",
    "fmscale/config/jobs.py",
    "fmscale/launching/plugins/hydra_plugins/fmscale_launchers.py",
}


def imported(source: str) -> set[str]:
    """Top-level packages imported anywhere in some source, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def files(pattern: str) -> list[Path]:
    found = sorted(ROOT.glob(pattern))
    assert found, pattern
    return found


@pytest.mark.parametrize(("pattern", "forbidden"), FORBIDDEN)
def test_packages_do_not_import_what_they_must_not(pattern, forbidden):
    for path in files(pattern):
        assert not imported(path.read_text()) & forbidden, path


@pytest.mark.parametrize("pattern", PURE)
def test_planning_needs_the_standard_library_only(pattern):
    for path in files(pattern):
        also = ALSO.get(path.relative_to(ROOT).as_posix(), set())
        assert imported(path.read_text()) <= STANDARD | {"fmscale"} | also, path


def test_lightning_and_hydra_stay_where_they_belong():
    for path in files("fmscale/**/*.py"):
        name = path.relative_to(ROOT).as_posix()
        packages = imported(path.read_text())
        if name.startswith("fmscale/data/") and name not in LIGHTNING_IN_DATA:
            assert "pytorch_lightning" not in packages, name
        if "hydra" in packages:
            assert name in HYDRA_IN, name


def test_the_check_sees_an_import_inside_a_function():
    assert imported("def f():\n    import torch.nn\n    from hydra.utils import x\n") == {
        "torch",
        "hydra",
    }


FRESH = "import {module}, sys; bad = {bad} & set(sys.modules); assert not bad, bad"


@pytest.mark.parametrize(
    ("module", "bad"),
    [
        ("analysis", "{'torch', 'fmscale', 'hydra', 'matplotlib.pyplot', 'plotly', 'wandb'}"),
        ("fmscale", "{'torch', 'hydra', 'numpy'}"),
        ("fmscale.sizing", "{'torch', 'numpy'}"),
        ("fmscale.planning.job", "{'torch', 'numpy', 'hydra'}"),
        ("fmscale.commands.status", "{'torch', 'hydra'}"),
        ("fmscale.models.gpt", "{'pytorch_lightning', 'hydra', 'wandb'}"),
    ],
)
def test_a_fresh_interpreter_loads_no_more_than_promised(module, bad):
    code = FRESH.format(module=module, bad=bad)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_fresh_interpreter_check_can_fail():
    code = FRESH.format(module="fmscale.models.gpt", bad="{'torch'}")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT)
    assert result.returncode != 0


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Which of some modules each of them imports, also inside functions and for types alone."""
    graph = {}
    for name, source in sources.items():
        found = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                parts = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= parts & set(sources) or {node.module}
        graph[name] = found & set(sources) - {name}
    return graph


def modules(package: str) -> dict[str, str]:
    """Sources by dotted name."""
    paths = {p.relative_to(ROOT).with_suffix(""): p for p in files(f"{package}/**/*.py")}
    return {".".join(k.parts).removesuffix(".__init__"): p.read_text() for k, p in paths.items()}


def room(name: str, depth: int) -> str:
    """A package, or a file that lies beside packages."""
    return ".".join(name.split(".")[:depth])


# Who may import whom: a room imports those of lines above its own, and nothing else of its package.
ORDER = {
    "fmscale": (
        "public signals sizing",
        "models objectives optim runs",
        "errors forecast",
        "data tracking",
        "evaluation interchange planning",
        "config",
        "training",
        "launching",
        "commands train",
        "cli",
    ),
    "analysis": (
        "json_values laws outputs versions",
        "tables",
        "gain solver",
        "uncertainty",
        "result",
        "diagnostics",
        "fit two_step",
        "refit transfer",
        "optima sensitivity",
        "forecasting",
        "compare plot",
        "report",
        "cli",
        "__main__",
    ),
}


@pytest.mark.parametrize("package", ORDER)
def test_rooms_import_those_before_them(package):
    floors = {
        f"{package}.{name}": floor
        for floor, names in enumerate(ORDER[package])
        for name in names.split()
    }
    graph = import_graph(modules(package))
    del graph[package]  # it shows names of all of them
    assert {room(name, 2) for name in graph} == set(floors)
    for name, others in graph.items():
        for other in others - {package}:
            if room(name, 2) != room(other, 2):
                assert floors[room(other, 2)] < floors[room(name, 2)], f"{name} imports {other}"


@pytest.mark.parametrize("package", ORDER)
def test_no_file_and_no_folder_imports_itself_through_others(package):
    graph = import_graph(modules(package))
    TopologicalSorter(graph).prepare()
    folders: dict[str, set[str]] = {}
    for name, others in graph.items():
        if name.count(".") > 1:
            inside = {room(o, 3) for o in others if room(o, 2) == room(name, 2) and "." in o}
            folders.setdefault(room(name, 3), set()).update(inside - {room(name, 3), room(name, 2)})
    TopologicalSorter(folders).prepare()


def test_folders_and_files_can_be_overlooked():
    for pattern in ("fmscale/**/*.py", "analysis/**/*.py", "experiments/**/*.py"):
        for path in files(pattern):
            assert len(path.read_text().splitlines()) <= 400, path
            shown = [p for p in path.parent.iterdir() if p.name != "__pycache__"]
            assert len(shown) <= 24 or pattern.startswith("experiments"), path.parent


def test_the_search_for_circles_sees_an_import_inside_a_function():
    graph = import_graph({"a": "from b import f", "b": "def g():\n    import a"})
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()
