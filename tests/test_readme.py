"""Every command in README.md runs, and every entry point explains itself."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fmscale.plan import expand

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
LINES = [
    line.split("  #")[0].strip()
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]
BIN = Path(sys.executable).parent


def lines_of(*words: str) -> list[str]:
    return [line for line in LINES if line.split()[: len(words)] == list(words)]


def test_the_readme_shows_the_two_commands():
    assert "make demo" in LINES
    assert "make test" in LINES


@pytest.mark.parametrize("line", lines_of("make"))
def test_every_make_target_exists(line):
    subprocess.run(["make", "--dry-run", *line.split()[1:]], check=True, cwd=ROOT,
                   capture_output=True)  # fmt: skip


@pytest.mark.parametrize(
    "line",
    lines_of("fmscale", "train")
    + lines_of("fmscale", "sweep")
    + lines_of("fmscale", "plan")
    + lines_of("torchrun")
    + lines_of("srun"),
)
def test_every_training_command_composes(line, tmp_path, monkeypatch, token_files):
    monkeypatch.chdir(tmp_path)
    token_files(tmp_path / "my_shards")
    (tmp_path / "my_texts").mkdir()
    (tmp_path / "my_texts" / "one.txt").write_text("text")
    command = line.split("||")[0]  # what follows is for its failure
    overrides = [a for a in shlex.split(command) if "=" in a and not a.startswith("--")]
    assert expand(overrides)


def test_every_other_command_is_known():
    known = (
        "make",
        "fmscale",
        "fmscale-analysis",
        "git",
        "cd",
        "pip",
        "export",
        "torchrun",
        "srun",
    )
    assert [line for line in LINES if line.split()[0] not in known] == []


@pytest.mark.parametrize("line", lines_of("fmscale", "prepare"))
def test_every_preparation_parses(line):
    from fmscale.prepare import make_parser, make_recipe

    options = make_parser().parse_args(shlex.split(line)[2:])
    assert options.verify or make_recipe(options)


@pytest.mark.parametrize("line", lines_of("fmscale-analysis"))
def test_every_analysis_command_parses(line):
    from analysis.__main__ import make_parser

    make_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize(
    "arguments",
    [
        ["fmscale", "--help"],
        ["fmscale", "train", "--help"],
        ["fmscale", "plan", "--help"],
        ["fmscale", "status", "--help"],
        ["fmscale", "coord-check", "--help"],
        ["fmscale", "prepare", "--help"],
        ["fmscale", "evaluate", "--help"],
        ["fmscale-analysis", "--help"],
        ["fmscale-analysis", "report", "--help"],
    ],
)
def test_help_gives_an_example(arguments):
    result = subprocess.run(
        [BIN / arguments[0], *arguments[1:]], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert "xample" in result.stdout


def test_pictures_and_files_named_in_the_readme_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
