"""The learned filter: planted good and bad text, the published rule, one answer for any workers."""

import json
from pathlib import Path

import numpy as np
import pytest

from fmscale.data.preparation.keep_or_drop import is_held_out
from fmscale.data.preparation.quality_classifier import N_FEATURES, QualityClassifier
from tests.helpers.texts import build, tokens

GOOD, BAD = range(0, 400), range(300, 700)  # ranks of words; a quarter is common to both


def document(seed: int, vocabulary: range) -> str:
    ranks = np.random.default_rng(seed).choice(list(vocabulary), 60)
    return " ".join(f"word{rank}" for rank in ranks)


def write(path: Path, texts) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def crawl(tmp_path) -> Path:
    bad = [document(seed, BAD) for seed in range(300)]
    return write(tmp_path / "crawl.jsonl", [*bad, *(document(s, GOOD) for s in range(400, 440))])


@pytest.fixture
def reference(tmp_path) -> str:
    return str(write(tmp_path / "good.jsonl", [document(s, GOOD) for s in range(1000, 1200)]))


def filter_of(bias: float, alpha: float = 9.0) -> QualityClassifier:
    """One that gives every text the same score."""
    return QualityClassifier(
        np.zeros((2, N_FEATURES), dtype=np.float32), np.full(2, bias), alpha, {}
    )


@pytest.mark.parametrize("score", [0.02, 0.9])
@pytest.mark.parametrize("alpha", [3.0, 9.0])
def test_documents_are_kept_as_often_as_numpys_pareto_numbers_say(score, alpha):
    filtered = filter_of(np.log(score / (1 - score)), alpha)
    texts = [f"text {i}" for i in range(800)]
    assert filtered.score(texts[0]) == pytest.approx(score)
    kept = np.mean([filtered.keeps(text) for text in texts])
    drawn = np.mean(np.random.default_rng(0).pareto(alpha, 100_000) > 1 - score)
    assert kept == pytest.approx(drawn, abs=4 * np.sqrt(drawn * (1 - drawn) / 800) + 1e-9)


def test_what_is_kept_has_nothing_to_do_with_what_is_held_out():
    kept = [text for i in range(1500) if filter_of(0.0, 2.0).keeps(text := f"text {i}")]
    share = np.mean([is_held_out(text, 0.3) for text in kept])
    assert share == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / len(kept)))


def test_planted_bad_text_goes_and_good_text_mostly_stays(tmp_path, crawl, reference):
    settings = {"split": "tail", "reference": (reference,), "pareto": 3.0, "shard_bytes": 40_000}
    manifest = build(crawl, tmp_path / "out", **settings)
    report = manifest["likeness"]
    assert (report["n_reference"], report["n_raw"]) == (200, 340)
    assert report["held_out_auc"] > 0.85  # 40 good documents are in the crawl: 1 is not reached
    dropped = manifest["dropped"]["documents"]["unlike_reference"]
    data = tokens(tmp_path / "out", "train").astype(np.uint8).tobytes()
    texts = data.decode().split("\0")[:-1]
    assert len(texts) + dropped == 340
    good = [document(s, GOOD) for s in range(400, 440)]
    n_good = sum(any(whole.startswith(text) for whole in good) for text in texts)
    assert n_good / 40 > 3 * (len(texts) - n_good) / 300  # scores of about 0.8 and 0.1
    assert len(texts) - n_good < 0.25 * 300
    again = build(crawl, tmp_path / "two", 2, **settings)
    assert again["content_sha256"] == manifest["content_sha256"]  # whatever the workers


def test_a_reference_that_cannot_teach_is_named(tmp_path, crawl):
    few = write(tmp_path / "few.jsonl", [document(s, GOOD) for s in range(3)])
    with pytest.raises(ValueError, match="--reference holds 3 documents, too few"):
        build(crawl, tmp_path / "out", reference=(str(few),))
    with pytest.raises(ValueError, match="--pareto 0"):
        build(crawl, tmp_path / "out", reference=(str(few),), pareto=0.0)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        build(crawl, tmp_path / "out", reference=("nowhere",))
