"""All commands have one style: help with an example, the folder of the store, exit codes."""

import subprocess
import sys

import pytest

from fmscale import cli
from fmscale.config.jobs import expand

# With a study, or a run of one, that does not exist.
OF_A_STUDY = {
    "status": ["absent"],
    "retry": ["absent"],
    "diff": ["absent/a", "absent/b"],
    "evaluate": ["absent"],
    "sample": ["--study", "absent"],
    "convert": ["absent/a", "--to", "open-clip", "--out", "out"],
    "wandb": ["push", "absent"],
    "export": ["absent", "--out", "out.csv"],
}
BY_HYDRA = ("train", "sweep")  # paths.runs_dir=FOLDER instead of --runs-dir
COMPOSING = (*BY_HYDRA, "plan")
WITHOUT_STORE = ("prepare", "coord-check")


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Calls a command; returns exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FMSCALE_RUNS_DIR", raising=False)

    def called(*words):
        monkeypatch.setattr(sys, "argv", ["fmscale", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        shown = capsys.readouterr()
        if isinstance(code, str):  # Python prints it and exits with 1
            return 1, shown.out, code
        return code, shown.out, shown.err

    return called


def test_every_command_is_of_one_kind():
    kinds = [*OF_A_STUDY, *COMPOSING, *WITHOUT_STORE, "import"]
    assert sorted(kinds) == sorted(cli.COMMANDS)


@pytest.mark.parametrize("command", [c for c in cli.COMMANDS if c not in BY_HYDRA])
def test_help_has_an_example_and_names_the_store(command, call):
    code, out, _ = call(command, "--help")
    assert code == 0
    assert f"examples:\n  fmscale {command}" in out
    assert ("--runs-dir FOLDER" in out) == (command in OF_A_STUDY or command == "import")
    assert ("FMSCALE_RUNS_DIR" in out) == ("--runs-dir" in out)


@pytest.mark.parametrize("command", OF_A_STUDY)
def test_a_study_that_does_not_exist_is_one_line_and_exit_code_1(
    command, call, tmp_path, monkeypatch
):
    words = [command, *OF_A_STUDY[command]]
    for store, (code, _, err) in {
        "runs": call(*words),
        "named": call(*words, "--runs-dir", str(tmp_path / "named")),
    }.items():
        assert code == 1
        assert err.startswith("error: ")
        assert err.strip().count("\n") == 0
        assert "absent" in err or "begins with 'a'" in err
        assert store in err
    monkeypatch.setenv("FMSCALE_RUNS_DIR", str(tmp_path / "elsewhere"))
    code, _, err = call(*words)
    assert code == 1
    assert str(tmp_path / "elsewhere") in err


@pytest.mark.parametrize("command", [*(c for c in cli.COMMANDS if c not in BY_HYDRA), ""])
def test_wrong_usage_is_exit_code_2(command, call):
    code, _, err = call(*(word for word in (command, "--no-such-option") if word))
    assert code == 2
    assert "usage: fmscale" in err


def test_sweeps_and_plans_use_the_store_of_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FMSCALE_RUNS_DIR", str(tmp_path))
    (job,) = expand(["model=gpt/1x16", "budget.tokens=1e6"])
    assert job.config["paths"]["runs_dir"] == str(tmp_path)


def test_an_imported_model_goes_to_the_store_of_the_environment(monkeypatch, tmp_path, call):
    from fmscale.commands import import_model

    asked = []
    monkeypatch.setenv("FMSCALE_RUNS_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setattr(
        import_model, "import_run", lambda *given: asked.append(given) or sys.exit(0)
    )
    assert call("import", "folder")[0] == 0
    assert asked[0][-1] == tmp_path / "elsewhere"


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    command = [sys.executable, "-m", "fmscale.cli", "prepare", str(tmp_path / "file"), "--out"]
    done = subprocess.run([*command, str(tmp_path / "file")], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
