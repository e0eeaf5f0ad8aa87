"""Tokens read by step, with and without a batch ramp: always the sum a plain loop gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmscale.optim.batch_schedule import BatchRamp, BatchSchedule

RAMPED = BatchSchedule(64, 16, BatchRamp(start=4, units=20_000), multiple_of=2)


@settings(deadline=None, max_examples=50)
@given(
    start=st.integers(1, 20), extra=st.integers(1, 100), units=st.floats(100, 5e3),
    per_item=st.integers(1, 32),
)  # fmt: skip
def test_a_ramp_equals_the_loop_that_reads_it_step_by_step(start, extra, units, per_item):
    batches = BatchSchedule(start + extra, per_item, BatchRamp(start, units))
    items = 0
    for step in range(batches.ramp_steps + 20):
        assert batches.items(step) == items
        wanted = start + extra * items * per_item / units  # linear in the tokens read
        batch = batches.batch(step)
        assert abs(batch - min(wanted, start + extra)) <= 0.5 + 1e-9
        assert batches.nearest_steps(batches.n_units(step)) == step
        assert batches.steps_covering(batches.n_units(step)) == step
        items += batch


def test_micro_batches_divide_every_step_of_a_ramp():
    assert all(RAMPED.batch(step) % 2 == 0 for step in range(RAMPED.ramp_steps + 3))
    assert RAMPED.batch(0) == 4
    assert RAMPED.batch(RAMPED.ramp_steps) == 64
    assert RAMPED.n_units(RAMPED.ramp_steps) == pytest.approx(20_000, rel=0.1)


def test_a_constant_batch_is_a_product():
    batches = BatchSchedule(8, 128)
    assert (batches.n_units(10), batches.batch(3), batches.ramp_steps) == (10_240, 8, 0)
    assert [batches.nearest_steps(n * 1024) for n in (0.4, 1.5, 2.5, 3.6)] == [0, 2, 2, 4]
    assert batches.full_steps(7) == 7


def test_the_ramp_of_gpt3_reaches_its_full_batch_after_the_stated_tokens():
    # Brown et al. 2020, App. B: from 32k tokens over the first 4 to 12 billion.
    batches = BatchSchedule(1562, 2048, BatchRamp(start=16, units=12e9))
    assert batches.n_units(batches.ramp_steps) == pytest.approx(12e9, rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchRamp(0, 100), "batch_ramp.start=0"),
        (lambda: BatchRamp(4, -1), "batch_ramp.units=-1"),
        (lambda: BatchSchedule(4, 1, BatchRamp(4, 100)), "must lie below batch_size=4"),
        (lambda: BatchSchedule(8, 1, BatchRamp(3, 100), multiple_of=2), "not divisible into 2"),
    ],
)
def test_mistakes_name_the_key(make, message):
    with pytest.raises(ValueError, match=message):
        make()
