"""A trained run in the format of another library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmscale.commands.arguments import make_parser
from fmscale.config.trust import stored_config
from fmscale.errors import config_errors_exit
from fmscale.runs.find import FORMS, find
from fmscale.runs.store import RunFolder

if TYPE_CHECKING:
    from fmscale.data.text.tokenizer import ByteTokenizer, FileTokenizer

EXAMPLE = """\
examples:
  fmscale convert gpt_2x24-524k-s1-20fe0f3392 --to transformers-gpt2 --out exported
  python -c "from transformers import AutoModelForCausalLM as M; M.from_pretrained('exported')"
  fmscale convert clip_2x48-131k-s1-0a1b2c3d4e --to transformers-clip --out exported
  fmscale convert clip_2x48-131k-s1-0a1b2c3d4e --to open-clip --out exported
  lm_eval --model hf --model_args pretrained=exported --tasks wikitext   # lm-evaluation-harness
"""


def to_transformers_gpt2(model: Any, config: dict[str, Any], out: Path) -> None:
    """GPT as transformers' GPT2LMHeadModel, with the tokenizer of its data where they are text."""
    from fmscale.interchange.gpt import export_gpt2

    export_gpt2(model, out, load_tokenizer(config))


def to_transformers_clip(model: Any, config: dict[str, Any], out: Path) -> None:
    """CLIP as transformers' CLIPModel, with a processor, and a tokenizer for captions of scenes."""
    from fmscale.interchange.clip import export_clip

    _take_pixels(model, config)
    export_clip(model, out, words=_scene_words(config))


def to_open_clip(model: Any, config: dict[str, Any], out: Path) -> None:
    """CLIP under the names of open_clip, with its configuration file."""
    from fmscale.interchange.open_clip import export_open_clip

    _take_pixels(model, config)
    export_open_clip(model, out)


def _take_pixels(model: Any, config: dict[str, Any]) -> None:
    """Where the data normalise the images, their mean and spread go along with the model."""
    from fmscale.models.vit import Pixels

    if "mean" in config["data"]:
        model.image.pixels = Pixels(config["data"]["mean"], config["data"]["std"])


def _scene_words(config: dict[str, Any]) -> tuple[str, ...] | None:
    """The vocabulary of rendered scenes; None for other data, whose tokenizer is the user's."""
    from fmscale.config.build import target_of
    from fmscale.data.scenes.captions import CaptionTokenizer
    from fmscale.data.scenes.dataset import Scenes

    return CaptionTokenizer().words if target_of(config["data"]) is Scenes else None


# Target -> family of models it takes, and what writes it.
TARGETS: dict[str, tuple[str, Callable[[Any, dict[str, Any], Path], None]]] = {
    "transformers-gpt2": ("gpt", to_transformers_gpt2),
    "transformers-clip": ("clip", to_transformers_clip),
    "open-clip": ("clip", to_open_clip),
}


def load_run(folder: RunFolder) -> tuple[Any, dict[str, Any]]:
    """The trained model of a finished run and its configuration.

    Raises:
        ValueError: if the run is not finished.
    """
    from fmscale.config.build import build_model
    from fmscale.training import checkpoint

    if not folder.is_finished():
        raise ValueError(f"run {folder.run_id} is not finished; see fmscale status")
    config = stored_config(folder, replaced=("evaluation", "logger", "objective", "optimizer"))
    steps = checkpoint.steps_saved(folder.checkpoints)
    if not steps:
        raise ValueError(f"run {folder.run_id} kept no weights in {folder.checkpoints}")
    model = build_model(config)
    model.load_state_dict(checkpoint.load(checkpoint.path_of(folder.checkpoints, steps[-1])).model)
    return model.eval(), config


def load_tokenizer(config: dict[str, Any]) -> ByteTokenizer | FileTokenizer | None:
    """The tokenizer of a run's data; None where its tokens stand for no text."""
    from fmscale.config.build import build_data
    from fmscale.data.text.tokenizer import ByteTokenizer

    if config["data"]["vocab_size"] == ByteTokenizer.vocab_size:
        return ByteTokenizer()  # the text itself may be gone
    data: Any = build_data(config)
    return getattr(data, "tokenizer", None) if data.unit == "tokens" else None


def main() -> None:
    """Entry point of `fmscale convert`."""
    parser = make_parser("convert", __doc__, EXAMPLE)
    parser.add_argument("run", help=FORMS)
    parser.add_argument("--to", required=True, choices=sorted(TARGETS), help="the format")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    options = parser.parse_args()
    family, write = TARGETS[options.to]
    with config_errors_exit(ValueError, OSError):
        model, config = load_run(find(options.runs_dir, options.run))
        if model.shape.family != family:
            raise ValueError(f"--to {options.to} takes a {family}, not a {model.shape.family}")
        write(model, config, options.out)
    print(f"{options.run} written to {options.out} as {options.to}")
