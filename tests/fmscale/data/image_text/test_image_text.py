"""Pairs from tars and tables: the right image with the right caption, exactly repeatable."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from fmscale.config.build import build_data
from fmscale.data.image_text.image_text import caption_table, webdataset
from fmscale.data.module import StepBatches
from fmscale.data.protocol import AugmentedData, TrainingData
from fmscale.errors import ConfigError
from fmscale.optim.batch_schedule import BatchSchedule
from tests.helpers.pair_files import (
    encoded,
    scene_pairs,
    shard_members,
    write_classes,
    write_shards,
    write_tar,
)

SETTINGS = {"name": "own", "image_size": 16, "n_val_samples": 20, "val_batch_size": 10,
            "seq_len": 100}  # fmt: skip


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp("pairs") / "shards")


def make(shards, tmp_path, **changes):
    data = webdataset(str(shards), data_dir=tmp_path / "data", **{**SETTINGS, **changes})
    data.prepare()
    return data


def test_it_is_a_training_set_that_augments(shards, tmp_path):
    data = make(shards, tmp_path)
    assert isinstance(data, TrainingData)
    assert isinstance(data, AugmentedData)
    assert data.n_items == 100
    batch = data.train_batch(np.arange(7))
    assert batch["image"].shape == (7, 3, 16, 16)
    assert batch["image"].dtype == torch.float32
    assert batch["text"].shape == (7, 100)


@pytest.mark.parametrize("keep_decoded", [True, False])
def test_every_pair_comes_once_with_its_own_caption(shards, tmp_path, keep_decoded):
    data = make(shards, tmp_path, keep_decoded=keep_decoded)
    pictures, captions = scene_pairs(120)
    own = {caption: data.transform.center(data.transform.shrink(p))
           for p, caption in zip(pictures, captions, strict=True)}  # fmt: skip
    seen = []
    batches = [data.train_batch(np.arange(100)), *data.validation_batches(10)]
    for batch in batches:
        for image, text in zip(batch["image"], data.tokenizer.decode(batch["text"].numpy()),
                               strict=True):  # fmt: skip
            seen.append(text)
            expected = data.transform.normalize(own[text][None])[0]
            # Two thirds are stored with loss.
            assert np.abs(image.numpy() - expected).mean() < 0.25
    assert sorted(seen) == sorted(captions)


def test_decoding_once_or_at_every_step_gives_the_same_batches(shards, tmp_path):
    kept, read = (make(shards, tmp_path, keep_decoded=kept) for kept in (True, False))
    for a, b in ((kept.train_batch(np.arange(30)), read.train_batch(np.arange(30))),
                 (kept.augmented_batch(np.arange(30), 3, 9),
                  read.augmented_batch(np.arange(30), 3, 9))):  # fmt: skip
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["text"], b["text"])


def test_a_batch_depends_on_seed_and_step_alone(shards, tmp_path):
    data, again = make(shards, tmp_path), make(shards, tmp_path)

    def steps(data, start):
        taken = StepBatches(data, seed=1, batches=BatchSchedule(8), accumulate=1, start_step=start,
                            stop_step=20)  # fmt: skip
        return [batch["image"] for batch in taken]

    whole, rest = steps(data, 0), steps(again, 15)
    for a, b in zip(whole[15:], rest, strict=True):
        assert torch.equal(a, b)


def test_the_tars_are_listed_once(shards, tmp_path, monkeypatch):
    from fmscale.data import cache_folder

    make(shards, tmp_path)
    monkeypatch.setattr(cache_folder, "_build", None)  # a second listing would fail
    assert make(shards, tmp_path).n_items == 100
    assert not list((tmp_path / "data").glob(".*"))  # nothing half-built is left


def test_a_smaller_budget_is_a_subset_and_validation_stays(shards, tmp_path):
    small, whole = make(shards, tmp_path, n_unique_samples=30), make(shards, tmp_path)
    assert small.n_items == 30
    assert torch.equal(small.train_batch(np.arange(30))["text"],
                       whole.train_batch(np.arange(30))["text"])  # fmt: skip
    for a, b in zip(small.validation_batches(10), whole.validation_batches(10), strict=True):
        assert torch.equal(a["text"], b["text"])
    with pytest.raises(ValueError, match=r"n_unique_samples = 1000.*only 100"):
        make(shards, tmp_path, n_unique_samples=1000)


def test_long_captions_are_cut_and_counted(shards, tmp_path):
    captions = scene_pairs(120)[1]
    data = make(shards, tmp_path, seq_len=30)
    expected = sum(len(caption) > 29 for caption in captions)
    assert 0 < expected < 120
    assert data.describe()["n_captions_truncated"] == expected


def test_the_record_says_what_was_read(shards, tmp_path):
    found = make(shards, tmp_path).describe()
    assert found["n_pairs"] == 120
    assert set(found["n_skipped"].values()) == {0}
    assert found["kind"] == "webdataset"
    moved = make(shards, tmp_path / "elsewhere").describe()
    assert moved["content_sha256"] == found["content_sha256"]
    json.dumps(found)


def test_a_bpe_is_trained_on_the_captions_and_kept(shards, tmp_path):
    data = make(shards, tmp_path, tokenizer="bpe", vocab_size=300, seq_len=40)
    again = make(shards, tmp_path, tokenizer="bpe", vocab_size=300, seq_len=40)
    assert torch.equal(data.train_batch(np.arange(9))["text"],
                       again.train_batch(np.arange(9))["text"])  # fmt: skip
    # Merged bytes make captions shorter: fewer are cut than with bytes alone.
    cut = data.describe()["n_captions_truncated"]
    assert cut < make(shards, tmp_path, seq_len=40).describe()["n_captions_truncated"] / 2
    with pytest.raises(ValueError, match=r"Set data\.vocab_size=258"):
        make(shards, tmp_path, vocab_size=300)


def test_broken_pairs_are_skipped_and_counted_up_to_a_limit(tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    members = shard_members(40)
    without_caption = [m for m in members[:3] if m[0].endswith("jpg")]
    without_image = [m for m in members[3:6] if not m[0].endswith("jpg")]
    torn = [(members[6][0], members[6][1][:200]), *members[7:9]]
    write_tar(folder / "0.tar", [*without_caption, *without_image, *torn, *members[9:]])
    changes = {"n_val_samples": 10, "val_batch_size": 5}
    with pytest.raises(ValueError, match=r"3 of 40 pairs are broken.*max_broken = 0\.01"):
        make(folder, tmp_path, **changes)
    data = make(folder, tmp_path, max_broken=0.1, **changes)
    assert data.describe()["n_pairs"] == 37
    assert data.describe()["n_skipped"] == {"without_caption": 1, "without_image": 1,
                                            "malformed": 0, "unreadable": 1}  # fmt: skip
    # Read at every step the torn one is found late; the next pair takes its place.
    lazy = make(folder, tmp_path, max_broken=0.1, keep_decoded=False, **changes)
    assert lazy.n_items == 28
    list(lazy.validation_batches(5))
    batch = lazy.train_batch(np.arange(28))
    assert torch.isfinite(batch["image"]).all()
    assert lazy.describe()["n_unreadable_met"] == 1
    strict = make(folder, tmp_path, max_broken=0.06, keep_decoded=False, **changes)
    strict.max_broken = 0.0
    with pytest.raises(ValueError, match="1 of 38 images cannot be read"):
        [*strict.validation_batches(5), strict.train_batch(np.arange(28))]


def test_captions_may_come_from_the_metadata(tmp_path):
    folder = tmp_path / "json"
    folder.mkdir()
    write_tar(folder / "0.tar", [m for m in shard_members(30) if not m[0].endswith("txt")])
    data = make(folder, tmp_path)
    assert data.describe()["n_pairs"] == 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nothing", r"holds no \.tar file"),
        ("no captions", "holds no image with a caption.*40 without caption"),
        ("torn", "cannot be read as a tar"),
        ("few", "n_val_samples = 20, but .* holds only 12 pairs"),
        ("absent", "no such file or folder"),
    ],
)
def test_unusable_tars_are_errors_before_training(tmp_path, content, message):
    folder = tmp_path / "shards"
    if content != "absent":
        folder.mkdir()
    if content == "no captions":
        write_tar(folder / "0.tar", [m for m in shard_members(40) if m[0].endswith("jpg")])
    if content == "few":
        write_tar(folder / "0.tar", shard_members(12))
    if content == "torn":
        write_tar(folder / "0.tar", shard_members(40))
        whole = (folder / "0.tar").read_bytes()
        (folder / "0.tar").write_bytes(whole[: len(whole) // 2 + 100])
    with pytest.raises(ValueError, match=message):
        make(folder, tmp_path)


def test_a_run_on_unusable_tars_ends_with_the_section_named(tmp_path):
    (tmp_path / "tars").mkdir()
    write_tar(tmp_path / "tars" / "0.tar", [m for m in shard_members(5) if "jpg" in m[0]])
    section = SETTINGS | {
        "_target_": "fmscale.data.image_text.image_text.webdataset",
        "data_dir": str(tmp_path / "data"),
        "root": str(tmp_path / "tars"),
    }
    with pytest.raises(ConfigError, match="section data: .*holds no image with a caption"):
        build_data({"data": section})
    with pytest.raises(ConfigError, match="section data is null; to leave it out, write ~data"):
        build_data({"data": None})


def test_too_much_to_keep_is_refused(shards, tmp_path):
    with pytest.raises(ValueError, match="keep_decoded=false"):
        make(shards, tmp_path, max_kept_gigabytes=1e-6)


BAD_CAPTIONS = {
    "json": b'{"caption": "happy birthday \\ud83c"}',  # half a surrogate pair
    "nested.json": b'{"caption": ' + b"[" * 200_000,
    "torn.json": b'{"caption": "a re',
    "txt": "a café".encode("latin-1"),
    "long.txt": b"spam " * 10_000,
}


@pytest.mark.parametrize("kind", BAD_CAPTIONS)
def test_a_caption_that_cannot_be_read_is_named_and_the_others_stay(tmp_path, kind, caplog):
    folder = tmp_path / "tars"
    folder.mkdir()
    bad = [("900.jpg", shard_members(1)[0][1]), (f"900.{kind.split('.')[-1]}", BAD_CAPTIONS[kind])]
    write_tar(folder / "0.tar", [*bad, *shard_members(40)])
    changes = {"n_val_samples": 10, "val_batch_size": 5}
    with pytest.raises(ValueError, match=r"1 of 41 pairs are broken \(1 malformed\).*0\.tar:/900"):
        make(folder, tmp_path, max_broken=0.0, **changes)
    data = make(folder, tmp_path, max_broken=0.03, **changes)
    assert data.describe()["n_pairs"] == 40
    assert data.describe()["n_skipped"]["malformed"] == 1
    (told,) = [record.getMessage() for record in caplog.records]
    assert "1 of 41 pairs are skipped (1 malformed). The first: 0.tar:/900" in told


def test_a_text_file_beside_broken_metadata_is_the_caption(tmp_path):
    folder = tmp_path / "tars"
    folder.mkdir()
    spoiled = [(name, b"{" if name.endswith("json") else content)
               for name, content in shard_members(30)]  # fmt: skip
    write_tar(folder / "0.tar", spoiled)
    assert make(folder, tmp_path).describe()["n_pairs"] == 30


def test_members_of_a_key_need_not_lie_side_by_side(tmp_path, shards):
    members = shard_members(40)
    apart = sorted(members, key=lambda member: member[0].rpartition(".")[2])
    together = make(_tar(tmp_path / "a", members), tmp_path)
    spread = make(_tar(tmp_path / "b", apart), tmp_path)
    assert spread.describe()["n_pairs"] == 40
    captions = [index._index.caption(i) for index in (together, spread) for i in range(40)]
    assert captions[:40] == captions[40:] == scene_pairs(40)[1]
    assert torch.equal(together.train_batch(np.arange(20))["image"],
                       spread.train_batch(np.arange(20))["image"])  # fmt: skip


def test_keys_of_a_joined_tar_may_come_again(tmp_path):
    again = [(f"{int(name[:9]) % 20:09d}{name[9:]}", c) for name, c in shard_members(40)]
    data = make(_tar(tmp_path / "tars", again), tmp_path)
    assert sorted(data._index.caption(i) for i in range(40)) == sorted(scene_pairs(40)[1])


def _tar(folder, members):
    folder.mkdir()
    write_tar(folder / "0.tar", members)
    return folder


def test_two_pictures_of_one_key_are_not_chosen_from(tmp_path):
    members = shard_members(40)
    folder = _tar(tmp_path / "tars", [("000000000.png", members[0][1]), *members])
    with pytest.raises(ValueError, match=r"1 malformed.*two pictures of one key"):
        make(folder, tmp_path, max_broken=0.0)


def test_what_an_archive_leaves_behind_is_no_pair(tmp_path):
    left = [("__MACOSX/000000000.jpg", b"\0\5"), ("./._000000000.jpg", b"\0\5"),
            (".cache/1.txt", b"a word"), (".DS_Store", b"\0")]  # fmt: skip
    folder = _tar(tmp_path / "tars", [*left, *shard_members(40)])
    (folder / "._0.tar").write_bytes(b"\0\5\x16\7")
    data = make(folder, tmp_path, max_broken=0.0)
    assert data.describe()["n_pairs"] == 40
    assert sum(data.describe()["n_skipped"].values()) == 0


def test_compressed_tars_beside_others_are_not_passed_over(tmp_path):
    folder = _tar(tmp_path / "tars", shard_members(40))
    (folder / "1.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(ValueError, match=r"1\.tar\.gz is compressed"):
        make(folder, tmp_path)


def test_a_tar_may_have_any_name_where_it_is_named_itself(tmp_path):
    write_tar(tmp_path / ".hidden", shard_members(40))
    assert make(tmp_path / ".hidden", tmp_path).describe()["n_pairs"] == 40


def test_a_strip_is_skipped_before_it_fills_the_memory(tmp_path):
    from PIL import Image

    strip = [("800.png", encoded(Image.new("RGB", (1, 200_000)))), ("800.txt", b"a line")]
    folder = _tar(tmp_path / "tars", [*strip, *shard_members(40)])
    with pytest.raises(ValueError, match=r"1 unreadable.*1 x 200000 pixels are a strip"):
        make(folder, tmp_path, image_size=96, max_broken=0.0)
    data = make(folder, tmp_path, image_size=96, max_broken=0.03)
    assert data.describe()["n_skipped"]["unreadable"] == 1


def write_table(folder, separator, header=("filepath", "title"), n=40):
    folder.mkdir()
    with open(folder / "pairs.csv", "w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(header)
        for i, (picture, caption) in enumerate(zip(*scene_pairs(n), strict=True)):
            (folder / f"{i}.png").write_bytes(encoded(picture))
            writer.writerow([f"{i}.png", caption])
    return folder / "pairs.csv"


@pytest.mark.parametrize(("written", "told"), [("\t", None), (",", None), (";", None), ("|", "|")])
def test_a_table_gives_the_same_pairs(tmp_path, written, told):
    path = write_table(tmp_path / "table", written)
    data = caption_table(str(path), "filepath", "title", told, data_dir=tmp_path / "data",
                         **SETTINGS)  # fmt: skip
    data.prepare()
    pictures, captions = scene_pairs(40)
    batch = data.train_batch(np.arange(20))
    for image, text in zip(batch["image"], data.tokenizer.decode(batch["text"].numpy()),
                           strict=True):  # fmt: skip
        picture = pictures[captions.index(text)]
        square = data.transform.center(data.transform.shrink(picture))
        assert np.array_equal(image.numpy(), data.transform.normalize(square[None])[0])


def test_mistakes_in_a_table_are_named(tmp_path):
    path = write_table(tmp_path / "table", "\t", ("image", "title"))
    common = {"data_dir": tmp_path / "data", **SETTINGS}
    with pytest.raises(ValueError, match=r"no column \['filepath'\]; it has \['image', 'title'\]"):
        caption_table(str(path), "filepath", "title", None, **common)
    with pytest.raises(ValueError, match="no such file"):
        caption_table(str(tmp_path / "none.csv"), "filepath", "title", None, **common)
    with pytest.raises(ValueError, match=r"it has \['image\\ttitle'\]"):
        caption_table(str(path), "image", "title", ",", **common)
    with pytest.raises(ValueError, match=r"data\.separator = '::': give one character, or null"):
        caption_table(str(path), "image", "title", "::", **common)
    (tmp_path / "table" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 40 pairs are broken \(1 without image\).*3\.png"):
        caption_table(str(path), "image", "title", "\t", **common).prepare()


def test_tasks_come_with_the_data(shards, tmp_path):
    colors = write_classes(tmp_path / "Plain Colors")
    data = make(shards, tmp_path, tasks=[str(colors)])
    (task,) = data.zero_shot_tasks
    assert task.name == "plain_colors"
    assert data.describe()["tasks"] == ["plain_colors"]
    with pytest.raises(ValueError, match="same name"):
        make(shards, tmp_path, tasks=[str(colors), str(colors)])


def test_a_mistake_in_a_task_shows_before_training(shards, tmp_path):
    colors = write_classes(tmp_path / "colors")
    (colors / "red" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"data\.tasks: 1 of 18 images.*red/0\.png"):
        make(shards, tmp_path, tasks=[str(colors)])
    with pytest.raises(ValueError, match=r"data\.tasks = colors: give a list.*=\[colors\]"):
        make(shards, tmp_path, tasks="colors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_batch_size": 1}, "a contrast needs two"),
        ({"max_broken": 1.0}, r"data\.max_broken"),
        ({"seq_len": 1}, r"data\.seq_len = 1"),
        ({"tokenizer": "nowhere.json"}, "no such file"),
        ({"std": [1, 1]}, "three numbers"),
        ({"n_unique_samples": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(shards, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        make(shards, tmp_path, **changes)
