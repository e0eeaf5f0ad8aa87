"""Both data sets offer what the protocol names."""

from pathlib import Path

import pytest

from fmscale.data.protocol import TrainingData
from fmscale.data.scenes.dataset import Scenes
from fmscale.data.text.token_dataset import ByteText


def test_both_data_sets_follow_the_protocol(tmp_path: Path, text_folder: Path):
    text = ByteText(tmp_path, seq_len=16, root=text_folder, n_val_tokens=64)
    for data in (text, Scenes(image_size=16, n_val_samples=4, val_batch_size=2)):
        assert isinstance(data, TrainingData)
        assert data.unit in ("tokens", "samples")
        assert data.n_items * data.units_per_item > 0


@pytest.mark.parametrize("missing", ["prepare", "train_batch", "validation_batches", "describe"])
def test_a_data_set_without_a_method_does_not_follow_it(missing: str):
    names = ("unit", "val_batch_size", "units_per_item", "n_items")
    methods = {"prepare", "train_batch", "validation_batches", "describe"} - {missing}
    members = dict.fromkeys(names, 1) | {name: lambda self: None for name in methods}
    assert not isinstance(type("Incomplete", (), members)(), TrainingData)
