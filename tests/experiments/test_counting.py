"""Published compute and costs follow from counting."""

import pytest

from experiments.clip_cost.analyze import table as clip_table
from experiments.gpt3_compute.analyze import OTHERS, PRINTED
from experiments.gpt3_compute.analyze import table as gpt3_table
from fmscale.sizing.gpt3 import TABLE, corrected, training_cost


def test_app_d_of_gpt3_is_reproduced():
    found = gpt3_table().set_index("model")
    for name, printed in PRINTED.items():
        assert found.loc[f"GPT-3 {name}", "pf_days"] == pytest.approx(printed, rel=0.012)
    for name, (_, _, _, printed) in OTHERS.items():
        assert found.loc[name, "pf_days"] == pytest.approx(printed, rel=0.006)
    largest = training_cost(corrected(TABLE[-1]))
    assert largest.flops == pytest.approx(3.14e23, rel=2e-3)
    assert largest.gpu_hours() / 24 / 365 == pytest.approx(355, rel=0.01)
    assert largest.dollars(1.50) == pytest.approx(4.68e6, rel=0.01)


def test_two_rows_of_the_table_are_misprints_and_say_why():
    found = {model.name: model.misprint() for model in TABLE}
    assert [name for name, text in found.items() if text] == ["XL", "13B"]
    assert "24 heads of width 128 make 3072, not 2048" in found["XL"]
    assert "d_model=5120" in found["13B"]
    for model in TABLE:
        assert corrected(model).n_params_total == pytest.approx(model.n_params, rel=0.018)
        assert corrected(model).d_head == model.d_head


def test_the_price_of_a_gpu_hour_behind_the_quoted_cost_of_clip():
    found = clip_table().set_index("model")
    assert found.loc["clip_rn50x64", "gpu_hours"] == 255_744
    assert found.loc["clip_vit_l14", "gpu_hours"] == 73_728
    assert found["dollars_per_gpu_hour"].round(2).tolist() == [1.17, 1.23]
    assert found["utilization"].between(0.1, 0.6).all()
