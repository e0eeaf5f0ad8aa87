"""Names of code in configurations, which outlive the modules behind them."""

from __future__ import annotations

import importlib

import pytest

from fmscale import data, evaluation, models, objectives, optim, public, tracking
from fmscale.config.build import build_data, target_of
from fmscale.config.trust import own_targets
from fmscale.runs.identity import canonical

PACKAGES = (data, evaluation, models, objectives, optim, tracking)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_a_package_shows_what_it_promises_and_nothing_else(package):
    for name, module in package.PUBLIC.items():
        there = importlib.import_module(f"{package.__name__}.{module}")
        assert getattr(package, name) is getattr(there, name)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = package.Nothing


def test_configurations_name_nothing_by_its_module():
    assert {target.count(".") for target in own_targets()} == {2}


def test_earlier_names_lead_to_present_ones():
    assert set(public.RENAMED.values()) <= own_targets()
    old = {"_target_": "fmscale.data.text.mixture.Source", "sources": [{"_target_": "other.One"}]}
    new = public.with_public_names(old)
    assert new == {"_target_": "fmscale.data.Source", "sources": [{"_target_": "other.One"}]}
    assert canonical(old) == canonical(new)
    assert target_of(old) is target_of(new) is data.Source


def test_data_under_an_earlier_name_are_built(tiny, plan_one):
    config = plan_one([*tiny, "budget.tokens=2560"]).config
    old = {**config["data"], "_target_": "fmscale.data.text.token_dataset.ByteText"}
    assert isinstance(build_data({"data": old}), data.ByteText)


def test_a_class_that_moves_keeps_the_ids_of_its_runs(tiny, plan_one, monkeypatch):
    overrides = [*tiny, "budget.tokens=2560"]
    before = plan_one(overrides)
    # As if the class had gone to another module, and its package told where.
    monkeypatch.setitem(data.PUBLIC, "ByteText", "text.elsewhere")
    elsewhere = type(importlib)("fmscale.data.text.elsewhere")
    elsewhere.ByteText = data.text.token_dataset.ByteText
    monkeypatch.setitem(importlib.sys.modules, elsewhere.__name__, elsewhere)
    after = plan_one(overrides)
    assert (after.trunk_id, after.branches) == (before.trunk_id, before.branches)
