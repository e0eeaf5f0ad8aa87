"""Shards equal a plain loop's, whatever the workers and interruptions; memory stays constant."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fmscale.data.preparation.build import build_shards
from fmscale.data.preparation.keep_or_drop import is_held_out
from fmscale.data.preparation.settings import Recipe
from fmscale.data.text.manifest import Manifest, verify
from fmscale.data.text.tokenizer import FileTokenizer
from tests.helpers.texts import BROKEN, PROSE, Silent, build, changed, tokens, words, write_texts


@pytest.fixture
def texts() -> list[str]:
    return [" ".join(words(seed, 20 + seed)) + " naïve 日本\n" for seed in range(80)]


@pytest.fixture
def corpus(tmp_path, texts) -> Path:
    return write_texts(tmp_path / "corpus", texts)


def test_bytes_are_those_of_a_plain_loop(tmp_path, corpus, texts):
    manifest = build(corpus, tmp_path / "out")
    expected = {"train": b"", "validation": b""}
    for text in texts:
        side = "validation" if is_held_out(text, 0.1) else "train"
        expected[side] += text.encode() + b"\0"
    for split, data in expected.items():
        assert tokens(tmp_path / "out", split).astype(np.uint8).tobytes() == data
        assert manifest[split]["n_tokens"] == manifest[split]["n_bytes"] == len(data)
        assert manifest[split]["bytes_per_token"] == 1
    assert manifest["dtype"] == "uint16"
    assert len(manifest["train"]["shards"]) > 3
    assert verify(Manifest.read(tmp_path / "out")) == []


def test_bpe_gives_back_the_text_and_counts_every_byte(tmp_path, corpus, texts):
    manifest = build(corpus, tmp_path / "out", tokenizer="bpe", vocab_size=400)
    tokenizer = FileTokenizer(tmp_path / "out" / "tokenizer.json")
    assert manifest["vocab_size"] == tokenizer.vocab_size == 400
    for split in ("train", "validation"):
        expected = [t for t in texts if is_held_out(t, 0.1) == (split == "validation")]
        text = tokenizer.decode(tokens(tmp_path / "out", split)).decode()
        assert text.split("<|endoftext|>") == [*expected, ""]
        n_bytes = sum(len(t.encode()) + 1 for t in expected)
        assert manifest[split]["n_bytes"] == n_bytes
        assert manifest[split]["bytes_per_token"] == n_bytes / manifest[split]["n_tokens"]
    counts = [np.fromfile(s.byte_counts, dtype=np.uint32)
              for s in Manifest.read(tmp_path / "out").shards["validation"]]  # fmt: skip
    assert np.concatenate(counts).sum() == manifest["validation"]["n_bytes"]


def test_the_tokenizer_is_trained_on_training_text_alone(tmp_path):
    common = ["abcd efgh " * 20 + str(i) for i in range(200)]
    held = next(t for t in (f"zq{i} " * 300 for i in range(1000)) if is_held_out(t, 0.1))
    build(write_texts(tmp_path / "in", [*common, held]), tmp_path / "out", tokenizer="bpe",
          vocab_size=270)  # fmt: skip
    vocabulary = FileTokenizer(tmp_path / "out" / "tokenizer.json").tokenizer.get_vocab()
    assert "abcd" in vocabulary
    assert "zq" not in vocabulary


@pytest.mark.parametrize("settings", [{}, {"tokenizer": "bpe", "vocab_size": 300,
                                           "duplicates": "near"}])  # fmt: skip
def test_the_number_of_workers_changes_nothing(tmp_path, corpus, settings):
    one = build(corpus, tmp_path / "one", **settings)
    two = build(corpus, tmp_path / "two", n_workers=2, **settings)
    assert one["content_sha256"] == two["content_sha256"]
    assert {k: v for k, v in one.items() if k != "seconds"} == {
        k: v for k, v in two.items() if k != "seconds"
    }


def test_a_tokenizer_file_of_any_kind_is_taken(tmp_path, corpus, texts):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]", "[SEP]"],
                                        show_progress=False)  # fmt: skip
    tokenizer.train_from_iterator([t.replace("日本", "") for t in texts], trainer)
    path = tmp_path / "wordpiece.json"
    tokenizer.save(str(path))
    manifest = build(corpus, tmp_path / "out", tokenizer=str(path))
    assert manifest["separator"] == tokenizer.token_to_id("[SEP]")
    # White space and unknown words are no tokens' text, and are counted all the same.
    held = [t for t in texts if is_held_out(t, 0.1)]
    assert manifest["validation"]["n_bytes"] == sum(len(t.encode()) + 1 for t in held)
    counts = [np.fromfile(s.byte_counts, dtype=np.uint32)
              for s in Manifest.read(tmp_path / "out").shards["validation"]]  # fmt: skip
    assert np.concatenate(counts).sum() == manifest["validation"]["n_bytes"]
    # But lower case and unknown words do not come back: there are no bits per byte.
    assert manifest["validation"]["n_not_restored"] == len(held)
    with pytest.raises(ValueError, match=r"has no token '<x>'.*--separator"):
        build(corpus, tmp_path / "no", tokenizer=str(path), separator="<x>")


def test_tails_are_held_out_of_every_document(tmp_path, corpus, texts):
    build(corpus, tmp_path / "out", split="tail")
    heads, tails = (tokens(tmp_path / "out", s).astype(np.uint8).tobytes().split(b"\0")
                    for s in ("train", "validation"))  # fmt: skip
    joined = [(a + b).decode() for a, b in zip(heads, tails, strict=True)]
    assert joined == [*texts, ""]


def test_held_out_text_of_ones_own_is_the_validation(tmp_path, corpus, texts):
    other = write_texts(tmp_path / "other", ["held out one", "held out two"])
    manifest = build(corpus, tmp_path / "out", validation=(str(other),))
    assert manifest["train"]["n_documents"] == len(texts)
    held = tokens(tmp_path / "out", "validation").astype(np.uint8).tobytes()
    assert held == b"held out one\0held out two\0"


def test_what_is_dropped_is_counted_with_its_reason(tmp_path):
    base = [" ".join([*words(s, 80), PROSE[:200]]) for s in range(60)]
    copies = base[:5]
    near = [" ".join(changed(t.split(), 1, 0)) for t in base[5:9]]
    bad = list(BROKEN.values())
    rows = [{"text": t, "url": f"http://site/{i}", "karma": 3 + i % 2}
            for i, t in enumerate([*base, *copies, *near, *bad, ""])]  # fmt: skip
    rows += [{"text": PROSE, "url": "https://en.Wikipedia.org/x", "karma": 9},
             {"text": PROSE + "unpopular", "url": "http://x", "karma": 2}]  # fmt: skip
    path = tmp_path / "pages.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not json\n")
    manifest = build(path, tmp_path / "out", duplicates="near", quality=True, on_bad="drop",
                     exclude=("*wikipedia*",), source_field="url", score_field="karma",
                     min_score=3)  # fmt: skip
    expected = Counter({reason: 1 for reason in BROKEN}) + Counter(
        exact_duplicate=5, near_duplicate=4, empty=1, excluded_source=1, low_score=1, not_json=1
    )
    assert manifest["dropped"]["documents"] == expected
    assert manifest["dropped"]["bytes"]["exact_duplicate"] == sum(len(t) for t in copies)
    assert sum(manifest[s]["n_documents"] for s in ("train", "validation")) == 60


def test_leaks_are_reported_and_dropped_where_asked_for(tmp_path, texts):
    examples = [" ".join(words(900 + s, 20)) for s in range(5)]
    texts = [*texts, "before " + examples[3] + " after"]
    corpus = write_texts(tmp_path / "in", texts)
    exam = tmp_path / "exam.txt"
    exam.write_text("\n".join(examples) + "\n")
    settings = {"evaluations": (str(exam),)}
    report = build(corpus, tmp_path / "a", **settings)
    assert report["leakage"]["n_documents"] == 1
    assert report["leakage"]["sets"][str(exam)]["n_leaked"] == 1
    assert report["leakage"]["sets"][str(exam)]["worst"][0]["example"].endswith("line 4")
    clean = build(corpus, tmp_path / "b", drop_leaks=True, **settings)
    assert clean["dropped"]["documents"] == {"leak": 1}
    kept = sum(clean[s]["n_documents"] for s in ("train", "validation"))
    assert kept == sum(report[s]["n_documents"] for s in ("train", "validation")) - 1


def test_evaluation_sets_need_no_origins_and_a_line_that_cannot_be_read_is_named(tmp_path):
    rows = [{"text": " ".join(words(s, 40)), "url": "http://a", "karma": 9} for s in range(30)]
    crawl, exam = tmp_path / "crawl.jsonl", tmp_path / "exam.jsonl"
    crawl.write_text("".join(json.dumps(row) + "\n" for row in rows))
    exam.write_text(json.dumps({"text": rows[7]["text"]}) + "\n")
    settings = {"source_field": "url", "score_field": "karma", "min_score": 3.0, "on_bad": "drop",
                "split": "tail", "evaluations": (str(exam),)}  # fmt: skip
    report = build(crawl, tmp_path / "out", **settings)["leakage"]
    assert report["sets"][str(exam)]["n_leaked"] == 1
    exam.write_text(exam.read_text() + json.dumps({"question": "?"}) + "\n")
    with pytest.raises(ValueError, match=r"exam\.jsonl, line 2 has no field 'text'"):
        build(crawl, tmp_path / "other", **settings)


def test_the_same_command_again_does_nothing_and_other_settings_are_refused(tmp_path, corpus):
    first = build(corpus, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert build(corpus, tmp_path / "out") == first
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before
    with pytest.raises(ValueError, match="other text or other settings.*--overwrite"):
        build(corpus, tmp_path / "out", val_fraction=0.2)
    (corpus / "0000.txt").write_text("changed")
    with pytest.raises(ValueError, match="other text or other settings"):
        build(corpus, tmp_path / "out")


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path, corpus):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty"):
        build(corpus, tmp_path / "out")


COMMAND = [sys.executable, "-m", "fmscale.cli", "prepare"]
OPTIONS = ["--shard-bytes", "20000", "--tokenizer", "bpe", "--vocab-size", "600",
           "--duplicates", "exact", "--val-fraction", "0.1"]  # fmt: skip


def test_a_killed_preparation_goes_on_without_repeating_a_finished_shard(tmp_path):
    texts = [" ".join(words(seed, 1000)) for seed in range(120)]
    corpus = write_texts(tmp_path / "corpus", texts)
    whole = [*COMMAND, str(corpus), *OPTIONS, "--workers", "2"]
    out = tmp_path / "out"
    process = subprocess.Popen([*whole, "--out", str(out)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    notes = out / ".building"
    deadline = time.monotonic() + 60
    while len(list(notes.glob("shard-*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must end by themselves
    process.wait()
    assert not (out / "manifest.json").exists()
    with pytest.raises(ValueError, match="is not finished.*same command"):
        Manifest.read(out)
    deadline = time.monotonic() + 30
    while _group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _group_lives(process.pid)
    done = {n.name: n.stat().st_mtime_ns for n in notes.glob("s*-*")}
    shards = {p.name: p.stat().st_mtime_ns for p in out.glob("*.bin")
              if f"shard-{p.stem[-5:]}.json" in done}  # fmt: skip
    assert 3 <= len([name for name in done if name.startswith("shard")]) < 60
    again = subprocess.run([*whole, "--out", str(out)], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    for name, when in shards.items():
        assert (out / name).stat().st_mtime_ns == when, "a finished shard was written again"
    calm = build(corpus, tmp_path / "calm", shard_bytes=20_000, tokenizer="bpe", vocab_size=600,
                 duplicates="exact")  # fmt: skip
    assert (
        json.loads((out / "manifest.json").read_text())["content_sha256"]
        == (calm["content_sha256"])
    )
    names = {p.name for p in out.iterdir()}
    assert {n for n in names if not n.startswith((".", "train-", "validation-"))} == {
        "manifest.json", "tokenizer.json"
    }  # fmt: skip


def _group_lives(group: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_input(tmp_path, kind):
    def peak(n: int) -> int:
        path = tmp_path / f"in-{n}"
        rows = [" ".join(words(s, 300)) for s in range(50)]
        if kind == "text":
            path = path.with_suffix(".txt")
            with path.open("w") as file:
                for i in range(n):
                    file.write(f"{i} {rows[i % 50]}\n")
        elif kind == "jsonl":
            path = path.with_suffix(".jsonl")
            with path.open("w") as file:
                for i in range(n):
                    file.write(json.dumps({"text": f"{i} {rows[i % 50]}"}) + "\n")
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            path = path.with_suffix(".parquet")
            texts = [f"{i} {rows[i % 50]}" for i in range(n)]
            pq.write_table(pa.table({"text": texts}), path, row_group_size=500)
            del texts
        tracemalloc.start()
        build(path, tmp_path / f"out-{n}", shard_bytes=1 << 22, split="tail")
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    small, large = peak(2_000), peak(12_000)  # 5 and 32 MB of text
    assert large < 1.15 * small + 500_000
    assert large < 60_000_000


def test_progress_ends_at_the_whole_and_never_goes_back(tmp_path, corpus):
    display = Silent()
    recipe = Recipe(inputs=(str(corpus),), shard_bytes=4000, val_fraction=0.1, duplicates="exact")
    build_shards(recipe, tmp_path / "out", 1, display)
    assert [what for what, _, _ in display.told] == ["first pass", "tokens"]
    for _, total, done in display.told:
        assert done == sorted(done)
        assert done[-1] == total


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_fraction": 1e-9}, "no validation text.*--split tail"),
        ({"exclude": ("*",)}, "every document was dropped"),
        ({"tokenizer": "bpe", "vocab_size": 100_000}, "text yields only [0-9]+ tokens"),
        ({"tokenizer": "bpe"}, "--vocab-size None"),
        ({"tokenizer": "nowhere.json"}, "there is no such file"),
        ({"vocab_size": 300}, "belongs to tokenizer bpe"),
        ({"on_bad": "hide"}, "--on-bad hide: choose one of stop, drop, replace"),
        ({"val_fraction": 0.0}, "--val-fraction"),
        ({"drop_leaks": True}, "--evaluations"),
        ({"min_score": 3.0}, "--score-field"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, corpus, settings, message):
    with pytest.raises(ValueError, match=message):
        build(corpus, tmp_path / "out", **settings)


def test_a_zero_byte_is_named_where_it_ends_documents(tmp_path):
    corpus = write_texts(tmp_path / "in", [f"text {i}" for i in range(60)] + ["a\0b"])
    with pytest.raises(ValueError, match=r"0060\.txt holds a zero byte.*--on-bad drop"):
        build(corpus, tmp_path / "out")
    manifest = build(corpus, tmp_path / "out2", on_bad="drop")
    assert manifest["dropped"]["documents"] == {"zero_byte": 1}


def test_the_command_explains_itself_and_reports(tmp_path, corpus):
    usage = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True)
    assert "examples:" in usage.stdout
    out = tmp_path / "out"
    run = [*COMMAND, str(corpus), "--out", str(out), "--val-fraction", "0.1"]
    first = subprocess.run(run, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert f"fmscale train data=shards data.root={out}" in first.stdout
    assert subprocess.run([*COMMAND, "--verify", str(out)], capture_output=True).returncode == 0
    shard = next(out.glob("train-*.bin"))
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes(data)
    damaged = subprocess.run([*COMMAND, "--verify", str(out)], capture_output=True, text=True)
    assert damaged.returncode == 1
    assert "is damaged" in damaged.stderr
    refused = subprocess.run([*run, "--split", "tail"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    renewed = subprocess.run([*run, "--split", "tail", "--overwrite"], capture_output=True)
    assert renewed.returncode == 0
