"""A CLIP that leaves for transformers or open_clip and comes back is the same model."""

import json
import sys

import numpy as np
import pytest
import torch

from fmscale.commands import convert
from fmscale.data.scenes.captions import CaptionTokenizer
from fmscale.interchange.clip import export_clip, import_clip
from fmscale.models.clip import CLIP
from fmscale.models.vit import Pixels
from fmscale.sizing import BagShape, CLIPShape
from tests.helpers.small_clip import VOCAB, build


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(256, (3, 3, 24, 24), dtype=torch.uint8, generator=generator)
    texts = ["a photo of a red circle", "a small square", "there is a thing at the top left"]
    return image, torch.from_numpy(CaptionTokenizer().encode(texts, 20))


@pytest.mark.parametrize("activation", ["gelu", "gelu_exact", "quick_gelu"])
def test_features_and_logits_equal_those_of_transformers(activation, tmp_path):
    transformers = pytest.importorskip("transformers")
    model, (image, text) = build(activation), pairs()
    export_clip(model, tmp_path, words=CaptionTokenizer().words)
    theirs = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        out = theirs(input_ids=text, pixel_values=model.image.pixels.normalize(image))
        z_image, z_text, scale = model(image, text)
    torch.testing.assert_close(out.image_embeds, z_image, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(out.text_embeds, z_text, atol=1e-5, rtol=1e-5)
    logits = scale * z_image @ z_text.T
    torch.testing.assert_close(out.logits_per_image, logits, atol=1e-4, rtol=1e-5)


def test_the_processor_reads_captions_and_pictures_as_we_do(tmp_path):
    transformers = pytest.importorskip("transformers")
    pillow = pytest.importorskip("PIL.Image")
    model, (image, text) = build(), pairs()
    export_clip(model, tmp_path, words=CaptionTokenizer().words)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = CaptionTokenizer().decode(text.numpy())
    ids = tokenizer(texts, padding="max_length", return_tensors="np")["input_ids"]
    np.testing.assert_array_equal(ids, text.numpy())
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    pictures = [pillow.fromarray(x.permute(1, 2, 0).numpy()) for x in image]
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(pixels, model.image.pixels.normalize(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("end", [2, 63])
def test_a_model_made_by_transformers_is_read(end, tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4}  # fmt: skip
    config = transformers.CLIPConfig(
        text_config={**sizes, "vocab_size": 64, "max_position_embeddings": 16,
                     "eos_token_id": end, "bos_token_id": 62, "pad_token_id": 1},
        vision_config={**sizes, "image_size": 24, "patch_size": 6}, projection_dim=20,
    )  # fmt: skip
    theirs = transformers.CLIPModel(config).eval()
    theirs.save_pretrained(tmp_path)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    ours = import_clip(tmp_path).eval()
    image = pairs()[0]
    text = torch.randint(3, 62, (3, 16))
    text[:, 9:] = 63
    pixels = (image / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        out = theirs(input_ids=text, pixel_values=pixels)
        z_image, z_text, scale = ours(image, text)
    torch.testing.assert_close(z_image, out.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(z_text, out.text_embeds, atol=1e-5, rtol=1e-5)
    assert scale.item() == pytest.approx(theirs.logit_scale.exp().item())


def test_there_and_back_changes_no_bit(tmp_path):
    model = build("quick_gelu", Pixels((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    export_clip(model, tmp_path)
    back = import_clip(tmp_path)
    assert back.shape == model.shape
    assert back.image.pixels == model.image.pixels
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


@pytest.mark.parametrize("write", [convert.to_transformers_clip, convert.to_open_clip])
def test_mean_and_spread_of_files_go_along_with_the_model(write, tmp_path):
    data = {"_target_": "fmscale.data.webdataset", "mean": [0.4, 0.5, 0.6], "std": [0.3, 0.2, 0.1]}
    write(build(), {"data": data}, tmp_path)
    found = {}
    for path in tmp_path.glob("*.json"):
        stored = json.loads(path.read_text())
        found |= stored.get("preprocess_cfg", stored)
    assert found.get("image_mean", found.get("mean")) == data["mean"]
    assert found.get("image_std", found.get("std")) == data["std"]


def test_a_sigmoid_model_keeps_its_features_and_loses_its_bias(tmp_path):
    model = build(n_scalars=2)
    export_clip(model, tmp_path)
    image, text = pairs()
    with torch.no_grad():
        for ours, back in zip(model(image, text), import_clip(tmp_path).eval()(image, text),
                              strict=True):  # fmt: skip
            torch.testing.assert_close(ours, back)


def test_foreign_folders_and_towers_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        import_clip(tmp_path)
    bag = CLIP(CLIPShape(8, build().shape.image, BagShape(VOCAB, 20, 16)))
    with pytest.raises(ValueError, match="has VisionShape and BagShape"):
        export_clip(bag, tmp_path / "bag")
    export_clip(build(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"model_type": "siglip"}, "only clip is read"),
        ({"text_config": {**config["text_config"], "eos_token_id": 5}}, "read at token 5"),
        ({"vision_config": {**config["vision_config"], "hidden_act": "relu"}}, "'relu'"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=message):
            import_clip(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no model\.safetensors"):
        import_clip(tmp_path)


def test_a_trained_run_is_converted_on_the_command_line(tiny_clip, tmp_path, monkeypatch, capsys):
    from fmscale.config.jobs import expand
    from fmscale.training.run import train_branch

    overrides = [*tiny_clip, "budget.samples=160", "evaluation.evaluators={}"]
    (job,) = expand([*overrides, "schedule=cosine"])  # one run without a trunk
    (branch,) = job.branches
    train_branch(job, branch)
    runs, out = str(tmp_path / "runs"), tmp_path / "out"
    for target, name in (("transformers-clip", "model.safetensors"),
                         ("open-clip", "open_clip_model.safetensors")):  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["convert", branch.run_id, "--to", target, "--out",
                                          str(out / target), "--runs-dir", runs])  # fmt: skip
        convert.main()
        assert (out / target / name).exists()
    assert "written to" in capsys.readouterr().out
    assert import_clip(out / "transformers-clip").shape == job.shape
    assert (out / "transformers-clip" / "tokenizer.json").exists()
