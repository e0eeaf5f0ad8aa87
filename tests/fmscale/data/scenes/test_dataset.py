"""Scenes as training data: pure batches, fixed validation, stated floor, clear errors."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from fmscale.data.protocol import TrainingData
from fmscale.data.scenes.dataset import Scenes
from fmscale.data.scenes.grammar import SceneGrammar, held_out_concepts
from fmscale.data.scenes.loss_floor import collision_floor
from tests.helpers.caption_reader import read


def small(**changes: object) -> Scenes:
    settings: dict[str, object] = {"n_val_samples": 100, "val_batch_size": 32, "n_task_images": 8}
    return Scenes(**{**settings, **changes})  # type: ignore[arg-type]


def test_it_is_training_data() -> None:
    data = small(n_unique_samples=1000)
    assert isinstance(data, TrainingData)
    assert (data.unit, data.units_per_item, data.n_items) == ("samples", 1, 1000)
    data.prepare()


def test_a_batch_is_a_pure_function_of_its_indices() -> None:
    indices = np.random.default_rng(0).integers(0, 1 << 20, 50)
    batch = small().train_batch(indices)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].shape == (50, 3, 24, 24)
    assert batch["text"].dtype == torch.int64
    assert batch["text"].shape == (50, 20)
    backwards = small().train_batch(indices[::-1].copy())
    singles = [small().train_batch(indices[i : i + 1]) for i in range(5)]
    for name, rows in batch.items():
        assert torch.equal(rows, backwards[name].flip(0))
        assert torch.equal(rows[:5], torch.cat([single[name] for single in singles]))


def test_the_same_pairs_come_out_of_another_process() -> None:
    code = (
        "import numpy as np; from fmscale.data.scenes.dataset import Scenes; import zlib; "
        "a, b = Scenes().pairs(np.arange(64)); print(zlib.crc32(a.tobytes() + b.tobytes()))"
    )
    outputs = {subprocess.check_output([sys.executable, "-c", code]) for _ in range(2)}
    assert len(outputs) == 1


def test_seeds_give_other_pairs() -> None:
    first, second = (small(seed=s).train_batch(np.arange(64)) for s in (0, 1))
    assert not torch.equal(first["text"], second["text"])
    assert not torch.equal(first["image"], second["image"])


def test_validation_is_fixed_and_drops_the_short_batch() -> None:
    data = small()
    batches = list(data.validation_batches(32))
    assert [len(b["text"]) for b in batches] == [32, 32, 32]
    assert data.n_val_samples == 96
    again = list(small().validation_batches(32))
    assert all(
        torch.equal(a[k], b[k])
        for a, b in zip(batches, again, strict=True)
        for k in ("image", "text")
    )


def test_validation_pairs_are_not_training_pairs() -> None:
    data = small(n_unique_samples=20_000)
    images, _ = data.pairs(np.arange(20_000))
    seen = {image.tobytes() for image in images}
    held_out = torch.cat([b["image"] for b in data.validation_batches(32)]).numpy()
    assert not any(image.tobytes() in seen for image in held_out)


def test_no_training_or_validation_caption_names_a_held_out_combination() -> None:
    data = small(n_val_samples=1000, val_batch_size=1000)
    batches = [data.train_batch(np.arange(4000)), *data.validation_batches(1000)]
    named = 0
    for batch in batches:
        for text in data.tokenizer.decode(batch["text"].numpy()):
            for thing in read(text).objects:
                if thing["shape"] is not None and thing["color"] is not None:
                    assert not held_out_concepts()[thing["shape"], thing["color"]], text
                    named += 1
    assert named > 4000


def test_another_validation_batch_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.val_batch_size = 32"):
        next(small().validation_batches(64))


def test_the_floor_belongs_to_the_validation_batch() -> None:
    data = small(n_val_samples=2048, val_batch_size=64)
    large = small(n_val_samples=2048, val_batch_size=256)
    assert 0 < data.loss_floor[0] < large.loss_floor[0]
    # Another, much larger sample of the same language has the same floor.
    floor, error = collision_floor(data.grammar, 99, np.arange(64 * 256), 64)
    assert abs(floor - data.loss_floor[0]) < 5 * np.hypot(error, data.loss_floor[1])


def test_the_hash_follows_every_setting_that_changes_pairs() -> None:
    hashes = [
        small(**changes).describe()["content_sha256"]
        for changes in (
            {},
            {"seed": 1},
            {"noise": 5.0},
            {"color_jitter": 3},
            {"position_jitter": 0.2},
            {"image_size": 32},
            {"seq_len": 24},
            {"grammar": SceneGrammar(p_mention_size=0.5)},
        )
    ]
    assert len(set(hashes)) == len(hashes)
    # Sizes of validation and budget change no pair.
    assert small(n_unique_samples=7, n_val_samples=64).describe()["content_sha256"] == hashes[0]


def test_counting_needs_no_torch() -> None:
    code = (
        "import sys; from fmscale.data.scenes.dataset import Scenes; d = Scenes(); d.prepare(); "
        "d.describe(); d.n_items; d.loss_floor; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 50}, r"data\.vocab_size = 50.*Set data\.vocab_size=87"),
        ({"seq_len": 10}, r"data\.seq_len = 10"),
        ({"image_size": 10}, r"data\.image_size = 10"),
        ({"n_unique_samples": 0}, r"data\.n_unique_samples = 0"),
        ({"val_batch_size": 1}, r"data\.val_batch_size = 1"),
        ({"val_batch_size": 101}, r"data\.val_batch_size = 101"),
    ],
)
def test_bad_settings_fail_at_once(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)
