"""The order of items: a permutation per epoch, addressable at every position."""

import numpy as np
import pytest

from fmscale.data.item_order import SeededOrder, item_order
from fmscale.data.known_languages.markov import Markov


def test_every_epoch_is_another_permutation_of_all_items():
    stream = SeededOrder(97, seed=1).indices(0, 5 * 97).reshape(5, 97)
    for epoch in stream:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(97))
    assert len({epoch.tobytes() for epoch in stream}) == 5


def test_any_position_can_be_asked_for_in_any_order_of_asking():
    whole = SeededOrder(50, seed=3).indices(0, 400)
    order = SeededOrder(50, seed=3)
    rng = np.random.default_rng(0)
    for _ in range(100):
        start = int(rng.integers(0, 300))
        count = int(rng.integers(0, 100))
        np.testing.assert_array_equal(order.indices(start, count), whole[start : start + count])


def test_a_batch_may_be_longer_than_an_epoch():
    np.testing.assert_array_equal(np.bincount(SeededOrder(3, seed=0).indices(0, 30)), [10, 10, 10])


def test_indices_are_int64_also_for_an_empty_request():
    order = SeededOrder(5, seed=0)
    assert order.indices(2, 4).dtype == np.int64
    assert order.indices(2, 0).dtype == np.int64
    assert len(order.indices(2, 0)) == 0


def test_two_seeds_give_two_orders():
    assert (SeededOrder(100, 0).indices(0, 100) != SeededOrder(100, 1).indices(0, 100)).any()


def test_all_places_of_an_epoch_are_equally_likely_for_an_item():
    places = [int(np.argmax(SeededOrder(10, seed).indices(0, 10) == 0)) for seed in range(2000)]
    counts = np.bincount(places, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 37  # 9 degrees of freedom: once in 40 000


def test_no_items_or_a_negative_position_is_an_error():
    with pytest.raises(ValueError, match="n_items = 0.*Give more data"):
        SeededOrder(0, seed=1)
    with pytest.raises(ValueError, match="start = -1"):
        SeededOrder(5, seed=1).indices(-1, 2)


def test_a_chain_of_some_order_has_the_common_order_of_items():
    chain = Markov(n_symbols=4, vocab_size=5, seq_len=8, order=1)
    assert isinstance(item_order(chain, 1), SeededOrder)
