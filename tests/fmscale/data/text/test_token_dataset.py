"""Text as sequences: every token predicted once, pure batches, budget subsets, errors."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fmscale.data.text.token_dataset import ByteText

SEQ_LEN = 16


@pytest.fixture
def make(tmp_path: Path, text_folder: Path):
    """ByteText on the tiny text, with a few settings changed."""

    def make(**settings) -> ByteText:
        defaults = {"seq_len": SEQ_LEN, "root": text_folder, "n_val_tokens": 512}
        return ByteText(tmp_path / "data", **{**defaults, **settings})

    return make


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """A text in which no 16 bytes come twice, so that sequences can be told apart."""
    folder = tmp_path / "numbered"
    folder.mkdir()
    for k in range(200):
        text = "".join(f"{k * 40 + i:07d}\n" for i in range(40))
        (folder / f"file_{k:03d}.py").write_text(text)
    return folder


def test_other_text_is_another_run_wherever_it_lies(tmp_path, text_folder, numbered, plan_one):
    def run_id(root):
        job = plan_one([f"data.root={root}", "model=gpt/1x16", "budget.tokens=1e4"])
        return job.branches[0].run_id

    shutil.copytree(text_folder, tmp_path / "copy")
    assert run_id(text_folder) == run_id(tmp_path / "copy") != run_id(numbered)


def test_text_that_changed_after_planning_is_refused(make, text_folder):
    mark = ByteText.complete({"root": text_folder})["content"]
    make(content=mark).prepare()
    (text_folder / "file_000.py").write_text("changed")
    with pytest.raises(ValueError, match=f"data.content = {mark}.*changed since the run was"):
        make(content=mark).prepare()


def rows(data: ByteText) -> set[bytes]:
    tokens = data.train_batch(np.arange(data.n_items))["tokens"]
    return {row.numpy().tobytes() for row in tokens}


def stored(data: ByteText, split: str) -> bytes:
    (folder,) = data.data_dir.glob(f"{data.name}-*")
    return (folder / f"{split}.bin").read_bytes()


def test_every_training_token_but_the_first_is_predicted_once(make):
    data = make()
    tokens = data.train_batch(np.arange(data.n_items))["tokens"].numpy()
    stream = np.frombuffer(stored(data, "train"), dtype=np.uint8)
    assert tokens.shape == (data.n_items, SEQ_LEN + 1)
    predicted = tokens[:, 1:].reshape(-1)
    np.testing.assert_array_equal(predicted, stream[1 : len(predicted) + 1])
    assert len(stream) - 1 - len(predicted) < SEQ_LEN
    np.testing.assert_array_equal(tokens[1:, 0], tokens[:-1, -1])


def test_the_tokens_are_the_files_own_bytes(make, text_folder: Path):
    data = make()
    data.prepare()
    documents = [
        part for split in ("train", "validation") for part in stored(data, split).split(b"\0")
    ]
    texts = [path.read_bytes() for path in text_folder.iterdir()]
    assert sorted(documents) == sorted([*texts, b"", b""])


def test_no_file_is_in_both_splits(make):
    data = make()
    data.prepare()
    train, validation = (set(stored(data, s).split(b"\0")) - {b""} for s in ("train", "validation"))
    assert validation
    assert not train & validation


def test_a_batch_is_a_pure_function_of_its_indices(make):
    data = make()
    indices = np.array([7, 0, data.n_items - 1, 7])
    batch = data.train_batch(indices)["tokens"]
    assert batch.dtype == torch.int64
    np.random.default_rng(0).random(10)
    torch.manual_seed(123)
    torch.testing.assert_close(make().train_batch(indices)["tokens"], batch)
    for i, row in zip(indices, batch, strict=True):
        torch.testing.assert_close(data.train_batch(np.array([i]))["tokens"][0], row)


def test_validation_is_fixed_and_the_batch_size_does_not_change_it(make):
    data = make()
    whole = torch.cat([b["tokens"] for b in data.validation_batches(1000)])
    again = torch.cat([b["tokens"] for b in make().validation_batches(7)])
    torch.testing.assert_close(whole, again)
    assert whole.shape == (512 // SEQ_LEN, SEQ_LEN + 1)
    assert [len(b["tokens"]) for b in data.validation_batches(7)] == [7, 7, 7, 7, 4]


def test_validation_sequences_span_the_split_evenly_and_without_overlap(make):
    data = make(n_val_tokens=256)
    stream = np.frombuffer(stored_after_prepare(data), dtype=np.uint8)
    n = 256 // SEQ_LEN
    n_available = (len(stream) - 1) // SEQ_LEN
    expected = [(i * n_available // n) * SEQ_LEN for i in range(n)]
    assert min(np.diff(expected)) >= SEQ_LEN
    assert expected[-1] >= (1 - 2 / n) * len(stream)
    (batch,) = data.validation_batches(1000)
    for start, row in zip(expected, batch["tokens"].numpy(), strict=True):
        np.testing.assert_array_equal(row, stream[start : start + SEQ_LEN + 1])


def stored_after_prepare(data: ByteText) -> bytes:
    data.prepare()
    return stored(data, "validation")


def test_the_validation_set_does_not_depend_on_the_data_budget(make):
    small = [b["tokens"] for b in make(n_unique_tokens=320).validation_batches(64)]
    torch.testing.assert_close(small, [b["tokens"] for b in make().validation_batches(64)])


def test_a_smaller_budget_is_a_subset_of_a_larger_one(make, numbered: Path):
    everything, large, small = (make(root=numbered, n_unique_tokens=n) for n in (None, 3200, 807))
    assert [len(rows(data)) for data in (small, large)] == [50, 200], "all are distinct"
    assert (small.n_items, large.n_items) == (807 // SEQ_LEN, 200)
    assert rows(small) < rows(large) < rows(everything)
    assert everything.describe()["n_unique_tokens"] == everything.n_items * SEQ_LEN
    assert small.describe()["n_unique_tokens"] == 50 * SEQ_LEN


def test_a_small_budget_spans_the_whole_text(make, numbered: Path):
    data = make(root=numbered, n_unique_tokens=3200)
    stream = make(root=numbered)
    position = {
        row.numpy().tobytes(): i / stream.n_items
        for i, row in enumerate(stream.train_batch(np.arange(stream.n_items))["tokens"])
    }
    places = [position[row] for row in rows(data)]
    counts = np.histogram(places, bins=4, range=(0, 1))[0]
    assert counts.min() > 0.6 * len(places) / 4


def test_a_finished_cache_is_used_again_and_other_text_gets_its_own(
    make, text_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    first = make()
    first.prepare()
    with monkeypatch.context() as patch:
        patch.setattr("fmscale.data.cache_folder._build", None)  # would fail if called
        assert make().describe() == first.describe()
    (text_folder / "file_000.py").write_text("pass\n")
    changed = make().describe()
    assert changed["cache"] != first.describe()["cache"]
    assert changed["content_sha256"] != first.describe()["content_sha256"]


def test_a_moved_text_is_the_same_text(make, text_folder: Path, tmp_path: Path):
    shutil.copytree(text_folder, tmp_path / "elsewhere")
    assert make(root=tmp_path / "elsewhere").describe() == make().describe()


def test_the_description_counts_what_is_there(make, text_folder: Path):
    described = make().describe()
    texts = [path.read_bytes() for path in text_folder.iterdir()]
    assert described["n_files"] == len(texts) == 100
    assert described["n_bytes"] == sum(map(len, texts))
    assert described["n_train_bytes"] + described["n_validation_bytes"] == described["n_bytes"]
    assert described["n_train_tokens"] == described["n_train_bytes"] + described["n_train_files"]
    assert re.fullmatch("[0-9a-f]{64}", described["content_sha256"])


def test_the_tail_split_holds_out_the_end_of_each_file(make, text_folder: Path):
    data = make(split="tail", val_fraction=0.1, n_val_tokens=256)
    data.prepare()
    text = (text_folder / "file_000.py").read_bytes()
    tail = stored(data, "validation").split(b"\0")[0]
    assert text.endswith(tail)
    assert len(tail) == round(0.1 * len(text))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 50257}, "data.vocab_size = 50257.*256 tokens. Set data.vocab_size=256"),
        ({"split": "half"}, "data.split = 'half': choose one of"),
        ({"val_fraction": 0.0}, "data.val_fraction = 0.0: give a share"),
        ({"seq_len": 0}, "data.seq_len = 0: give a whole number"),
        ({"val_batch_size": 0}, "data.val_batch_size = 0: give a whole number"),
        ({"n_val_tokens": 15}, "data.n_val_tokens = 15 is less than one sequence of 16"),
        ({"n_unique_tokens": 15}, "data.n_unique_tokens = 15 is less than one sequence of 16"),
    ],
)
def test_a_bad_setting_is_an_error_before_any_file_is_read(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_more_unique_tokens_than_there_are_is_an_error(make):
    with pytest.raises(ValueError, match="n_unique_tokens = 10000000.*holds only .* Lower it"):
        _ = make(n_unique_tokens=10_000_000).n_items


def test_more_validation_tokens_than_there_are_is_an_error(make):
    with pytest.raises(ValueError, match="n_val_tokens = 10000000.*raise data.val_fraction"):
        next(make(n_val_tokens=10_000_000).validation_batches(1))


def test_a_sequence_longer_than_the_text_is_an_error(make):
    with pytest.raises(ValueError, match="data.seq_len = 900000, but the training text holds"):
        _ = make(seq_len=900_000, n_val_tokens=900_000).n_items


def test_a_missing_folder_is_an_error_as_soon_as_the_data_is_named(make, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"data.root = .*nowhere does not exist. Give"):
        make(root=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"data.root = .*empty holds no file ending in .py. Give"):
        make(root=tmp_path / "empty")
