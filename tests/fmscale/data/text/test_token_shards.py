"""Shards as training data: every token once, exact bits per byte, files of others, bad folders."""

import json
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fmscale.config.jobs import expand
from fmscale.data.protocol import TrainingData
from fmscale.data.text.manifest import Manifest
from fmscale.data.text.token_shards import TokenShards
from fmscale.data.text.tokenizer import FileTokenizer
from fmscale.errors import ConfigError
from fmscale.evaluation.language.language import HeldOutText
from fmscale.runs.files import read_sealed
from tests.helpers.texts import build, tokens, write_texts

SEQ_LEN = 16


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """The same text, prepared with three tokenizers."""
    root = tmp_path_factory.mktemp("shards")
    texts = [f"Zipf’s λ is {i} and {i * 7}: " + "word piece " * (i % 9) for i in range(300)]
    corpus = write_texts(root / "corpus", texts)
    for name, settings in {
        "bytes": {},
        "small": {"tokenizer": "bpe", "vocab_size": 270},
        "large": {"tokenizer": "bpe", "vocab_size": 380},
    }.items():
        build(corpus, root / name, **settings)
    return {name: root / name for name in ("bytes", "small", "large")}


def open_shards(root: Path, **settings) -> TokenShards:
    filled = TokenShards.complete({"root": root, **settings})
    return TokenShards(**{"root": root, "seq_len": SEQ_LEN, "n_val_tokens": 320, **settings,
                          **filled})  # fmt: skip


def test_it_follows_the_protocol(folders):
    assert isinstance(open_shards(folders["small"]), TrainingData)


def test_every_token_of_a_shard_but_the_first_is_predicted_once(folders):
    data = open_shards(folders["small"])
    rows = data.train_batch(np.arange(data.n_items))["tokens"].numpy()
    expected = []
    for shard in data.manifest.shards["train"]:
        array = np.fromfile(shard.path, dtype=np.uint16).astype(np.int64)
        n = (len(array) - 1) // SEQ_LEN
        expected += [array[i * SEQ_LEN : (i + 1) * SEQ_LEN + 1] for i in range(n)]
    assert len(data.manifest.shards["train"]) > 3
    np.testing.assert_array_equal(rows, np.array(expected))
    indices = np.array([data.n_items - 1, 0, 17, 0])
    np.testing.assert_array_equal(data.train_batch(indices)["tokens"], rows[indices])


def test_a_smaller_budget_is_a_subset_of_a_larger_one(folders):
    def rows(n):
        data = open_shards(folders["large"], n_unique_tokens=n)
        return {r.tobytes() for r in data.train_batch(np.arange(data.n_items))["tokens"].numpy()}

    assert rows(320) < rows(1600) < rows(None)
    with pytest.raises(ValueError, match=r"data.n_unique_tokens = 100000000, but"):
        _ = open_shards(folders["large"], n_unique_tokens=10**8).n_items


@pytest.mark.parametrize("name", ["bytes", "small", "large"])
def test_bytes_of_the_validation_tokens_are_those_of_their_text(folders, name):
    data = open_shards(folders[name], n_val_tokens=640)
    total = 0
    for batch in data.validation_batches(7):
        for row in batch["tokens"].numpy():
            if name == "bytes":
                total += len(row) - 1
                continue
            tokenizer = FileTokenizer(folders[name] / "tokenizer.json")
            vocabulary = {i: t for t, i in tokenizer.tokenizer.get_vocab().items()}
            # A character of GPT-2's byte alphabet is one byte; a document's end counts as one.
            total += sum(1 if i == 0 else len(vocabulary[i]) for i in row[1:])
    assert data.val_bytes_per_token == pytest.approx(total / 640, abs=3 / 640)


def test_the_whole_validation_text_has_the_same_bytes_in_every_vocabulary(folders):
    manifests = {name: json.loads((f / "manifest.json").read_text()) for name, f in folders.items()}
    assert len({m["validation"]["n_bytes"] for m in manifests.values()}) == 1
    assert len({m["train"]["n_bytes"] for m in manifests.values()}) == 1
    ratios = [manifests[n]["train"]["bytes_per_token"] for n in ("bytes", "small", "large")]
    assert ratios == sorted(ratios)
    assert ratios[0] == 1


class Frequencies(nn.Module):
    """Knows how often each byte comes, and nothing else."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens):
        return self.logits.expand(*tokens.shape, -1)


def test_bits_per_byte_of_a_uniform_model_are_exact(folders):
    data = open_shards(folders["large"])
    found = {m.column: m for m in HeldOutText()(Frequencies(torch.zeros(380)), data, None)}
    expected = math.log2(380) / data.val_bytes_per_token
    assert found["val_bpb"].value == pytest.approx(expected, rel=1e-6)
    assert found["val_bpb"].unit == "bits/byte"


def nanogpt(root: Path, dtype="uint16", sidecar=None, n=(2000, 500), largest=999) -> Path:
    root.mkdir()
    rng = np.random.default_rng(0)
    for name, size in zip(("train.bin", "val.bin"), n, strict=True):
        ids = rng.integers(0, largest, size)
        ids[3] = largest
        ids.astype(dtype).tofile(root / name)
    if sidecar is not None:
        (root / "meta.json").write_text(json.dumps(sidecar))
    return root


def test_files_of_nanogpt_are_read_as_they_are(tmp_path):
    root = nanogpt(tmp_path / "n")
    with pytest.raises(ValueError, match=r"data.vocab_size=50257"):
        open_shards(root)
    data = open_shards(root, vocab_size=1000)
    data.prepare()
    rows = data.train_batch(np.arange(data.n_items))["tokens"].numpy()
    stream = np.fromfile(root / "train.bin", dtype=np.uint16)
    np.testing.assert_array_equal(rows[:, 1:].ravel(), stream[1 : rows[:, 1:].size + 1])
    assert data.val_bytes_per_token is None  # nobody knows
    names = [m.name for m in HeldOutText()(Frequencies(torch.zeros(1000)), data, None)]
    assert "val_bpb" not in names


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_the_sidecar_of_such_files_states_what_they_do_not_know(tmp_path, dtype):
    sidecar = {"vocab_size": 1000, "tokenizer": "gpt2", "dtype": dtype, "bytes_per_token": 4.2}
    data = open_shards(nanogpt(tmp_path / "n", dtype, sidecar))
    data.prepare()
    assert (data.vocab_size, data.val_bytes_per_token) == (1000, 4.2)
    assert data.describe()["tokenizer"] == "gpt2"


def test_a_vocabulary_that_16_bits_cannot_hold_is_read_as_32(tmp_path):
    root = nanogpt(tmp_path / "n", "uint32", largest=128_255)
    data = open_shards(root, vocab_size=128_256)
    data.prepare()
    stream = np.fromfile(root / "train.bin", dtype=np.uint32)
    assert data.manifest.n_tokens("train") == len(stream)
    assert data.train_batch(np.arange(data.n_items))["tokens"].numpy().max() == stream.max()
    (root / "meta.json").write_text('{"vocab_size": 128256, "dtype": "uint16"}')
    with pytest.raises(ValueError, match=r"meta\.json states uint16, which cannot hold"):
        open_shards(root)


def test_files_that_look_like_32_bits_are_asked_about(tmp_path):
    for largest in (7, 50_256):
        root = nanogpt(tmp_path / f"n{largest}", "uint32", largest=largest)
        with pytest.raises(ValueError, match=r"every second 16-bit number is below 8.*meta\.json"):
            open_shards(root, vocab_size=largest + 1)
    (root / "meta.json").write_text('{"dtype": "uint32"}')
    as_32 = open_shards(root, vocab_size=50_257)
    assert as_32.manifest.n_tokens("train") == (root / "train.bin").stat().st_size // 4
    (root / "meta.json").write_text('{"dtype": "uint16"}')
    as_16 = open_shards(root, vocab_size=50_257)
    assert as_16.manifest.n_tokens("train") == (root / "train.bin").stat().st_size // 2
    assert as_16.manifest.content != as_32.manifest.content  # other tokens: another run


@pytest.mark.parametrize(("dtype", "vocab_size"), [(">u2", 1000), (">u4", 128_256), ("u1", 200)])
def test_numbers_of_another_layout_are_refused(tmp_path, dtype, vocab_size):
    root = nanogpt(tmp_path / "n", dtype, largest=min(vocab_size, 128_256) - 1)
    with pytest.raises(ValueError, match=r"outside the vocabulary.*little-endian|truncated"):
        open_shards(root, vocab_size=vocab_size, n_val_tokens=160).prepare()


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("vocab_size", [5, 1000, 128_256])
def test_64_bit_numbers_are_named(tmp_path, dtype, vocab_size):
    root = nanogpt(tmp_path / "n", dtype, largest=vocab_size - 1)
    with pytest.raises(ValueError, match="holds 64-bit numbers"):
        open_shards(root, vocab_size=vocab_size)


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (b"\x93NUMPY\1\0", r"a \.npy array"),
        (np.array([20240520, 1, 4000], dtype=np.int32).tobytes(), r"llm\.c's.*header"),
        (b"PK\3\4", "a zip archive"),
        (b"\x1f\x8b\x08\0", "compressed with gzip"),
    ],
)
def test_a_header_before_the_tokens_is_named(tmp_path, begin, message):
    root = nanogpt(tmp_path / "n")
    (root / "val.bin").write_bytes(begin + (root / "val.bin").read_bytes())
    with pytest.raises(ValueError, match=rf"val\.bin is {message}"):
        open_shards(root, vocab_size=60_000)


class Malicious:
    def __reduce__(self):
        return print, ("this must not run",)


def test_the_pickle_of_nanogpt_states_the_vocabulary_and_runs_nothing(tmp_path, capsys):
    root = nanogpt(tmp_path / "n", largest=64)
    (root / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 65, "itos": {0: "a"}, "stoi": {}}))
    assert open_shards(root).vocab_size == 65
    with pytest.raises(ValueError, match=r"data\.vocab_size = 50257.*vocabulary of 65"):
        open_shards(root, vocab_size=50_257)
    for content in (pickle.dumps(Malicious()), b"\x80\4", b"", pickle.dumps({"vocab_size": "65"})):
        (root / "meta.pkl").write_bytes(content)
        with pytest.raises(ValueError, match=r"meta\.pkl.*meta\.json"):
            open_shards(root)
    assert capsys.readouterr().out == ""
    (root / "meta.json").write_text('{"vocab_size": 65}')  # then the pickle is not needed
    assert open_shards(root).vocab_size == 65


@pytest.mark.parametrize("text", ["[1]", '{"vocab_size": "65"}', '{"vocab_size": 0}', "{"])
def test_a_sidecar_that_states_nothing_usable_is_named(tmp_path, text):
    root = nanogpt(tmp_path / "n")
    (root / "meta.json").write_text(text)
    with pytest.raises(ValueError, match=r"meta\.json"):
        open_shards(root, vocab_size=1000)


def test_shards_whose_text_is_lost_have_no_bits_per_byte(tmp_path, folders):
    copy = shutil.copytree(folders["small"], tmp_path / "copy")
    manifest = read_sealed(copy / "manifest.json")
    assert manifest["validation"]["n_not_restored"] == 0
    assert open_shards(copy).val_bytes_per_token > 1
    manifest["validation"]["n_not_restored"] = 1
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert open_shards(copy).val_bytes_per_token is None
    del manifest["validation"]["n_not_restored"]  # made before it was counted: tried on a probe
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert open_shards(copy).val_bytes_per_token > 1


def test_tokens_outside_the_vocabulary_are_named_before_training(tmp_path):
    data = open_shards(nanogpt(tmp_path / "n"), vocab_size=999)
    with pytest.raises(ValueError, match=r"train.bin: token 3 is 999, outside the vocabulary"):
        data.prepare()


@pytest.mark.parametrize("pattern", ["train-*.bin", "validation-*.bin", "validation-*.bytes"])
def test_a_flipped_bit_is_found_before_anything_is_measured(tmp_path, folders, pattern):
    folder = tmp_path / "copy"
    shutil.copytree(folders["small"], folder)
    path = sorted(folder.glob(pattern))[-1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    data = open_shards(folder)  # a look at the sizes alone
    with pytest.raises(ValueError, match=f"{path.name} is damaged: its SHA-256 is not"):
        _ = [data.prepare(), *data.validation_batches(32)]


def test_a_changed_digit_of_the_manifest_is_found(tmp_path, folders):
    folder = tmp_path / "copy"
    shutil.copytree(folders["small"], folder)
    path = folder / "manifest.json"
    ratio = str(json.loads(path.read_text())["validation"]["bytes_per_token"])
    path.write_text(
        path.read_text().replace(ratio, ratio[:-1] + ("1" if ratio[-1] != "1" else "2"))
    )
    with pytest.raises(ValueError, match=r"broken: .*manifest\.json was altered"):
        open_shards(folder)


def test_a_truncated_file_is_named(tmp_path, folders):
    root = nanogpt(tmp_path / "n")
    (root / "train.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match=r"train.bin is truncated.*: 3 bytes"):
        Manifest.read(root)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folders["small"].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    shard = sorted(copy.glob("train-*.bin"))[1]
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(ValueError, match=rf"{shard.name} is truncated.*manifest states"):
        Manifest.read(copy)
    shard.unlink()
    with pytest.raises(ValueError, match=rf"{shard.name} is missing"):
        Manifest.read(copy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "does not exist.*fmscale prepare"),
        (lambda root: root.mkdir(), "holds no token shards"),
        (lambda root: nanogpt(root).joinpath("val.bin").unlink(), "but no val.bin"),
        (lambda root: nanogpt(root, sidecar={"vocab": 3}), r"unknown keys \['vocab'\]"),
        (lambda root: nanogpt(root, sidecar={"dtype": "int8"}), "use one of uint16, uint32"),
        (lambda root: nanogpt(root).joinpath("meta.json").write_text("{"), "is not JSON"),
    ],
)
def test_a_folder_that_holds_no_shards_says_so(tmp_path, make, message):
    make(tmp_path / "n")
    with pytest.raises(ValueError, match=message):
        Manifest.read(tmp_path / "n")


def job(tmp_path, *overrides):
    (planned,) = expand(["data=shards", "model=gpt/1x16", "budget.tokens=1e4",
                         f"paths.runs_dir={tmp_path}", "logger=none", *overrides])  # fmt: skip
    return planned


def test_the_vocabulary_comes_from_the_manifest_when_a_run_is_planned(tmp_path, folders):
    for name, size in (("bytes", 256), ("large", 380)):
        planned = job(tmp_path, f"data.root={folders[name]}")
        assert planned.config["data"]["vocab_size"] == size
        assert planned.config["model"]["shape"]["vocab_size"] == size
        assert planned.shape.vocab_size == size


def test_other_text_is_another_run_and_the_same_text_elsewhere_is_not(tmp_path, folders):
    moved = tmp_path / "moved"
    moved.symlink_to(folders["small"])
    ids = [job(tmp_path, f"data.root={root}").branches[0].run_id
           for root in (folders["small"], moved, folders["large"])]  # fmt: skip
    assert ids[0] == ids[1] != ids[2]


def test_shards_of_another_tokenizer_are_refused_before_compute(tmp_path, folders):
    from fmscale.training.run import check

    planned = job(tmp_path, f"data.root={folders['small']}", "data.vocab_size=256")
    with pytest.raises(ConfigError, match=r"data.vocab_size = 256, but.*vocabulary of 270"):
        check(planned)
    with pytest.raises(ConfigError, match=r"data.root has no value.*fmscale prepare"):
        job(tmp_path)
    content = job(tmp_path, f"data.root={folders['small']}").config["data"]["content"]
    exchanged = job(tmp_path, f"data.root={folders['large']}", f"data.content={content}")
    with pytest.raises(ConfigError, match="the run started on other text"):
        check(exchanged)


def test_a_tokenizer_that_did_not_make_the_shards_is_named(tmp_path, folders):
    copy = tmp_path / "copy"
    shutil.copytree(folders["small"], copy)
    other = (folders["large"] / "tokenizer.json").read_bytes()
    (copy / "tokenizer.json").write_bytes(other)
    with pytest.raises(ConfigError, match="is not the tokenizer that the shards beside it"):
        job(tmp_path, f"data.root={copy}")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"tokenizer\.json is missing"):
        job(tmp_path, f"data.root={copy}")


def test_ids_that_nobody_checked_are_refused_as_a_mistake_of_the_configuration(tmp_path):
    from fmscale.training.run import check

    root = nanogpt(tmp_path / "n")
    with pytest.raises(ConfigError, match=r"train.bin: token 3 is 999, outside the vocabulary"):
        check(job(tmp_path, f"data.root={root}", "data.vocab_size=999"))


def test_repeating_more_than_allowed_is_refused(tmp_path, folders):
    from fmscale.training.run import check

    n = int(tokens(folders["bytes"], "train").size * 1.5)
    overrides = [f"data.root={folders['bytes']}", f"budget.tokens={n}", "data.seq_len=16",
                 "data.n_val_tokens=320"]  # fmt: skip
    with pytest.raises(ConfigError, match=r"1\.5\d passes over.*budget.max_epochs=1"):
        check(job(tmp_path, *overrides))
    check(job(tmp_path, *overrides, "budget.max_epochs=2"))


def test_a_run_on_a_trained_tokenizer_is_sampled_and_exported(
    tmp_path, folders, monkeypatch, capsys
):
    from transformers import AutoTokenizer

    from fmscale.commands import convert, sample
    from fmscale.training.run import check, train_branch

    planned = job(tmp_path, f"data.root={folders['large']}", "budget.tokens=5120", "trainer=cpu",
                  "batch_size=4", "schedule=cosine", "data.n_val_tokens=640", "data.seq_len=32",
                  "budget.max_epochs=10")  # fmt: skip
    check(planned)
    train_branch(planned, planned.branches[0])
    run_id = planned.branches[0].run_id
    rest = ["--runs-dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["sample", run_id, "--prompt", "Zipf’s λ is", *rest])
    sample.main()
    assert "Zipf’s λ is" in capsys.readouterr().out
    out = tmp_path / "exported"
    monkeypatch.setattr(
        "sys.argv", ["convert", run_id, "--to", "transformers-gpt2", "--out", str(out), *rest]
    )
    convert.main()
    theirs = AutoTokenizer.from_pretrained(out)
    text = "Zipf’s λ is 7 and 49: word piece"
    ours = FileTokenizer(folders["large"] / "tokenizer.json").encode(text.encode())
    assert theirs(text)["input_ids"] == ours.tolist()
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == 0
