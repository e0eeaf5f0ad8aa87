"""Random numbers by counter: known values, purity, independence of fields and streams."""

import numpy as np

from fmscale.data.counter_random import mix64, random_bits, random_order, random_uniform


def test_the_mixing_function_gives_the_published_first_output_of_splitmix64():
    # SplitMix64 started at 0 adds the golden constant and mixes.
    state = np.array([0x9E3779B97F4A7C15], dtype=np.uint64)
    assert int(mix64(state)[0]) == 0xE220A8397B1DCDAF
    assert int(state[0]) == 0x9E3779B97F4A7C15, "the argument is left alone"


def test_a_row_depends_on_its_index_alone():
    indices = np.array([5, 0, 1 << 40, 5, 17])
    rows = random_bits(3, 7, indices, 4)
    for index, row in zip(indices, rows, strict=True):
        np.testing.assert_array_equal(random_bits(3, 7, np.array([index]), 4)[0], row)


def test_fewer_fields_are_the_first_of_more_fields():
    indices = np.arange(10)
    few, many = random_bits(1, 2, indices, 3), random_bits(1, 2, indices, 9)
    np.testing.assert_array_equal(few, many[:, :3])


def test_uniforms_fill_the_unit_interval_evenly():
    u = random_uniform(0, 1, np.arange(20_000), 5)
    assert u.min() >= 0
    assert u.max() < 1
    for column in u.T:
        counts = np.histogram(column, bins=20, range=(0, 1))[0]
        chi2 = ((counts - 1000) ** 2 / 1000).sum()
        assert chi2 < 53  # 19 degrees of freedom: exceeded once in 50 000


def test_fields_streams_seeds_and_neighbours_are_uncorrelated():
    indices = np.arange(20_000)
    columns = [
        *random_uniform(0, 1, indices, 3).T,
        random_uniform(0, 1, indices + 1, 1)[:, 0],
        random_uniform(0, 2, indices, 1)[:, 0],
        random_uniform(1, 1, indices, 1)[:, 0],
        random_uniform(-1, 1, indices, 1)[:, 0],
    ]
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlation).max() < 0.032  # 4.5 standard errors of 1 / sqrt(20 000)


def test_an_order_is_a_permutation_that_seed_and_stream_choose():
    orders = [random_order(seed, stream, 1000) for seed in (0, 1) for stream in (0, 1)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert len({order.tobytes() for order in orders}) == 4
    np.testing.assert_array_equal(orders[0], random_order(0, 0, 1000))
