"""A CLIP of transformers as a run: read with its own pixels and tokens, with the same numbers."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from fmscale.commands import evaluate, import_model
from fmscale.commands.convert import load_run
from fmscale.data.scenes.captions import CaptionTokenizer
from fmscale.data.scenes.dataset import Scenes
from fmscale.evaluation import runner
from fmscale.evaluation.image_text.pairs import HeldOutPairs, pair_losses
from fmscale.interchange.clip import export_clip
from fmscale.objectives.contrastive import Contrastive
from fmscale.runs.store import Study
from tests.helpers.pair_files import scene_pairs, write_classes, write_shards
from tests.helpers.small_clip import build

transformers = pytest.importorskip("transformers")

MEAN, STD = [0.4, 0.5, 0.6], [0.3, 0.25, 0.2]


def tokenizer_file(path) -> int:
    """Words with CLIP's own start and end, the end last, as tokenizer.json; returns its size."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = sorted({word for caption in scene_pairs(400)[1] for word in caption.split()})
    words += ["red", "green", "blue", "one", "photo", "of", "a", "the", ".", "!"]
    words = ["<unk>", *dict.fromkeys(words), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(word, vocabulary[word]) for word in ("<|startoftext|>", "<|endoftext|>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=ends
    )
    tokenizer.save(str(path))
    return len(words)


@pytest.fixture
def folder(tmp_path):
    """A CLIPModel over images of 24 pixels, with tokenizer and processor."""
    torch.manual_seed(0)
    path = tmp_path / "theirs"
    path.mkdir()
    n_vocab = tokenizer_file(path / "tokenizer.json")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4, "projection_dim": 20}  # fmt: skip
    config = transformers.CLIPConfig(
        text_config={**sizes, "vocab_size": n_vocab, "max_position_embeddings": 24,
                     "eos_token_id": n_vocab - 1, "bos_token_id": n_vocab - 2},
        vision_config={**sizes, "image_size": 24, "patch_size": 6, "hidden_act": "gelu"},
        projection_dim=20,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN,
                                                               "image_std": STD}))  # fmt: skip
    return path


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    def command(module, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["fmscale", *words, "--runs-dir", str(tmp_path / "runs")])
        module.main()
        return capsys.readouterr().out

    return command


def files(tmp_path) -> list[str]:
    """Pairs in tars, and a task, both as others leave them."""
    return ["data=webdataset", f"data.root={write_shards(tmp_path / 'tars', 2, 40)}",
            "data.name=mine", f"data.tasks=[{write_classes(tmp_path / 'colors')}]",
            "data.n_val_samples=32", "data.val_batch_size=16",
            f"paths.data_dir={tmp_path / 'data'}", "logger=none"]  # fmt: skip


def test_a_foreign_clip_is_measured_on_ones_own_files_as_transformers_would(folder, call, tmp_path):
    printed = call(import_model, str(folder), "--study", "foreign", *files(tmp_path))
    assert "evaluation=zero_shot" in printed
    (run,) = Study(tmp_path / "runs" / "foreign").runs()
    call(evaluate, "foreign", "evaluation=zero_shot")
    record = run.record()

    theirs = transformers.CLIPModel.from_pretrained(folder).eval()
    from fmscale.config.build import build_data

    data = build_data(load_run(run)[1])
    losses = []
    with torch.no_grad():
        for batch in data.validation_batches(16):
            out = theirs(input_ids=batch["text"], pixel_values=batch["image"])
            losses.append(pair_losses(out.logits_per_image))
    assert record.metrics["val_loss"] == pytest.approx(float(torch.cat(losses).mean()), abs=1e-5)
    assert record.n_params_total == sum(p.numel() for p in theirs.parameters())
    assert record.data["mean"] == MEAN
    (task,) = data.zero_shot_tasks
    prompts = torch.from_numpy(data.tokenizer.encode(task.prompts(), data.seq_len))
    with torch.no_grad():
        text = theirs.get_text_features(input_ids=prompts)
        text = getattr(text, "pooler_output", text)
        text = torch.nn.functional.normalize(text, dim=-1)
        text = text.view(len(task.class_names), -1, text.shape[-1]).mean(dim=1)
        image = theirs.get_image_features(
            pixel_values=torch.from_numpy(task.images[0 : len(task.labels)])
        )
        image = getattr(image, "pooler_output", image)
    found = (image @ torch.nn.functional.normalize(text, dim=-1).T).argmax(dim=1).numpy()
    accuracy = float(np.mean(found == task.labels))
    assert record.metrics[f"zero_shot_{task.name}_accuracy"] == pytest.approx(accuracy)


def test_a_clip_that_left_comes_back_as_a_run_with_the_same_loss(call, tmp_path):
    model = build()
    export_clip(model, tmp_path / "ours", words=CaptionTokenizer().words)
    small = ["data.n_val_samples=64", "data.val_batch_size=32", "data.n_task_images=16"]
    call(import_model, str(tmp_path / "ours"), "--study", "back", "logger=none", *small)
    (run,) = Study(tmp_path / "runs" / "back").runs()
    call(evaluate, "back", "evaluation=zero_shot")
    data = Scenes(n_val_samples=64, val_batch_size=32, n_task_images=16)
    expected = runner.evaluate(model, data, Contrastive(), {"pairs": HeldOutPairs()}).metrics
    assert run.record().metrics["val_loss"] == pytest.approx(expected["val_loss"], abs=1e-6)


def test_captions_of_other_tokens_are_refused_before_anything_is_written(folder, call, tmp_path):
    other = tmp_path / "other.json"
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    words = [w for w in vocabulary if not w.startswith("<")]
    for word, successor in zip(words, words[1:] + words[:1], strict=True):
        tokenizer["model"]["vocab"][word] = list(vocabulary).index(successor)
    other.write_text(json.dumps(tokenizer))
    with pytest.raises(SystemExit, match="are not those of .* differs"):
        call(import_model, str(folder), *files(tmp_path), f"data.tokenizer={other}")
    assert not (tmp_path / "runs" / "imported").exists()


def test_data_and_folders_that_do_not_fit_are_named(folder, call):
    with pytest.raises(SystemExit, match="scene captions use 87 tokens"):
        call(import_model, str(folder), "logger=none")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(SystemExit, match="model_type 'bert'; known are gpt2, clip"):
        call(import_model, str(folder))
