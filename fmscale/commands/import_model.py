"""A GPT-2 or a CLIP of transformers as a run of the store: evaluated and compared like any other.

Its record says what is known, the model, and leaves out the rest: training tokens, FLOPs, rates.
It counts as not annealed, so that no law is fitted to it by default.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from fmscale.commands.arguments import make_parser
from fmscale.config.compose import with_config_dir
from fmscale.errors import ConfigError, config_errors_exit
from fmscale.runs import config_file
from fmscale.runs.store import RunFolder, Study, now

if TYPE_CHECKING:
    from fmscale.models.clip import CLIP
    from fmscale.models.gpt import GPT

log = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"
EXAMPLE = """\
examples:
  fmscale import exported --study foreign                        # bytes, on the default text
  fmscale prepare my_texts --out my_shards --tokenizer gpt2_folder/tokenizer.json
  fmscale import gpt2_folder --study foreign data=shards data.root=my_shards
  fmscale evaluate foreign evaluation=language
  fmscale sample --study foreign --prompt "The "
  fmscale import clip_folder data=webdataset data.root=my_tars data.name=mine data.tasks=[pets]
"""


@dataclass(frozen=True)
class Format:
    """How one kind of folder becomes a run."""

    name: str
    read: Callable[[Path], Any]  # folder -> model
    settings: Callable[[Any, Path, Sequence[str]], list[str]]  # of model, budget and data
    check_tokens: Callable[[Path, Any, int], None]  # refuses data of other tokens
    measure: str  # an evaluation that suits it


def format_of(folder: Path) -> Format:
    """The format of a folder, by its config.json.

    Raises:
        ConfigError: if there is none, or of another model.
    """
    from fmscale.interchange.weights import read_object

    path = folder / "config.json"
    try:
        kind = read_object(path).get("model_type")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if kind not in FORMATS:
        raise ConfigError(f"{path}: model_type {kind!r}; known are {', '.join(FORMATS)}")
    return FORMATS[kind]


def gpt_settings(model: GPT, folder: Path, overrides: Sequence[str]) -> list[str]:
    """The sizes of a GPT, and the context of its data."""
    shape = model.shape
    sizes = {"n_layer": shape.n_layer, "n_head": shape.n_head, "d_model": shape.d_model,
             "seq_len": shape.seq_len, "vocab_size": shape.vocab_size}  # fmt: skip
    own = [f"model.shape.{key}={value}" for key, value in sizes.items()]
    if shape.d_ff is not None:
        own.append(f"+model.shape.d_ff={shape.d_ff}")
    return ["model=gpt/1x16", "budget.tokens=1e6", f"data.seq_len={shape.seq_len}", *own]


def clip_settings(model: CLIP, folder: Path, overrides: Sequence[str]) -> list[str]:
    """The sizes of a CLIP, and how its data are to be read: pixels, context, tokenizer."""
    import conf
    from fmscale.interchange.clip import transformer_towers

    image, text = transformer_towers(model.shape)
    pixels = {name: str(list(getattr(model.image.pixels, name))) for name in ("mean", "std")}
    own = [f"model.shape.d_embed={model.shape.d_embed}",
           *(f"model.pixels.{name}={value}" for name, value in pixels.items()),
           f"model.shape.image.patch_size={image.patch_size}",
           f"+model.shape.image.n_channels={image.n_channels}"]  # fmt: skip
    for name, tower in (("image", image), ("text", text)):
        sizes = {key: getattr(tower, key) for key in ("n_layer", "n_head", "d_model")}
        own += [f"model.shape.{name}.{key}={value}" for key, value in sizes.items()]
        own.append(f"+model.shape.{name}.activation={tower.activation}")
        if tower.d_ff is not None:
            own.append(f"+model.shape.{name}.d_ff={tower.d_ff}")
    own += [f"data.image_size={image.image_size}", f"data.seq_len={text.seq_len}",
            f"data.vocab_size={text.vocab_size}"]  # fmt: skip
    choice = next((o.removeprefix("data=") for o in overrides if o.startswith("data=")), "scenes")
    path = Path(next(iter(conf.__path__))) / "data" / f"{choice}.yaml"
    keys = config_file.read(path) if path.exists() else {}
    if "mean" in keys:  # files, and not images of bytes that the model normalises itself
        own += [f"data.{name}={value}" for name, value in pixels.items()]
    tokenizer = folder / TOKENIZER
    if "tokenizer" in keys and tokenizer.exists():
        own.append(f"data.tokenizer={tokenizer.resolve()}")
    return ["model=clip_imported", "data=scenes", "objective=contrastive",
            "evaluation=zero_shot", "optimizer=adamw_contrastive", "budget=samples",
            "budget.samples=1e6", *own]  # fmt: skip


def check_unseen_tokens(folder: Path, data: Any, vocab_size: int) -> None:
    """Data whose tokens cannot be compared with the model's must at least be as many, and a line
    says so: other tokens would give a loss that means nothing.

    Raises:
        ConfigError: if they are not.
    """
    unseen = f"{folder} holds no {TOKENIZER}" if not (folder / TOKENIZER).exists() else (
        "the data come without a tokenizer")  # fmt: skip
    if data.vocab_size != vocab_size:
        raise ConfigError(
            f"{unseen}, and the data have {data.vocab_size:,} tokens where the model has "
            f"{vocab_size:,}: they are not its own. Write {TOKENIZER} there (transformers."
            f"AutoTokenizer.from_pretrained(...).save_pretrained({str(folder)!r})) and name data "
            "that are read with it"
        )
    log.warning("warning: %s, so nothing shows that the data's tokens are the model's", unseen)


def check_text_tokens(folder: Path, data: Any, vocab_size: int) -> None:
    """Refuse text that was cut into other tokens than those the model learned.

    Raises:
        ConfigError: if both write a probe text differently.
    """
    from fmscale.data.text.tokenizer import PROBE, FileTokenizer, tokenizer_of

    path, tokenizer = folder / TOKENIZER, tokenizer_of(data)
    if not path.exists() or tokenizer is None:
        return check_unseen_tokens(folder, data, vocab_size)
    theirs = FileTokenizer(path, separator=0).encode_batch([PROBE])[0].tolist()
    if theirs != tokenizer.encode_batch([PROBE])[0].tolist():
        raise ConfigError(
            f"the data's tokens ({tokenizer.name}) are not those of {path}. Prepare the text with "
            f"--tokenizer {path} and name it by data=shards data.root=FOLDER."
        )
    return None


def check_caption_tokens(folder: Path, data: Any, vocab_size: int) -> None:
    """The same for captions, of which some of the data's own are the probe.

    Raises:
        ConfigError: if both write one of them differently.
    """
    from tokenizers import Tokenizer

    path = folder / TOKENIZER
    if not path.exists():
        return check_unseen_tokens(folder, data, vocab_size)
    try:
        theirs = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exceptions
        raise ConfigError(f"{path} cannot be read: {error}; fetch it again") from error
    theirs.no_padding()
    theirs.no_truncation()
    first = next(iter(data.validation_batches(data.val_batch_size)))["text"].numpy()[:16]
    texts = data.tokenizer.decode(first)
    for text, row in zip(texts, data.tokenizer.encode(texts, 4 * data.seq_len), strict=True):
        ids = np.array(theirs.encode(text).ids)
        if len(ids) > len(row) or (ids != row[: len(ids)]).any() or row[len(ids) :].any():
            raise ConfigError(
                f"the data's tokens ({data.tokenizer.name}) are not those of {path}: the caption "
                f"{text!r} differs. Choose data that are read with it: data=webdataset or "
                f"data=caption_table, and data.tokenizer={path}."
            )
    return None


def _read_gpt2(folder: Path) -> GPT:
    from fmscale.interchange.gpt import import_gpt2

    return import_gpt2(folder)


def _read_clip(folder: Path) -> CLIP:
    from fmscale.interchange.clip import import_clip

    return import_clip(folder)


# transformers' model_type -> how it is read.
FORMATS = {
    "gpt2": Format("transformers-gpt2", _read_gpt2, gpt_settings, check_text_tokens, "language"),
    "clip": Format(
        "transformers-clip", _read_clip, clip_settings, check_caption_tokens, "zero_shot"
    ),
}


def configuration(
    own: Sequence[str], overrides: Sequence[str], vocab_size: int, study: str, runs_dir: str
) -> dict[str, Any]:
    """The configuration of the run: the model's sizes, and the data that are named.

    Args:
        own: from `Format.settings`; what the user names comes before them.

    Raises:
        ConfigError: for data of another context or of tokens that the model does not know.
    """
    from fmscale.config.jobs import expand

    given = {override.split("=")[0].lstrip("+") for override in overrides}
    for key, option in (("study", "--study"), ("paths.runs_dir", "--runs-dir")):
        if key in given:
            raise ConfigError(f"{key} is given by {option}, which says where the run goes")
    own = [o for o in own if o.split("=")[0].lstrip("+") not in given]
    # Budget and schedule are asked for by every configuration; this run has neither.
    jobs = expand([
        "schedule=constant", "batch_size=2", "budget.max_epochs=1e9",
        f"study={study}", f"paths.runs_dir={runs_dir}", *own, *overrides,
    ])  # fmt: skip
    if len(jobs) != 1:
        raise ConfigError("one folder makes one run; name one data set")
    config = jobs[0].config
    if config["data"]["vocab_size"] > vocab_size:
        raise ConfigError(
            f"data.vocab_size = {config['data']['vocab_size']}, but the model has "
            f"{vocab_size}. Choose data of its tokens, such as data=shards."
        )
    return config


def import_run(folder: Path, overrides: Sequence[str], study: str, runs_dir: str) -> RunFolder:
    """Write the run; one that is there already is left alone.

    Raises:
        ConfigError: for another kind of model, or data that do not fit.
    """
    from fmscale.config.build import build_data
    from fmscale.interchange.weights import weight_files
    from fmscale.training import checkpoint

    form = format_of(folder)
    try:
        model = form.read(folder)
        digest = hashlib.sha256()
        for path in [folder / "config.json", *weight_files(folder)]:
            digest.update(path.read_bytes())
        where = Study.open(runs_dir, study)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
    vocab_size = model.shape.vocabulary
    own = form.settings(model, folder, overrides)
    config = configuration(own, overrides, vocab_size, study, runs_dir)
    data: Any = build_data(config)
    try:
        form.check_tokens(folder, data, vocab_size)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    source = {"format": form.name, "folder": folder.name, "sha256": digest.hexdigest()}
    run = where.run(f"{model.shape.label}-imported-{digest.hexdigest()[:10]}")
    if run.is_finished():
        return run
    run.create(config_file.write({**config, "imported": source}))
    weights = checkpoint.Checkpoint(0, model.state_dict(), {}, 0.0, "32-true")
    checkpoint.save(run.checkpoints, weights)
    run.write_record(_record(run.run_id, study, model, data, source))
    run.set_status("completed")
    return run


def _record(run_id: str, study: str, model: Any, data: Any, source: dict[str, str]) -> Any:
    from fmscale.runs.provenance import environment, git_state
    from fmscale.runs.record import RunRecord

    shape = model.shape
    return RunRecord(
        run_id=run_id,
        study=study,
        family=shape.family,
        unit=shape.unit,
        family_metrics=list(shape.metrics),
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
    parser = make_parser("import", __doc__, EXAMPLE, composes=True)
    parser.add_argument("folder", type=Path, help="as transformers' save_pretrained writes it")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="the data to measure on")
    parser.add_argument("--study", default="imported", help="where the run goes")
    options = parser.parse_intermixed_args()
    with config_errors_exit():
        overrides = with_config_dir(options.overrides, options.config_dir)
        run = import_run(options.folder, overrides, options.study, options.runs_dir)
        Console().print(
            f"{options.folder} is run {run.run_id} of study {options.study}; measure it by\n"
            f"  fmscale evaluate {options.study} evaluation={format_of(options.folder).measure}",
            highlight=False,
        )
