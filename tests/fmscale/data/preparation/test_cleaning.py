"""Duplicates, leakage and quality against independent routes and planted truth."""

import json
import re

import numpy as np
import pytest

from fmscale.data.preparation.duplicates import NearDuplicates, exact_duplicates, signature
from fmscale.data.preparation.keep_or_drop import fingerprint, is_held_out
from fmscale.data.preparation.leakage import EvaluationSet, LeakageIndex
from fmscale.data.preparation.ngrams import ngram_hashes, word_hashes
from fmscale.data.preparation.quality import REASONS, quality_problem
from fmscale.data.preparation.settings import Recipe
from tests.helpers.texts import BROKEN, PROSE, changed, words


def grams(text: str, n: int) -> set[tuple[str, ...]]:
    found = re.findall(r"\w+", text.lower())
    return set(zip(*[found[i:] for i in range(n)], strict=False))


def test_equal_ngrams_get_equal_numbers_and_others_do_not():
    text = "The cat sat. The CAT, sat! On a mat; the cat sat on a mat"
    for n in (1, 2, 3):
        assert len(set(ngram_hashes(word_hashes(text), n))) == len(grams(text, n))
    assert len(ngram_hashes(word_hashes("a b"), 3)) == 0
    many = word_hashes(" ".join(words(0, 20_000)))
    assert len(np.unique(ngram_hashes(many, 5))) == len(grams(" ".join(words(0, 20_000)), 5))


def test_order_matters_to_an_ngram():
    a, b = (ngram_hashes(word_hashes(t), 2) for t in ("a b", "b a"))
    assert a[0] != b[0]


@pytest.mark.parametrize("n_changes", [0, 2, 8, 20, 60])
def test_signatures_agree_as_often_as_the_jaccard_index_says(n_changes):
    errors = []
    for seed in range(8):
        one = words(seed, 400)
        other = changed(one, n_changes, seed)
        a, b = grams(" ".join(one), 5), grams(" ".join(other), 5)
        true = len(a & b) / len(a | b)
        estimate = np.mean(signature(" ".join(one)) == signature(" ".join(other)))
        errors.append(estimate - true)
        assert abs(errors[-1]) < 4 * np.sqrt(true * (1 - true) / 128) + 1e-9
    assert abs(np.mean(errors)) < 0.04


def test_planted_near_duplicates_are_found_and_nothing_else():
    texts, planted = [], []
    for seed in range(300):
        one = words(seed, 300)
        texts.append(one)
        planted.append(False)
        if seed % 3 == 0:  # Jaccard about 0.93
            texts.append(changed(one, 2, seed))
            planted.append(True)
        if seed % 3 == 1:  # Jaccard about 0.5: not near enough
            texts.append(changed(one, 25, seed))
            planted.append(False)
    flags = NearDuplicates(0.8).flag(signature(" ".join(text)) for text in texts)
    assert flags == planted


def test_texts_without_words_are_alike_only_if_they_are_equal():
    flags = NearDuplicates(0.8).flag(map(signature, ("...", "!!!", "...", "one", "two")))
    assert flags == [False, False, True, False, False]


def test_the_first_of_equal_texts_stays():
    prints = [fingerprint(t) for t in ("a", "b", "a", "c", "b", "a")]
    rows = np.frombuffer(b"".join(prints), dtype=np.uint8).reshape(-1, 16)
    assert exact_duplicates(rows).tolist() == [False, False, True, False, True, True]


def test_the_share_held_out_is_the_one_asked_for():
    held = [is_held_out(f"text {i}", 0.05) for i in range(20_000)]
    assert np.mean(held) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 20_000))
    small = [is_held_out(f"text {i}", 0.01) for i in range(20_000)]
    assert all(b for a, b in zip(small, held, strict=True) if a)


def test_leaks_are_those_of_a_plain_comparison():
    examples = [" ".join(words(seed, 40)) for seed in range(30)]
    documents = [" ".join(words(1000 + seed, 200)) for seed in range(20)]
    for i in range(0, 30, 3):  # a stretch of some examples, of 12 to 39 words
        stretch = examples[i].split()[: 12 + i]
        documents[i % 20] += " , " + " ".join(stretch).upper() + " ..."
    one = EvaluationSet("set", [np.unique(ngram_hashes(word_hashes(e), 13)) for e in examples],
                        [f"example {i}" for i in range(30)])  # fmt: skip
    index = LeakageIndex([one])
    found, hits = np.zeros(len(index.grams), dtype=bool), []
    for document in documents:
        places = index.find(document)
        found[places] = True
        hits.append(len(places) > 0)
    every = set().union(*(grams(d, 13) for d in documents))
    expected = {i for i, e in enumerate(examples) if grams(e, 13) & every}
    assert len(expected) == 9  # 12 words are no 13-gram
    report = index.report(found, sum(hits))
    assert report["sets"]["set"]["n_leaked"] == len(expected)
    assert {row["example"] for row in report["sets"]["set"]["worst"]} == {
        f"example {i}" for i in expected
    }
    for row in report["sets"]["set"]["worst"]:
        own = grams(examples[int(row["example"].split()[1])], 13)
        assert row["share"] == pytest.approx(len(own & every) / len(own))
    all_examples = set().union(*(grams(e, 13) for e in examples))
    assert hits == [bool(grams(d, 13) & all_examples) for d in documents]


def test_examples_that_are_too_short_are_counted_not_passed(tmp_path):
    path = tmp_path / "set.jsonl"
    rows = ["too short", " ".join(words(1, 13)), " ".join(words(2, 30))]
    path.write_text("".join(json.dumps({"text": r}) + "\n" for r in rows))
    index = LeakageIndex.read(Recipe(inputs=("x",), evaluations=(str(path),)))
    report = index.report(np.zeros(len(index.grams), dtype=bool), 0)["sets"][str(path)]
    assert (report["n_examples"], report["n_too_short"], report["n_leaked"]) == (3, 1, 0)
    assert report["share_leaked"] == 0


def test_running_text_passes():
    assert quality_problem(PROSE) is None


@pytest.mark.parametrize("reason", REASONS)
def test_each_rule_drops_what_it_is_for(reason):
    assert quality_problem(BROKEN[reason]) == reason
