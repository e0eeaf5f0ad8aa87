"""One policy says when to save; on a slow disk too, it takes 2 % of the time at most."""

from __future__ import annotations

from itertools import pairwise

import pytest

from fmscale.training.run import ignore, train_trunk
from fmscale.training.saving import SAVING_SHARE, SavePolicy
from fmscale.training.vmapped.runs import train_group
from tests.helpers.slow_disk import assert_saving_was_rare, slow_disk


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def walk(policy: SavePolicy, clock: Clock, cost, n_steps: int) -> list[int]:
    """Steps of a second each, after which it saves for `cost(step)` seconds."""
    saved = []
    for step in range(1, n_steps + 1):
        clock.time += 1.0
        if policy.due(step):
            with policy.saving():
                clock.time += cost(step)
            saved.append(step)
    return saved


def test_a_fast_disk_is_written_to_as_often_as_asked():
    clock = Clock()
    policy = SavePolicy([25], 9.5, now=clock)
    saved = walk(policy, clock, lambda step: 0.1, 60)
    assert saved == [10, 20, 25, 35, 45, 55]
    assert policy.seconds == pytest.approx(60.0)  # saving is no training


@pytest.mark.parametrize("cost", [lambda step: 3.0, lambda step: 0.1 + 4.0 * (step > 500),
                                  lambda step: 1.0 + step % 7])  # fmt: skip
def test_what_a_checkpoint_took_is_made_up_for_before_the_next(cost):
    clock = Clock()
    saved = walk(SavePolicy([], 9.5, now=clock), clock, cost, 2_000)
    assert len(saved) > 2
    for before, after in pairwise(saved):
        assert cost(before) <= SAVING_SHARE * (after - before)
        assert after - before <= max(10.0, cost(before) / SAVING_SHARE + 2.0)


def test_every_step_is_saved_if_so_asked():
    clock = Clock()
    assert walk(SavePolicy([], 0.0, now=clock), clock, lambda step: 50.0, 4) == [1, 2, 3, 4]


def test_runs_trained_as_one_share_its_time():
    clock = Clock()
    policy = SavePolicy([], 60.0, 4, now=clock)
    walk(policy, clock, lambda step: 0.0, 8)
    assert policy.seconds == pytest.approx(2.0)


@pytest.mark.parametrize("way", ["one run", "a group of runs"])
def test_saving_on_a_slow_disk_takes_little_of_the_time(tiny, plan_one, tmp_path, way):
    jobs = [
        plan_one([*tiny, "budget.tokens=[5120,10240]", "trainer.precision=32-true", f"seed={seed}",
                  "trainer.checkpoint_every_seconds=0.01"])
        for seed in (1, 2)
    ]  # fmt: skip
    with slow_disk(tmp_path / "saves.jsonl"):
        if way == "one run":
            train_trunk(jobs[0])
        else:
            train_group(jobs, ignore)
    assert_saving_was_rare(tmp_path / "saves.jsonl", 0.01)
