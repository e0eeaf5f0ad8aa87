"""A GPT-2 of transformers as a run of the store: evaluated, sampled, compared like any other.

Its record says what is known, the model, and leaves out the rest: training tokens, FLOPs, rates.
It counts as not annealed, so that no law is fitted to it by default.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console

from fmscale.runs.store import RunFolder, Study, now
from fmscale.settings import ConfigError, config_errors_exit

if TYPE_CHECKING:
    from fmscale.data.tokenizer import TextTokenizer
    from fmscale.models.gpt import GPT

EXAMPLE = """\
examples:
  fmscale import exported --study foreign                        # bytes, on the default text
  fmscale prepare my_texts --out my_shards --tokenizer gpt2_folder/tokenizer.json
  fmscale import gpt2_folder --study foreign data=shards data.root=my_shards
  fmscale evaluate foreign evaluation=language
  fmscale sample --study foreign --prompt "The "
"""
FORMAT = "transformers-gpt2"
PROBE = "def f(x):\n    return 'ä €' + x\tThe quick brown fox; 1,234.5"


def settings_of(model: GPT, overrides: Sequence[str], study: str, runs_dir: str) -> dict[str, Any]:
    """The configuration of the run: the model's sizes, and the data that are named.

    Raises:
        ConfigError: for data of another context or of tokens that the model does not know.
    """
    from fmscale.plan import expand

    shape = model.shape
    sizes = {"n_layer": shape.n_layer, "n_head": shape.n_head, "d_model": shape.d_model,
             "seq_len": shape.seq_len, "vocab_size": shape.vocab_size}  # fmt: skip
    own = [f"model.shape.{key}={value}" for key, value in sizes.items()]
    if shape.d_ff is not None:
        own.append(f"+model.shape.d_ff={shape.d_ff}")
    given = {override.split("=")[0] for override in overrides}
    if "data.seq_len" not in given:
        own.append(f"data.seq_len={shape.seq_len}")
    # Budget and schedule are asked for by every configuration; this run has neither.
    jobs = expand([
        "model=gpt_1x16", "schedule=constant", "batch_size=1", "budget.tokens=1e6",
        "budget.max_epochs=1e9", f"study={study}", f"paths.runs_dir={runs_dir}", *own, *overrides,
    ])  # fmt: skip
    if len(jobs) != 1:
        raise ConfigError("one folder makes one run; name one data set")
    config = jobs[0].config
    if config["data"]["vocab_size"] > shape.vocab_size:
        raise ConfigError(
            f"data.vocab_size = {config['data']['vocab_size']}, but the model has "
            f"{shape.vocab_size}. Choose data of its tokens, such as data=shards."
        )
    return config


def check_tokenizer(folder: Path, tokenizer: TextTokenizer | None) -> None:
    """Refuse data that were cut into other tokens than those the model learned.

    Raises:
        ConfigError: if both write a probe text differently.
    """
    from fmscale.data.tokenizer import FileTokenizer

    path = folder / "tokenizer.json"
    if not path.exists() or tokenizer is None:
        return
    theirs = FileTokenizer(path, separator=0).encode_batch([PROBE])[0].tolist()
    if theirs != tokenizer.encode_batch([PROBE])[0].tolist():
        raise ConfigError(
            f"the data's tokens ({tokenizer.name}) are not those of {path}. Prepare the text with "
            f"--tokenizer {path} and name it by data=shards data.root=FOLDER."
        )


def import_run(folder: Path, overrides: Sequence[str], study: str, runs_dir: str) -> RunFolder:
    """Write the run; one that is there already is left alone.

    Raises:
        ConfigError: for another kind of model, or data that do not fit.
    """
    from fmscale.build import build_data
    from fmscale.interchange.gpt import import_gpt2, weight_files
    from fmscale.training import checkpoint

    try:
        model = import_gpt2(folder)
        digest = hashlib.sha256()
        for path in [folder / "config.json", *weight_files(folder)]:
            digest.update(path.read_bytes())
        where = Study.open(runs_dir, study)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(str(error)) from error
    config = settings_of(model, overrides, study, runs_dir)
    data: Any = build_data(config)
    check_tokenizer(folder, getattr(data, "tokenizer", None))
    source = {"format": FORMAT, "folder": folder.name, "sha256": digest.hexdigest()}
    run = where.run(f"{model.shape.label}-imported-{digest.hexdigest()[:10]}")
    if run.is_finished():
        return run
    run.create(yaml.safe_dump({**config, "imported": source}, sort_keys=False))
    weights = checkpoint.Checkpoint(0, model.state_dict(), {}, 0.0, "32-true")
    checkpoint.save(run.checkpoints, weights)
    run.write_record(_record(run.run_id, study, model, data, source))
    run.set_status("completed")
    return run


def _record(run_id: str, study: str, model: GPT, data: Any, source: dict[str, str]) -> Any:
    from fmscale.runs.provenance import environment, git_state
    from fmscale.runs.record import RunRecord

    shape = model.shape
    return RunRecord(
        run_id=run_id,
        study=study,
        family=shape.family,
        model=shape.label,
        trunk_id=run_id,
        seed=None,
        status="completed",
        annealed=False,
        schedule="imported",
        n_params_total=shape.n_params_total,
        n_params_non_embedding=shape.n_params_non_embedding,
        n_params_matmul=shape.n_params_matmul,
        n_params_by_group=shape.param_groups(),
        hyperparameters={"imported": source},
        data=data.describe(),
        environment=environment(),
        git=git_state(),
        val_batch_size=data.val_batch_size,
        started_at=now(),
        finished_at=now(),
    )


def main() -> None:
    """Entry point of `fmscale import`."""
    parser = argparse.ArgumentParser(
        prog="fmscale import",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="as transformers' save_pretrained writes it")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the data to measure on")
    parser.add_argument("--study", default="imported", help="where the run goes")
    parser.add_argument("--runs-dir", default=os.environ.get("FMSCALE_RUNS_DIR", "runs"))
    options = parser.parse_intermixed_args()
    with config_errors_exit():
        run = import_run(options.folder, options.overrides, options.study, options.runs_dir)
        Console().print(
            f"{options.folder} is run {run.run_id} of study {options.study}; measure it by\n"
            f"  fmscale evaluate {options.study} evaluation=language",
            highlight=False,
        )


if __name__ == "__main__":
    main()
