"""Zero-shot accuracy: a perfect encoder gets everything right, a random one chance."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.data.scenes.dataset import Scenes
from fmscale.data.zero_shot_task import ZeroShotTask
from fmscale.evaluation.image_text.zero_shot import ZeroShot
from fmscale.evaluation.runner import evaluate
from fmscale.objectives.contrastive import Contrastive

DATA = Scenes(n_val_samples=2, val_batch_size=2, n_task_images=128)
NAMED = [task for task in DATA.zero_shot_tasks if task.named]


class TextOnly(nn.Module):
    """A random but fixed feature for every text; images are left to subclasses."""

    def __init__(self, data: Scenes) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(data.seq_len, data.vocab_size, 64))

    def encode_text(self, text: Tensor) -> Tensor:
        return F.normalize(self.table[torch.arange(text.shape[1]), text].sum(dim=1), dim=-1)


class Oracle(TextOnly):
    """Knows the label of every task image, and answers with that class's own text feature."""

    def __init__(self, data: Scenes) -> None:
        super().__init__(data)
        self.answers: dict[bytes, Tensor] = {}
        for task in data.zero_shot_tasks:
            if not task.named:
                continue
            classifier = ZeroShot().classifier(self, data.tokenizer, data.seq_len, task)
            for image, label in zip(task.images, task.labels, strict=True):
                self.answers[image.tobytes()] = classifier[label]

    def encode_image(self, image: Tensor) -> Tensor:
        return torch.stack([self.answers[row.numpy().tobytes()] for row in image])


class Guessing(TextOnly):
    def encode_image(self, image: Tensor) -> Tensor:
        # Its own generator, so that nothing depends on what was drawn before.
        generator = torch.Generator().manual_seed(int(image.long().sum()))
        return F.normalize(torch.randn(len(image), 64, generator=generator), dim=-1)


def test_an_oracle_is_always_right() -> None:
    found = evaluate(Oracle(DATA), DATA, Contrastive(), {"zero_shot": ZeroShot(batch_size=50)})
    accuracies = {k: v for k, v in found.metrics.items() if k.endswith("_accuracy")}
    assert set(accuracies) == {f"zero_shot_{task.name}_accuracy" for task in NAMED}
    assert len(accuracies) >= 8
    assert set(accuracies.values()) == {1.0}
    assert found.metrics["zero_shot_error"] == pytest.approx(0)
    assert set(found.units.values()) == {"fraction"}


def test_guessing_is_right_by_chance() -> None:
    found = evaluate(Guessing(DATA), DATA, Contrastive(), {"zero_shot": ZeroShot()}).metrics
    for task in NAMED:
        assert found[f"zero_shot_{task.name}_chance"] == task.chance
        accuracy = found[f"zero_shot_{task.name}_accuracy"]
        scatter = (task.chance * (1 - task.chance) / 128) ** 0.5
        assert abs(accuracy - task.chance) < 5 * scatter, task.name
    error, chance = found["zero_shot_error"], found["zero_shot_chance_error"]
    assert abs(error - chance) < 5 * found["zero_shot_error_standard_error"]
    assert 0 < found["zero_shot_error_standard_error"] < 0.02


def test_a_class_is_the_unit_mean_of_its_prompts() -> None:
    model = TextOnly(DATA)
    task = DATA.zero_shot_tasks[0]
    classifier = ZeroShot(batch_size=3).classifier(model, DATA.tokenizer, DATA.seq_len, task)
    for row, name in zip(classifier, task.class_names, strict=True):
        texts = [template.format(name) for template in task.templates]
        features = model.encode_text(torch.from_numpy(DATA.tokenizer.encode(texts, DATA.seq_len)))
        mean = features.mean(dim=0)
        torch.testing.assert_close(row, mean / mean.norm())


def test_candidates_restrict_the_answer() -> None:
    whole = DATA.zero_shot_tasks[0]
    pair = np.stack([whole.labels, (whole.labels + 1) % len(whole.class_names)], axis=1)
    restricted = replace(whole, candidates=pair)
    assert restricted.chance == 0.5
    model = Guessing(DATA)
    hits = ZeroShot().hits(model, DATA.tokenizer, DATA.seq_len, restricted)
    features = model.encode_image(torch.from_numpy(whole.images))
    cosines = features @ ZeroShot().classifier(model, DATA.tokenizer, DATA.seq_len, whole).T
    own = cosines.gather(1, torch.from_numpy(pair))
    assert torch.equal(hits, own[:, 0] > own[:, 1])


def test_one_task_may_be_chosen_and_an_unknown_one_is_an_error() -> None:
    model = Guessing(DATA)
    found = evaluate(model, DATA, Contrastive(), {"z": ZeroShot(tasks=["color"])}).metrics
    assert found["zero_shot_error"] == pytest.approx(1 - found["zero_shot_color_accuracy"])
    with pytest.raises(ValueError, match="unknown or none"):
        list(ZeroShot(tasks=["smell"])(model, DATA, Contrastive()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ()}, "class_names is empty"),
        ({"class_names": ("red", "red")}, r"has \['red'\] more than once"),
        ({"templates": ()}, "templates is empty"),
        ({"templates": ("a thing",)}, "needs exactly one {}"),
        ({"labels": np.zeros(3, dtype=int)}, "2 images and 3 labels"),
    ],
)
def test_unusable_tasks_are_errors(changes: dict[str, object], message: str) -> None:
    settings: dict[str, object] = {
        "name": "toy",
        "class_names": ("red", "blue"),
        "templates": ("a {} thing",),
        "images": np.zeros((2, 3, 16, 16), dtype=np.uint8),
        "labels": np.array([0, 1]),
    }
    ZeroShotTask(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        ZeroShotTask(**{**settings, **changes})  # type: ignore[arg-type]
