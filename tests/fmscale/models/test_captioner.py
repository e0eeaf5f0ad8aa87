"""Models that predict captions: likelihoods by hand, counts, what they see and what they do not."""

import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fmscale.models.captioner import Captioner
from fmscale.models.word_predictor import WordPredictor
from fmscale.objectives.caption_likelihood import CaptionLikelihood
from fmscale.optim.param_groups import adamw
from fmscale.sizing import BagShape, CaptionerShape, ResNetShape, TextShape, WordPredictorShape
from tests.helpers.small_clip import pairs, tiny

RESNET = ResNetShape(image_size=12, width=4, n_blocks=(1,))


def shapes() -> list[CaptionerShape | WordPredictorShape]:
    clip = tiny()
    return [
        kind(d_embed=8, image=image, text=clip.text)
        for kind in (CaptionerShape, WordPredictorShape)
        for image in (clip.image, RESNET)
    ]


def build(shape: CaptionerShape | WordPredictorShape) -> Captioner | WordPredictor:
    torch.manual_seed(0)
    return Captioner(shape) if isinstance(shape, CaptionerShape) else WordPredictor(shape)


def captions(n: int) -> torch.Tensor:
    """(n, 6): one to five words, the end (id 31), padding."""
    rows = torch.zeros(n, 6, dtype=torch.int64)
    for i in range(n):
        length = i % 5 + 1
        rows[i, :length] = torch.randint(1, 31, (length,))
        rows[i, length] = 31
    return rows


@pytest.mark.parametrize("shape", shapes(), ids=lambda s: f"{s.family}-{s.label}")
def test_every_parameter_is_counted_in_its_group_and_decayed_or_not(shape):
    model = build(shape)
    counted = {name: sum(p.numel() for p in ps) for name, ps in model.param_groups().items()}
    assert counted == shape.param_groups()
    assert sum(counted.values()) == sum(p.numel() for p in model.parameters())
    assert 0 < shape.n_params_non_embedding <= shape.n_params_total
    decayed = adamw(model, lr=1e-3).param_groups
    assert sum(len(group["params"]) for group in decayed) == len(list(model.parameters()))


@pytest.mark.parametrize("shape", shapes()[::2], ids=lambda s: s.family)
def test_work_equals_torch_counter_up_to_what_nobody_reads(shape):
    model, n = build(shape), 3
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        batch = {"image": torch.rand(n, 3, 12, 12), "text": captions(n)}
        CaptionLikelihood()(model, batch)["loss"].backward()
    not_computed = 2 * shape.image.n_patches * shape.param_groups()["image_patch"]
    not_computed += 3 * shape.image.unread_flops(shape.image.n_positions)
    expected = n * (shape.train_flops_per_unit(n)["flops"] - not_computed)
    assert counter.get_total_flops() == expected
    assert sum(shape.forward_macs().values()) * 6 == shape.train_flops_per_unit(n)["flops"]


def test_a_caption_is_as_likely_as_its_words_one_after_the_other():
    model = build(shapes()[0])
    image, text = pairs(4)["image"], captions(4)
    likelihood = model(image, text)
    for i, row in enumerate(text.tolist()):
        words = row[: row.index(31) + 1]
        total = 0.0
        for t, word in enumerate(words):
            # Nothing after the word is given: a decoder that looked ahead would differ.
            before = torch.tensor([words[:t] + [1] * (6 - t)])
            logits = model.decode(model.encode_image(image[i : i + 1]), before)
            total += logits[0, t].log_softmax(0)[word].item()
        assert likelihood[i].item() == pytest.approx(total, rel=1e-4)


def test_a_set_of_words_is_as_likely_as_all_answers_together():
    model = build(shapes()[2])
    image, text = pairs(4)["image"], captions(4)
    probability = model.words(model.encode_image(image)).sigmoid()
    for i, row in enumerate(text.tolist()):
        total = sum(
            math.log(p if word in set(row) - {0} else 1 - p)
            for word, p in enumerate(probability[i].tolist())
        )
        assert model(image, text)[i].item() == pytest.approx(total, rel=1e-4)
    shuffled = text[:, torch.randperm(6)]
    torch.testing.assert_close(model(image, text), model(image, shuffled))


def test_untrained_models_guess_evenly():
    torch.manual_seed(0)
    text, image = captions(64), pairs(64)["image"]
    n_tokens = (text != 0).sum(dim=1).float().mean().item()
    captioner = CaptionLikelihood()(build(shapes()[0]), {"image": image, "text": text})["loss"]
    assert captioner.item() == pytest.approx(n_tokens * math.log(32), rel=0.05)


@pytest.mark.parametrize("shape", shapes(), ids=lambda s: f"{s.family}-{s.label}")
def test_all_combinations_learn_which_caption_belongs_to_which_image(shape):
    model = build(shape)
    batch = {"image": pairs(8)["image"], "text": captions(8)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = CaptionLikelihood()(model, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()  # batch norms of the residual network
    with torch.no_grad():
        vector = model.encode_image(batch["image"])
        scores = torch.stack([model.log_likelihood(v.expand(8, -1), batch["text"]) for v in vector])
    assert (scores.argmax(dim=0) == torch.arange(8)).double().mean() > 0.7


def test_a_bag_of_words_cannot_write():
    with pytest.raises(ValueError, match="no order of words"):
        CaptionerShape(d_embed=8, image=RESNET, text=BagShape(32, 6, 16))


def test_longer_captions_than_the_decoder_are_refused():
    model = build(CaptionerShape(d_embed=8, image=RESNET, text=TextShape(
        n_layer=1, n_head=1, d_model=8, vocab_size=32, seq_len=4)))  # fmt: skip
    with pytest.raises(ValueError, match="6 tokens exceed seq_len=4"):
        model(pairs(2)["image"], captions(2))
