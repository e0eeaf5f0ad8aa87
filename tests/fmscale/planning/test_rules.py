"""Hyper-parameters by rule: planted laws come back, published ones give the published numbers."""

import json

import pytest

from fmscale.config.jobs import expand
from fmscale.errors import ConfigError
from fmscale.planning.rules import BatchRule, Beta2Rule, LearningRateRule, Setting, as_recorded
from fmscale.sizing.gpt3 import TABLE, corrected


def test_a_planted_law_in_size_data_and_batch_is_computed():
    rule = LearningRateRule(
        lr_ref=1e-3, n_ref=100, exponent=0.5, d_ref=1e4, d_exponent=0.25, b_ref=64, b_exponent=0.5
    )
    assert rule(Setting(400, 16e4, 256)) == pytest.approx(1e-3 / 2 * 2 * 2)


def test_step_law_gives_the_numbers_of_its_formula():
    (job,) = expand(["rules=step_law2025", "model=gpt/4x128", "budget.tokens=2e6",
                     "budget.max_epochs=9"])  # fmt: skip
    n = job.shape.n_params_non_embedding
    assert job.lr_peak == pytest.approx(1.79 * n**-0.713 * 2e6**0.307, rel=1e-3)
    assert job.units_per_step == pytest.approx(0.58 * 2e6**0.571, rel=0.05)
    assert job.config["rules"]["lr"]["d_exponent"] == 0.307  # the choice is recorded


def test_porian_matches_olmo_core_at_its_reference():
    rule = ["rules=porian2024", "model=gpt/12x768", "budget.tokens=1e9", "budget.max_epochs=1e9"]
    (job,) = expand(rule)
    n = job.shape.n_params_non_embedding
    assert job.lr_peak == pytest.approx(0.0047 * (n / 108e6) ** (-1 / 3), rel=1e-3)
    assert job.units_per_step == pytest.approx(2048 * 160 * (n / 108e6) ** (2 / 3), rel=1e-3)
    assert job.config["optimizer"]["betas"][1] == pytest.approx(0.95, abs=0.02)


def test_beta2_forgets_over_the_same_number_of_tokens_and_stays_in_bounds():
    rule = Beta2Rule(beta2_ref=0.95, b_ref=1024, high=0.999)
    for batch in (256, 512, 2048):
        assert rule(Setting(1, 1, batch)) ** (1024 / batch) == pytest.approx(0.95, abs=2e-4)
    assert rule(Setting(1, 1, 1)) == 0.999


def test_the_gpt3_table_gives_every_size_its_printed_rate_and_batch():
    fixed = ["rules=gpt3", "data.seq_len=2048", "data.vocab_size=50257", "budget.tokens=300e9",
             "budget.max_epochs=1e9"]  # fmt: skip
    for row in TABLE:
        shape = corrected(row)
        (job,) = expand([*fixed, f"model=gpt/{shape.n_layer}x{shape.d_model}"])
        assert job.lr_peak == row.lr
        assert job.units_per_step == pytest.approx(row.batch_tokens, rel=2e-3)


def test_between_two_points_a_table_is_a_power_law_and_far_outside_it_is_refused():
    rule = LearningRateRule(points=[[1e4, 1e-2], [1e6, 1e-3]])
    assert rule(Setting(1e5)) == pytest.approx(10**-2.5, rel=1e-3)
    assert rule(Setting(8e3)) == 1e-2
    with pytest.raises(ValueError, match="lie outside the table"):
        rule(Setting(1e7))


def test_a_ladder_reads_the_rule_that_a_study_wrote(tmp_path, tiny, plan_one):
    path = tmp_path / "rule.json"
    path.write_text(json.dumps({"lr_ref": 2e-3, "n_ref": 1e5, "exponent": 0.3,
                                "exponent_standard_error": 0.1}))  # fmt: skip
    job = plan_one([*tiny, "budget.tokens=6400", f"optimizer.lr_rule={path}"])
    expected = 2e-3 * (job.shape.n_params_non_embedding / 1e5) ** -0.3
    assert job.lr_peak == pytest.approx(expected, rel=1e-3)
    assert job.config["rules"]["lr"] == {"lr_ref": 2e-3, "n_ref": 1e5, "exponent": 0.3}


def test_a_batch_is_rounded_to_what_micro_batches_divide():
    rule = BatchRule(batch_ref=1000, multiple_of=4)
    assert rule(Setting(1), units_per_item=16) == 64  # 62.5 sequences
    assert rule(Setting(1), units_per_item=16, multiple_of=6) == 60
    assert rule(Setting(1), units_per_item=10_000) == 4


def test_only_what_is_set_is_recorded():
    assert as_recorded(BatchRule(batch_ref=10)) == {"batch_ref": 10}


def test_a_planned_configuration_plans_to_the_same_job(tiny, plan_one):
    from fmscale.planning.job import Job

    job = plan_one([*tiny, "rules=bergsma2025", "budget.tokens=6400",
                    "batch_rule.batch_ref=32"])  # fmt: skip
    again = Job.plan(job.config, job.shape)
    assert again.branches == job.branches
    assert again.config == job.config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_size=null"], "batch_rule is not set"),
        (["optimizer.betas=[0.9,null]"], "beta2_rule is not set"),
        (["optimizer.lr_rule=null"], "lr_rule is not set"),
        (["optimizer.lr_rule=/no/such/rule.json"], "cannot be read as JSON"),
        (["+optimizer.lr_rule.typo=1"], "optimizer.lr_rule.*typo"),
        (["+optimizer.lr_rule.d_exponent=0.1"], "d_ref=None must be a positive number"),
        (["rules=step_law2025", "budget.tokens=[6400,12800]"], "trains several lengths"),
        (["rules=gpt3"], "outside the table"),
        (["optimizer.lr_rule.lr_ref=null"], "either lr_ref or points"),
        (["+batch_ramp.start=9", "+batch_ramp.units=100"], "must lie below batch_size=4"),
        (["batch_size=8", "+batch_ramp.start=2", "+batch_ramp.units=6000"], "shorten the ramp"),
        (["+batch_ramp.start=2"], "batch_ramp.*units"),
    ],
)
def test_mistakes_are_named(tiny, overrides, message):
    with pytest.raises(ConfigError, match=message):
        expand([*tiny, "budget.tokens=6400", *overrides])
