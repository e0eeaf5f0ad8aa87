"""Zero-shot by likelihood: against a loop, among candidates, with planted answers."""

import numpy as np
import pytest
import torch
from torch import nn

from fmscale.data.scenes.dataset import Scenes
from fmscale.data.zero_shot_task import ZeroShotTask
from fmscale.evaluation.image_text.likelihood import likeliest
from fmscale.evaluation.image_text.pairs import HeldOutPairs
from fmscale.evaluation.image_text.retrieval import Retrieval
from fmscale.evaluation.image_text.zero_shot import ZeroShot
from fmscale.models.captioner import Captioner
from fmscale.models.word_predictor import WordPredictor
from fmscale.objectives.caption_likelihood import CaptionLikelihood
from fmscale.sizing import CaptionerShape, TextShape, VisionShape, WordPredictorShape


def scenes() -> Scenes:
    return Scenes(n_val_samples=64, val_batch_size=32, n_task_images=8)


def model_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    image = VisionShape(image_size=24, patch_size=8, n_layer=1, n_head=2, d_model=16)
    text = TextShape(vocab_size=87, seq_len=20, n_layer=1, n_head=2, d_model=16)
    if kind == "captioner":
        return Captioner(CaptionerShape(8, image, text))
    return WordPredictor(WordPredictorShape(8, image, text))


class Reader(nn.Module):
    """Knows the likelihood of every prompt: -(word + image)^2, summed over its words."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))

    def log_likelihood(self, vector, text):
        return -((text - vector) ** 2 * (text != 0)).sum(dim=1)


def test_the_class_with_the_likeliest_prompts_wins_among_the_candidates():
    images = np.zeros((3, 3, 4, 4), dtype=np.uint8)
    labels = np.array([0, 1, 2])
    prompts = np.array([[2, 0], [2, 0], [5, 0], [5, 0], [9, 0], [8, 0]])  # two templates a class
    vectors = torch.tensor([[1.0], [6.0], [50.0]])
    task = ZeroShotTask("t", ("a", "b", "c"), ("{}", "a {}"), images, labels)
    assert likeliest(Reader(), vectors, prompts, task).tolist() == [0, 1, 2]
    few = ZeroShotTask("t", ("a", "b", "c"), ("{}", "a {}"), images, np.array([2, 1, 0]),
                       candidates=np.array([[1, 2], [0, 1], [1, 0]]))  # fmt: skip
    assert likeliest(Reader(), vectors, prompts, few).tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", ["captioner", "word_predictor"])
def test_answers_equal_a_loop_over_images_and_prompts(kind, monkeypatch):
    monkeypatch.setattr(
        "fmscale.evaluation.image_text.likelihood.PROMPTS_AT_ONCE", 100
    )  # several parts
    model, data = model_of(kind).eval(), scenes()
    task = next(t for t in data.zero_shot_tasks if t.name == "relation")
    assert task.candidates is not None
    hits = ZeroShot().hits(model, data.tokenizer, data.seq_len, task)
    text = torch.from_numpy(data.tokenizer.encode(task.prompts(), data.seq_len))
    with torch.no_grad():
        for i, image in enumerate(torch.from_numpy(task.images)):
            nats = model(image.expand(len(text), -1, -1, -1), text)
            of_class = nats.view(len(task.class_names), -1).mean(dim=1)
            best = max(task.candidates[i], key=lambda c: of_class[c].item())
            assert bool(hits[i]) == (best == task.labels[i])


@pytest.mark.parametrize("kind", ["captioner", "word_predictor"])
def test_held_out_loss_is_that_of_the_objective_and_recall_is_missing(kind):
    model, data, objective = model_of(kind).eval(), scenes(), CaptionLikelihood()
    found = {m.column: m.value for m in HeldOutPairs()(model, data, objective)}
    with torch.no_grad():
        losses = [float(objective(model, b)["loss"]) for b in data.validation_batches(32)]
    assert found["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert "val_match_accuracy" not in found
    assert list(Retrieval(n_pairs=64)(model, data, objective)) == []
