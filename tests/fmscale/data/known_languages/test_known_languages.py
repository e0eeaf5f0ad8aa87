"""Languages with known truth: oracles against brute force, entropies against sampling."""

import itertools

import numpy as np
import pytest
from scipy.special import digamma

from fmscale.data.known_languages.in_context_markov import InContextMarkov
from fmscale.data.known_languages.known_language import VALIDATION_START
from fmscale.data.known_languages.markov import Markov
from fmscale.data.known_languages.random_hierarchy import RandomHierarchy
from fmscale.data.known_languages.zipf_facts import ZipfFacts

SMALL = {
    "markov": lambda **k: Markov(n_symbols=3, vocab_size=4, seq_len=4, order=2, **k),
    "in_context": lambda **k: InContextMarkov(n_symbols=3, vocab_size=4, seq_len=4, **k),
    "facts": lambda **k: ZipfFacts(n_symbols=3, vocab_size=4, seq_len=6, n_digits=2, noise=0.2,
                                   **k),
    "hierarchy": lambda **k: RandomHierarchy(n_symbols=3, vocab_size=4, seq_len=4, n_rules=2,
                                             n_levels=2, **k),
}  # fmt: skip
LARGE = {
    "markov": Markov(n_symbols=16, vocab_size=17, seq_len=64, n_val_tokens=64),
    "facts": ZipfFacts(n_symbols=16, vocab_size=17, seq_len=64, noise=0.1),
    "hierarchy": RandomHierarchy(n_symbols=16, vocab_size=17, seq_len=64),
}
FEW = {"n_unique_tokens": 600, "n_val_tokens": 60}


@pytest.mark.parametrize("name", SMALL)
def test_probabilities_of_all_sequences_add_to_one(name):
    language = SMALL[name](**FEW)
    every = np.array(list(itertools.product(range(3), repeat=language.seq_len)))
    with np.errstate(invalid="ignore"):
        total = np.exp(language.log_probabilities(every).sum(axis=1))
    assert np.nansum(total) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", SMALL)
def test_sequences_come_as_often_as_the_oracle_says(name):
    language = SMALL[name](**FEW)
    drawn = language.sequences(np.arange(60_000))
    code = drawn @ 3 ** np.arange(language.seq_len)
    _, where, counts = np.unique(code, return_index=True, return_counts=True)
    p = np.exp(language.log_probabilities(drawn[where]).sum(axis=1))
    expected = p * len(drawn)
    common = expected > 50
    assert common.sum() > 5
    z = (counts - expected)[common] / np.sqrt(expected[common])
    assert np.abs(z).max() < 5
    assert (z**2).mean() == pytest.approx(1, abs=0.6)


@pytest.mark.parametrize("name", LARGE)
def test_exact_entropy_is_the_mean_of_the_oracle(name):
    language = LARGE[name]
    nats = -language.log_probabilities(language.sequences(np.arange(4000))).mean(axis=1)
    error = nats.std() / np.sqrt(len(nats))
    assert abs(nats.mean() - language.entropy) < 4 * max(error, 1e-12)


@pytest.mark.parametrize(
    ("v", "m", "levels", "nats"), [(16, 4, 4, 1.4729), (16, 4, 6, 1.4080), (32, 8, 4, 2.1661)]
)
def test_entropy_of_published_hierarchies(v, m, levels, nats):
    language = RandomHierarchy(n_symbols=v, vocab_size=v + 1, seq_len=2**levels, n_rules=m,
                               n_levels=levels)  # fmt: skip
    assert language.entropy == pytest.approx(nats, abs=5e-5)


def test_expansions_of_a_level_are_all_different():
    for level in LARGE["hierarchy"].rules:
        pairs = level.reshape(-1, 2)
        assert len(np.unique(pairs, axis=0)) == len(pairs)


def test_bayes_loss_falls_along_the_context_to_its_asymptote():
    language = InContextMarkov(n_symbols=8, vocab_size=9, seq_len=128)
    nats = -language.log_probabilities(language.sequences(np.arange(20_000))).mean(axis=0)
    assert nats[0] == pytest.approx(np.log(8), abs=1e-9)
    # Single positions have a standard error of 0.007; neighbours are averaged.
    for position, known in ((16, 2.019), (64, 1.904), (125, 1.857)):
        assert nats[position - 2 : position + 3].mean() == pytest.approx(known, abs=0.012)
    assert language.entropy_rate == pytest.approx(digamma(9) - digamma(2), abs=1e-12)


def test_a_chain_of_order_one_matches_the_closed_form():
    language = Markov(n_symbols=2, vocab_size=3, seq_len=32, order=1, n_unique_tokens=64,
                      n_val_tokens=64)  # fmt: skip
    p, q = language.table[0, 1], language.table[1, 0]
    assert language.stationary == pytest.approx([q / (p + q), p / (p + q)], abs=1e-12)

    def h(x):
        return -x * np.log(x) - (1 - x) * np.log(1 - x)

    assert language.entropy_rate == pytest.approx((q * h(p) + p * h(q)) / (p + q), abs=1e-12)


def test_zipf_keys_have_their_exponent():
    p = np.sort(LARGE["facts"].probabilities)[::-1]
    assert np.log(p[9] / p[999]) / np.log(100) == pytest.approx(1.5)


@pytest.mark.parametrize("name", SMALL)
def test_batches_are_a_function_of_the_index_alone(name):
    language = SMALL[name](**FEW)
    both = language.train_batch(np.array([5, 7]))["tokens"]
    again = SMALL[name](**FEW).train_batch(np.array([7]))["tokens"]
    assert (both[1] == again[0]).all()
    assert (both[:, 0] == language.n_symbols).all()
    assert language.n_items < VALIDATION_START
    held_out = next(language.validation_batches(2))["tokens"]
    assert held_out.shape == (2, language.seq_len + 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Markov(n_symbols=4, vocab_size=4, seq_len=8), "data.vocab_size=5"),
        (lambda: Markov(n_symbols=64, vocab_size=65, seq_len=8, order=4), "Lower one of them"),
        (lambda: Markov(n_symbols=4, vocab_size=5, seq_len=8, order=8), "data.order"),
        (lambda: ZipfFacts(n_symbols=4, vocab_size=5, seq_len=10, n_digits=3), "multiple"),
        (lambda: ZipfFacts(n_symbols=4, vocab_size=5, seq_len=8, noise=1.0), "data.noise"),
        (lambda: RandomHierarchy(n_symbols=4, vocab_size=5, seq_len=10), "whole number of trees"),
        (lambda: RandomHierarchy(n_symbols=4, vocab_size=5, seq_len=16, n_rules=5), "at most 4"),
        (lambda: InContextMarkov(n_symbols=1, vocab_size=2, seq_len=8), "at least 2"),
        (lambda: InContextMarkov(n_symbols=4, vocab_size=5, seq_len=8, n_val_tokens=4),
         "data.n_val_tokens"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
