"""Within a scope every image is encoded once; outside of it, and after it, anew."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fmscale.data.scenes.dataset import Scenes
from fmscale.evaluation.image_text.features import image_features, image_vectors, shared_features
from fmscale.evaluation.image_text.pairs import HeldOutPairs
from fmscale.evaluation.image_text.probes import Adaptation
from fmscale.evaluation.image_text.retrieval import Retrieval
from fmscale.evaluation.image_text.zero_shot import ZeroShot
from fmscale.evaluation.runner import evaluate
from fmscale.objectives.contrastive import Contrastive
from tests.helpers.small_clip import tiny_clip

DATA = Scenes(n_val_samples=64, val_batch_size=32, n_task_images=40)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.image_projection = nn.Identity()
        self.seen = 0

    def image(self, image):
        self.seen += len(image)
        return self.scale * image.flatten(1).float()


def test_each_image_is_encoded_once_within_the_scope_and_anew_outside():
    model, images = Counting(), np.ones((10, 3, 2, 2), dtype=np.uint8)
    image_features(model, images, 4)
    image_features(model, images, 4)
    assert model.seen == 20
    with shared_features():
        first = image_features(model, images, 4)
        vectors = image_vectors(model, images, 3)
        assert model.seen == 30
    torch.testing.assert_close(vectors, F.normalize(first, dim=-1))
    with torch.no_grad():
        model.scale *= 2
    with shared_features():  # nothing of the old weights is left
        torch.testing.assert_close(image_features(model, images, 4), 2 * first)


def test_vectors_are_those_of_the_whole_model():
    model = tiny_clip(DATA)
    images = DATA.zero_shot_tasks[0].images
    with torch.no_grad():
        whole = model.eval().encode_image(torch.from_numpy(images[:]))
    torch.testing.assert_close(image_vectors(model, images, 7), whole)


def test_all_evaluators_together_encode_each_image_once():
    model, data = tiny_clip(DATA), copy.copy(DATA)
    data.zero_shot_tasks = DATA.zero_shot_tasks[:3]
    seen = []
    model.image.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    evaluators = {"pairs": HeldOutPairs(), "zero_shot": ZeroShot(),
                  "adaptation": Adaptation(few_shot=(1,), seeds=(0,)),
                  "retrieval": Retrieval(n_pairs=64)}  # fmt: skip
    evaluate(model, data, Contrastive(), evaluators)
    images = [part for task in data.zero_shot_tasks
              for part in (task.images, task.fit_images) if part is not None]  # fmt: skip
    assert sum(seen) == DATA.n_val_samples + sum(len(part) for part in images)
