"""A job's steps and ids, worked out from the real configuration."""

import pytest

from fmscale.config.jobs import expand
from fmscale.errors import ConfigError


def test_branches_leave_the_trunk_where_their_cooldown_starts(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=[6400,12800]"])
    assert [b.n_steps for b in job.branches] == [100, 200]
    assert [b.cooldown_steps for b in job.branches] == [20, 40]
    assert [b.branch_step for b in job.branches] == [80, 160]
    assert job.trunk_steps == 160


def test_marginal_costs_add_up_to_what_is_trained(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=[6400,12800,25600]"])
    trained = job.trunk_steps + sum(b.cooldown_steps for b in job.branches)
    assert sum(job.marginal_steps(b) for b in job.branches) == trained


def test_five_budgets_two_fold_apart_cost_the_stated_share(tiny, plan_one):
    budgets = "budget.tokens=[6400,12800,25600,51200,102400]"
    job = plan_one([*tiny, budgets, "budget.max_epochs=100"])
    apart = sum(b.n_steps for b in job.branches)
    share = sum(job.marginal_steps(b) for b in job.branches) / apart
    assert share == pytest.approx(0.61, abs=0.01)


def test_cosine_shares_nothing(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=[6400,12800]", "schedule=cosine"])
    assert job.trunk_steps == 0
    assert [job.marginal_steps(b) for b in job.branches] == [100, 200]


def test_id_does_not_depend_on_what_else_is_trained(tiny, plan_one):
    warmup = "schedule.warmup_units=640"
    alone = plan_one([*tiny, "budget.tokens=6400", warmup])
    beside = plan_one([*tiny, "budget.tokens=[6400,12800]", warmup])
    assert alone.branches[0].run_id == beside.branches[0].run_id


@pytest.mark.parametrize(
    "override",
    ["study=other", "paths.data_dir=/elsewhere", "logger=wandb", "trainer.log_every_steps=7",
     "trainer.threads=2", "launcher=basic", "batch_size=4", "budget.tokens=6.4e3"],
)  # fmt: skip
def test_id_ignores_what_does_not_change_numbers(tiny, plan_one, override):
    base = plan_one([*tiny, "budget.tokens=6400"])
    assert plan_one([*tiny, "budget.tokens=6400", override]).branches == base.branches


@pytest.mark.parametrize(
    "override",
    ["seed=2", "optimizer.lr=1e-3", "model.shape.d_model=32", "batch_size=8", "data.seq_len=32",
     "schedule.cooldown_fraction=0.1", "trainer.precision=bf16-mixed", "data.n_val_tokens=256",
     "optimizer.weight_decay=0", "trainer.gradient_clip_val=2"],
)  # fmt: skip
def test_id_changes_with_whatever_changes_numbers(tiny, plan_one, override):
    base = plan_one([*tiny, "budget.tokens=6400"])
    changed = plan_one([*tiny, "budget.tokens=6400", override])
    assert changed.branches[0].run_id != base.branches[0].run_id


def test_learning_rate_follows_the_rule_unless_given(tiny, plan_one):
    rule = ["optimizer.lr_rule.lr_ref=1e-2", "optimizer.lr_rule.n_ref=100",
            "optimizer.lr_rule.exponent=0.5"]  # fmt: skip
    job = plan_one([*tiny, "budget.tokens=6400", *rule])
    expected = 1e-2 * (job.shape.n_params_non_embedding / 100) ** -0.5
    assert job.lr_peak == pytest.approx(expected, rel=1e-3)
    assert plan_one([*tiny, "budget.tokens=6400", "optimizer.lr=3e-3"]).lr_peak == 3e-3


def test_default_warm_up_is_a_tenth_of_the_shortest_budget(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=[6400,12800]"])
    assert job.warmup_steps == 10


def test_isoflop_grid_gives_each_size_its_own_tokens(tiny):
    jobs = expand([*tiny, "budget=flops", "budget.flops=1e9", "model=gpt/1x16,gpt/2x32"])
    flops = [job.flops(job.branches[0].n_units)["flops"] for job in jobs]
    assert flops == pytest.approx([1e9, 1e9], rel=0.02)
    assert jobs[0].branches[0].n_units > 3 * jobs[1].branches[0].n_units


def test_mup_is_refused_for_a_model_it_is_not_written_for(tiny_clip):
    with pytest.raises(ConfigError, match=r"written for GPT alone, not for clip_.*parametrization"):
        expand([*tiny_clip, "budget.samples=160", "parametrization=mup"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+typo=1"], "unknown configuration key.*typo"),
        (["+trainer.typo=1"], "section trainer.*typo"),
        (["+budget.typo=1"], "section budget.*typo"),
        (["+model.shape.typo=1"], "section model.shape.*typo"),
        (["budget.flops=1e9"], "exactly one horizon"),
        (["budget.tokens=10"], "less than one batch"),
        (["schedule.warmup_units=2000"], "32.0% of the shortest budget.*at most 20%"),
        (
            ["schedule.warmup_units=2000", "batch_ramp={start: 2, units: 2e3}"],
            "32.1% of the shortest budget of 6,384",  # counted in tokens: a ramp has more steps
        ),
        (["model.shape.n_head=3"], "n_head=3 does not divide d_model=16"),
        (["trainer.precision=fp8"], "trainer.precision='fp8'"),
        (["trainer.accumulate=3"], "does not divide batch_size=4"),
        (["batch_size=0"], "batch_size=0"),
        (["seed=-1"], "seed=-1"),
        (["optimizer.lr=0"], "optimizer.lr=0"),
        (["schedule.cooldown_fraction=2"], "cooldown_fraction=2"),
        (["model=gpt/9x999"], "model=gpt/9x999: gpt has 1x8, 2x6, .*; or model=gpt model.shape"),
        (["model=gpt/1x8,gpt_2x64"], "model=gpt_2x64 is called model=gpt/2x64"),
        (["model=mine"], "Could not find 'model/mine'"),
        (["model=clip/1x16"], "data=scenes objective=contrastive"),
        (["nonsense=1"], "nonsense"),
    ],
)
def test_mistakes_are_named_before_any_compute(tiny, overrides, message):
    with pytest.raises(ConfigError, match=message):
        expand([*tiny, "budget.tokens=6400", *overrides])


def test_a_missing_budget_says_how_to_give_one(tiny):
    with pytest.raises(ConfigError, match=r"budget.tokens has no value; give budget.tokens="):
        expand(tiny)


def test_a_patch_that_does_not_divide_the_image_is_refused(tiny_clip):
    with pytest.raises(ConfigError, match="patch_size=5 does not divide image_size=24"):
        expand([*tiny_clip, "budget.samples=320", "model.shape.image.patch_size=5"])


def test_a_contrastive_batch_is_not_split(tiny_clip):
    with pytest.raises(ConfigError, match="would contrast only pairs of the same micro-batch"):
        expand([*tiny_clip, "budget.samples=320", "trainer.accumulate=2"])


RAMP = ["batch_size=8", "+batch_ramp.start=2", "+batch_ramp.units=2000"]


def test_a_batch_ramp_keeps_count_of_tokens_and_costs(tiny, plan_one):
    job = plan_one([*tiny, *RAMP, "budget.tokens=[6400,12800]"])
    assert job.batches.ramp_steps > 5
    for branch, tokens in zip(job.branches, (6400, 12800), strict=True):
        assert branch.n_units == sum(16 * job.batches.batch(s) for s in range(branch.n_steps))
        assert branch.n_units == pytest.approx(tokens, abs=64)
    first, last = job.branches
    shared = job.batches.n_units(first.branch_step)
    expected = job.flops(first.n_units)["flops"] + job.flops(last.n_units - shared)["flops"]
    assert sum(job.marginal_flops(b) for b in job.branches) == pytest.approx(expected)


def test_warm_up_under_a_ramp_is_linear_in_tokens(tiny, plan_one):
    from fmscale.optim.schedules import wsd

    job = plan_one([*tiny, *RAMP, "budget.tokens=25600", "schedule.warmup_units=1280"])
    factor = job.multiplier(wsd, job.branches[0])
    for step in range(job.branches[0].branch_step):
        assert factor(step) == pytest.approx(min(1.0, job.batches.n_units(step + 1) / 1280))
    assert factor(job.branches[0].branch_step) == 1.0  # the cooldown starts where the branch does
    assert factor(job.branches[0].branch_step + 1) < 1.0


def test_a_ramp_is_another_run_and_none_is_the_same_run(tiny, plan_one):
    base = [*tiny, "batch_size=8", "budget.tokens=6400"]
    plain = plan_one(base)
    assert plan_one([*base, "batch_ramp=null"]).branches == plain.branches
    assert plan_one([*tiny, *RAMP, "budget.tokens=6400"]).trunk_id != plain.trunk_id


def test_the_decay_of_gpt3_ends_at_ten_percent_and_stays(tiny, plan_one):
    from functools import partial

    from fmscale.optim.schedules import cosine

    job = plan_one([*tiny, "schedule=gpt3", "schedule.warmup_units=640",
                    "schedule.decay_units=5120", "budget.tokens=6400"])  # fmt: skip
    factor = job.multiplier(partial(cosine, floor=0.1), job.branches[0])
    steps = 5120 // job.units_per_step
    assert factor(10) == 1.0
    assert factor((10 + steps) // 2) == pytest.approx(0.55)
    assert factor(steps - 1) > factor(steps) == pytest.approx(0.1)
    assert factor(job.branches[0].n_steps - 1) == pytest.approx(0.1)
    with pytest.raises(ConfigError, match=r"decay_units=260000000000|decay_units=2.6e\+11"):
        plan_one([*tiny, "schedule=gpt3", "budget.tokens=6400", "schedule.warmup_units=640"])
