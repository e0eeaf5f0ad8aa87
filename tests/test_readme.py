"""Every command in every README is one that runs, and every entry point explains itself."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.__main__ import main as analyze
from fmscale import cli
from fmscale.commands.evaluate import compose_settings
from fmscale.config.jobs import expand
from fmscale.runs.record import UNITS

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
LISTED = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*README.md"]
READMES = {
    name: (ROOT / name).read_text()
    for name in subprocess.run(
        LISTED, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
}
SPOKEN = r"`((?:fmscale|fmscale-analysis|make|python -m|torchrun|srun)\s[^`]*)`"
# Commands of other programs, which are theirs to check.
OTHERS = ("pip", "source", "lm_eval")
# Commands whose KEY=VALUE arguments compose a configuration that is trained.
COMPOSING = {"train": [], "sweep": [], "plan": [], "coord-check": ["budget.tokens=1e6"]}


def commands(text: str) -> list[str]:
    """Lines of shell blocks, joined where they go on, and commands named within a sentence."""
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    told = [" ".join(code.split()) for code in re.findall(SPOKEN, text)]
    return [
        line.split("  #")[0].split("||")[0].strip()
        for line in lines + [code for code in told if "<" not in code]
        if line.strip() and not line.startswith(("#", "     { ["))
    ]


COMMANDS = sorted({line for text in READMES.values() for line in commands(text)})


class ParsedError(Exception):
    """Raised in place of work, once the arguments of a command are understood."""


@pytest.fixture
def place(tmp_path, monkeypatch, token_files):
    """A folder with what the READMEs speak of; commands stop there when they have been parsed."""
    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, stopping(name))
    monkeypatch.chdir(tmp_path)
    token_files(tmp_path / "my_shards")
    (tmp_path / "my_texts").mkdir()
    (tmp_path / "my_texts" / "one.txt").write_text("text")
    (tmp_path / "my_lr").mkdir()
    rule = {"lr_ref": 1e-3, "n_ref": 1e5, "exponent": 0.4}
    (tmp_path / "my_lr" / "rule.json").write_text(json.dumps(rule))


def stopping(name: str):
    parse = getattr(argparse.ArgumentParser, name)

    def parse_and_stop(self, *args, **kwargs):
        parse(self, *args, **kwargs)
        raise ParsedError

    return parse_and_stop


@pytest.mark.parametrize("line", COMMANDS)
@pytest.mark.usefixtures("place")
def test_every_command_is_understood(line, monkeypatch):
    program, *words = shlex.split(line)
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    monkeypatch.setattr(sys, "argv", ["fmscale", *words])
    if program == "make":
        done = ["make", "--dry-run", *words]
        subprocess.run(done, check=True, cwd=ROOT, capture_output=True)
    elif program in ("torchrun", "srun"):
        assert "fmscale.train" in words or words[words.index("fmscale") + 1] == "train"
        assert expand(overrides)
    elif program == "fmscale":
        assert words[0] in cli.COMMANDS
        if words[0] in COMPOSING and overrides:
            assert expand([*COMPOSING[words[0]], *overrides])
        if words[0] == "evaluate":
            compose_settings(overrides)
        if words[0] not in ("train", "sweep") and len(words) > 1:
            with pytest.raises(ParsedError):
                cli.main()
    elif program == "fmscale-analysis":
        with pytest.raises((ParsedError, SystemExit)) as stopped:
            analyze(words if len(words) > 1 else [*words, "--help"])
        assert stopped.value.args in ((), (0,))
    elif program == "python":
        found = importlib.util.find_spec(words[words.index("-m") + 1])
        assert found is not None
        if "ArgumentParser" in Path(str(found.origin)).read_text():
            monkeypatch.setattr(sys, "argv", words[1:])
            with pytest.raises(ParsedError):
                runpy.run_module(found.name, run_name="__main__")
    else:
        assert program in OTHERS


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


@pytest.mark.parametrize("name", READMES)
def test_pictures_and_files_that_a_readme_names_exist(name):
    for target in re.findall(r"\]\(([^)#]+)\)", READMES[name]):
        if not target.startswith("http"):
            assert (ROOT / name).parent.joinpath(target).exists(), target


def test_the_first_readme_is_short_and_begins_with_two_commands():
    lines = READMES["README.md"].splitlines()
    assert len(lines) <= 120
    assert [line.split(" #")[0].strip() for line in lines if line.startswith("make ")] == [
        "make demo", "make test",
    ]  # fmt: skip


def test_every_column_that_is_counted_is_one_of_a_record():
    table = READMES["README.md"].split("## How things are counted")[1].split("\n\n")[1]
    names = re.findall(r"`(\w+)`", "".join(re.findall(r"^\|[^|]+\|", table, flags=re.MULTILINE)))
    assert {"n_params_total", "n_tokens", "flops"} < set(names)
    assert set(names) <= {*UNITS, "val_loss", "val_batch_size"}


def test_the_law_of_ones_own_is_fitted_as_it_stands(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", READMES["analysis/README.md"], flags=re.DOTALL)
    x = np.geomspace(1, 1e4, 12)
    frame = pd.DataFrame({"x": x, "metric": 3 / (1 + x / 50) + 1})
    exec(code, {"analysis": analysis, "frame": frame})
    assert "a / (1 + x/b) + c" in capsys.readouterr().out
