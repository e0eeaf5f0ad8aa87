"""Keys never reach a file, a log or a traceback; names and pickles never do harm."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from fmscale.errors import ConfigError
from fmscale.runs.secrets import find_secret, redact
from fmscale.runs.store import Study
from fmscale.training import checkpoint, run
from tests.helpers.training import BREAKABLE, Breakable

ROOT = Path(__file__).parents[3]
KEY = "5ec2e7" * 6 + "abcd"  # forty digits, as W&B's are


@pytest.fixture
def key(monkeypatch) -> str:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("MY_STORE_PASSWORD", "correct horse")
    return KEY


def test_secrets_and_credentials_are_masked(key):
    assert redact(f"key {key}, pass correct horse") == "key ***, pass ***"
    assert redact("GET https://me:pw@host/x?y=1") == "GET https://***@host/x?y=1"
    assert redact("https://token@host/x") == "https://***@host/x"
    for plain in ("https://host/x@y", "mail me@host", "a: b @ c", "s3://bucket/path"):
        assert redact(plain) == plain


def test_a_configuration_with_a_key_is_refused_without_printing_it(tiny, plan_one, key):
    for override in (f"logger.tags=[{key}]", "data.root='https://me:hunter22@host/text'"):
        overrides = [o for o in tiny if o != "logger=none"] + ["logger=wandb", "budget.tokens=2560"]
        with pytest.raises(ConfigError, match=r"(logger\.tags\[0\]|data\.root) holds a key") as e:
            plan_one([*overrides, override])
        assert key not in str(e.value)
        assert "hunter22" not in str(e.value)
    assert find_secret({"a": [1, {"b": "fine"}]}) is None


def files_holding(folder: Path, text: str) -> list[Path]:
    found = [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]
    return sorted(found)


def test_no_file_of_a_run_holds_the_key(tiny, plan_one, tmp_path, key, monkeypatch):
    """Trained with W&B and failed with an error that quotes the key and an address."""
    wandb = [o for o in tiny if o != "logger=none"] + ["logger=wandb", "logger.mode=offline"]
    job = plan_one([*wandb, "budget.tokens=[2560,5120]", BREAKABLE])
    run.train_trunk(job)
    run.train_branch(job, job.branches[0])
    error = RuntimeError("no answer from https://me:hunter22@wandb.example")
    error.__cause__ = OSError(f"401 for key {key}")
    monkeypatch.setattr(Breakable, "error", error)
    with pytest.raises(RuntimeError) as caught:
        run.train_branch(job, job.branches[1])
    folder = Study.open(tmp_path / "runs", "default").run(job.branches[1].run_id)
    assert folder.status()["reason"] == "RuntimeError: no answer from https://***@wandb.example"
    assert "401 for key ***" in (folder.path / "traceback.txt").read_text()
    assert key not in str(caught.value.__cause__)
    assert files_holding(tmp_path, key) == []
    assert files_holding(tmp_path, "hunter22") == []
    (tmp_path / "planted").write_text(key)
    assert files_holding(tmp_path, key) == [tmp_path / "planted"]  # the search does find it


def test_a_key_on_the_command_line_reaches_no_file(tiny, tmp_path, key):
    command = [sys.executable, "-m", "fmscale.cli", "sweep", *tiny, "budget.tokens=2560",
               f"+logger.api_key={key}"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 1
    assert "holds a key or a password" in done.stderr
    assert key not in done.stdout + done.stderr
    assert files_holding(tmp_path, key) == []


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path(os.environ["BOMB"]),))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    state = checkpoint.Checkpoint(1, {"weight": Bomb()}, {}, 0.0, "32-true")
    path = checkpoint.save(tmp_path, state)  # with a valid checksum
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoint.load(path)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(pickle.dumps(Bomb()))
    assert (tmp_path / "exploded").exists()  # the bomb would have worked


def unsafe_loads(source: str) -> list[str]:
    """Calls that can run code hidden in a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        unsafe = name.split(".")[0] in (
            "pickle",
            "dill",
            "cloudpickle",
            "shelve",
            "marshal",
            "joblib",
        ) and name.rpartition(".")[2] in ("load", "loads", "Unpickler", "open")
        unsafe |= name == "torch.load" and given.get("weights_only") != "True"
        unsafe |= (
            name in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False"
        )
        unsafe |= name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "pd.read_pickle")
        if unsafe:
            found.append(name)
    return found


def test_no_pickle_is_ever_loaded():
    for package in ("fmscale", "analysis", "experiments"):
        for path in (ROOT / package).rglob("*.py"):
            assert unsafe_loads(path.read_text()) == [], path


def test_the_search_for_unsafe_loads_can_fail():
    bad = ["pickle.load(f)", "torch.load(f)", "torch.load(f, weights_only=False)", "yaml.load(f)",
           "np.load(f, allow_pickle=True)"]  # fmt: skip
    for line in bad:
        assert unsafe_loads(line), line
    assert unsafe_loads("torch.load(f, weights_only=True); np.load(f); yaml.safe_load(f)") == []


@pytest.mark.parametrize("name", ["../other", "/etc", "a/b", ".."])
def test_a_study_in_a_configuration_cannot_leave_the_store(tiny, plan_one, name):
    with pytest.raises(ConfigError, match="is not a folder name"):
        plan_one([*tiny, "budget.tokens=2560", f"study='{name}'"])
