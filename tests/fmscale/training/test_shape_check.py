"""Configurations whose parts do not fit together are refused before any compute."""

import pytest

from fmscale.config.jobs import expand
from fmscale.errors import ConfigError
from fmscale.training.run import check


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=next_token"], "NextToken trains gpt models, not clip"),
        (["model=clip/vit_b32"], "tower built for .*224"),
        (["model=clip/rn50", "model.shape.text.seq_len=12"], "tower built for .*224"),
        (["model.shape.text.seq_len=12"], "20 tokens exceed seq_len=12; truncate"),
        (["objective=caption", "model.shape.text.seq_len=12"], "20 tokens exceed seq_len=12"),
        (["model.shape.text.vocab_size=40"], "the data have 87 tokens, the model knows 40"),
        (["objective=sigmoid", "model.shape.n_scalars=1"], "needs a model with a bias"),
        (["model=clip/rn1-1x4+2x24", "trainer.strategy=ddp", "trainer.devices=null"],
         "batch norms would normalize each part by itself"),
        (["objective=caption", "objective._target_=fmscale.objectives.contrastive.Contrastive"],
         "Contrastive trains clip models, not captioner"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_named_before_training(tiny_clip, overrides, message):
    (job,) = expand([*tiny_clip, "budget.samples=160", *overrides])
    with pytest.raises(ConfigError, match=message):
        check(job)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_size=1"], "compares pairs with each other; give at least 2"),
        (["objective=caption", "model=clip/2x24+bag24"], "no order of words"),
        (["trainer.accumulate=4"], "objective.chunk_size=4"),
        (["objective=caption", "trainer.accumulate=3"], "does not divide batch_size=16"),
    ],
)
def test_batches_and_towers_that_cannot_be_are_refused_by_the_plan(tiny_clip, overrides, message):
    with pytest.raises(ConfigError, match=message):
        expand([*tiny_clip, "budget.samples=160", *overrides])


@pytest.mark.parametrize("objective", ["contrastive", "sigmoid", "caption", "bag_of_words"])
@pytest.mark.parametrize("model", ["clip/1x16", "clip/rn1-1x4+2x24"])
def test_every_objective_fits_every_image_tower(tiny_clip, objective, model):
    (job,) = expand([*tiny_clip, "budget.samples=160", f"objective={objective}", f"model={model}"])
    check(job)


@pytest.mark.parametrize("dropout", [1.0, -0.1])
def test_a_dropout_that_leaves_nothing_is_refused(tiny, dropout):
    (job,) = expand([*tiny, "budget.tokens=1280", f"model.dropout={dropout}"])
    with pytest.raises(ConfigError, match=rf"model.dropout={dropout} must be at least 0 and below"):
        check(job)
