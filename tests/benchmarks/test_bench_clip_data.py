"""Speed of what surrounds a CLIP's training: rendering, reading pairs, probes.

Rendering takes turns with training steps of the smallest size on one thread, so that both share
whatever else the machine is doing. Nothing is asserted about time.
"""

import statistics
import time

import numpy as np
import pytest
import torch
from rich.console import Console

from fmscale.data.image_text.image_text import webdataset
from fmscale.data.scenes.dataset import Scenes
from fmscale.evaluation.image_text.probes import Adaptation, Features
from fmscale.models.clip import CLIP
from fmscale.objectives.contrastive import Contrastive
from fmscale.sizing import CLIPShape, TextShape, VisionShape
from tests.helpers.pair_files import write_shards

pytestmark = pytest.mark.bench

BATCH_SIZE, ROUNDS = 64, 60


def smallest(data):
    image = VisionShape(image_size=data.image_size, patch_size=4, n_layer=1, n_head=1, d_model=16)
    text = TextShape(vocab_size=data.vocab_size, seq_len=data.seq_len, n_layer=1, n_head=1,
                     d_model=16)  # fmt: skip
    return CLIP(CLIPShape(16, image, text))


def seconds(call):
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def test_rendering_against_the_smallest_models_appetite(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        scenes = Scenes(n_val_samples=2, val_batch_size=2)
        pairs = webdataset(str(write_shards(tmp_path / "shards", 3, 200)), name="bench",
                           data_dir=tmp_path / "data", image_size=24, n_val_samples=64,
                           val_batch_size=32)  # fmt: skip
        pairs.prepare()
        model = smallest(scenes)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

        def step(batch):
            loss = Contrastive()(model, batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        spent = {"render": [], "read": [], "train": []}
        for i in range(ROUNDS):
            items = np.arange(i * BATCH_SIZE, (i + 1) * BATCH_SIZE)
            taken, batch = seconds(lambda items=items: scenes.train_batch(items))
            spent["render"].append(taken)
            taken, _ = seconds(lambda items=items: pairs.augmented_batch(items % 500, 0, 1))
            spent["read"].append(taken)
            spent["train"].append(seconds(lambda batch=batch: step(batch))[0])
    finally:
        torch.set_num_threads(threads)
    median = {name: statistics.median(values[5:]) for name, values in spent.items()}
    Console().print(
        f"a batch of {BATCH_SIZE} on one thread: clip_1x16 trains in "
        f"{1e3 * median['train']:.2f} ms; "
        f"scenes render {median['train'] / median['render']:.1f} times as fast, kept tars are read "
        f"{median['train'] / median['read']:.1f} times as fast"
    )


def test_probe_and_neighbours_on_ten_thousand_features():
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((10, 128))
    labels = np.arange(10_000) % 10
    x = centers[labels] + 4.0 * rng.standard_normal((10_000, 128))
    features = Features("blobs", x[:8000], labels[:8000], x[8000:], labels[8000:])
    taken, found = seconds(lambda: Adaptation()._accuracies(features))
    Console().print(
        f"probe with its sweep, neighbours and 15 few-shot probes on 10,000 features of width 128: "
        f"{taken:.1f} s on one thread; probe {found['probe']:.3f}, neighbours {found['knn']:.3f}"
    )
