"""A model of one's own is trained under its own name, and refused where it lacks a part."""

from pathlib import Path

import pytest

from fmscale.config.jobs import expand
from fmscale.errors import ConfigError
from fmscale.runs.store import Study
from fmscale.training.run import check, train_branch, train_trunk

SOURCE = '''
from dataclasses import dataclass

from torch import nn

KERNEL = 3


@dataclass(frozen=True)
class ConvShape:
    """A causal convolution between a token table and a head of its own."""

    d_model: int
    vocab_size: int
    seq_len: int
    n_layer: int = 1
    n_head: int = 1
    family = "conv"
    unit = "tokens"

    @property
    def label(self):
        return f"conv_{self.d_model}"

    def param_groups(self):
        return {
            "token_embedding": self.vocab_size * self.d_model,
            "conv": KERNEL * self.d_model * self.d_model,
            "bias": self.d_model,
            "output_embedding": self.vocab_size * self.d_model,
        }

    @property
    def n_params_total(self):
        return sum(self.param_groups().values())

    @property
    def n_params_non_embedding(self):
        return self.n_params_matmul + self.d_model - self.vocab_size * self.d_model

    @property
    def n_params_matmul(self):
        return KERNEL * self.d_model**2 + self.vocab_size * self.d_model

    def forward_macs(self):
        return {}

    def train_flops_per_unit(self, batch_size=1):
        weights = 6 * self.n_params_matmul
        return {
            "flops": weights, "flops_causal": weights, "flops_6nd_matmul": weights,
            "flops_6nd": 6 * self.n_params_total,
            "flops_6nd_non_embedding": 6 * self.n_params_non_embedding,
        }


class ConvLM(nn.Module):
    def __init__(self, shape, dropout=0.0, parametrization=None):
        super().__init__()
        self.shape = shape
        self.table = nn.Embedding(shape.vocab_size, shape.d_model)
        self.conv = nn.Conv1d(shape.d_model, shape.d_model, KERNEL)
        self.head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)

    def forward(self, tokens):
        x = self.table(tokens).transpose(1, 2)
        x = self.conv(nn.functional.pad(x, (KERNEL - 1, 0)))
        return self.head(x.transpose(1, 2))

    def param_groups(self):
        return {
            "token_embedding": [self.table.weight],
            "conv": [self.conv.weight],
            "bias": [self.conv.bias],
            "output_embedding": [self.head.weight],
        }
'''


@pytest.fixture
def own(tiny, tmp_path, monkeypatch):
    """(source, name of its module, more overrides) -> the job of a model whose source that is."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def own(source: str, name: str, *overrides: str):
        Path(tmp_path, f"{name}.py").write_text(source)
        target = [f"model._target_={name}.ConvLM", f"model.shape._target_={name}.ConvShape"]
        (job,) = expand([*tiny, *target, "budget.tokens=1280", *overrides])
        return job

    return own


def test_a_family_of_ones_own_is_trained_and_recorded_under_its_name(own):
    job = own(SOURCE, "whole")
    check(job)
    train_trunk(job)
    train_branch(job, job.branches[0])
    (folder,) = Study.open(job.config["paths"]["runs_dir"], job.config["study"]).runs()
    record = folder.record()
    assert (record.family, record.model, record.status) == ("conv", "conv_16", "completed")
    assert record.n_params_by_group["conv"] == 3 * 16 * 16
    assert record.metrics["val_loss"] > 0


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("KERNEL * self.d_model", "7 * self.d_model",
         r"counts 1,792 parameters of group conv, ConvLM has 768"),
        ('            "bias": [self.conv.bias],\n', "",
         r"counts 16 parameters of group bias, ConvLM has 0"),
        ("    def param_groups(self):\n        return {\n            \"token_embedding\": [",
         "    def groups(self):\n        return {\n            \"token_embedding\": [",
         r"ConvLM lacks param_groups\(\)"),
        ('"flops": weights', '"flops": 7 * weights',
         r"states .* training FLOPs by token, torch counts"),
        ("        self.shape = shape\n", "",
         r"evaluation.evaluators.\w+ cannot measure ConvLM: AttributeError: .* 'shape'"),
        ("(x, (KERNEL - 1, 0))", "(x, (0, KERNEL - 1))",
         r"ConvLM sees later tokens: .* mask what comes later"),
        ("return self.head(x.transpose(1, 2))", "return self.head(x.transpose(1, 2)).sum()",
         r"model, objective and data do not fit together"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_what_its_shape_says_is_refused_before_training(
    own, before, after, message, request
):
    assert before in SOURCE
    name = f"wrong_{request.node.callspec.indices['before']}"
    job = own(
        SOURCE.replace(before, after),
        name,
        "evaluation=samples" if "shape = shape" in before else "evaluation=language",
    )
    with pytest.raises(ConfigError, match=message) as error:
        check(job)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("    def forward_macs(self):\n        return {}\n", "", "ConvShape lacks forward_macs;"),
        ('"flops_causal": weights, ', "", "train_flops_per_unit lacks flops_causal;"),
        ('unit = "tokens"', 'unit = "in words"', "ConvShape.unit='in words' must be one of tokens"),
        ('unit = "tokens"', 'unit = "words"', "which counts words; use budget.units"),
        ("return sum(self.param_groups().values())", "return 1", "is not the sum of its groups"),
        ("return self.n_params_matmul + self.d_model - self.vocab_size * self.d_model",
         "return 784_000", "n_params_non_embedding=784,000 is not the total without the groups"),
        ('"flops_6nd": 6 *', '"flops_6nd": 2 *', "flops_6nd=.* is not 6 . n_params_total"),
    ],
)  # fmt: skip
def test_a_shape_that_lacks_an_answer_is_named_by_the_plan(own, before, after, message, request):
    assert before in SOURCE
    name = f"lacking_{request.node.callspec.indices['before']}"
    with pytest.raises(ConfigError, match=message):
        own(SOURCE.replace(before, after), name)


def test_an_evaluator_that_asks_more_than_the_model_has_is_named_before_training(own):
    job = own(SOURCE, "sampled", "evaluation=samples")
    with pytest.raises(ConfigError, match=r"evaluators.samples cannot measure ConvLM: TypeError"):
        check(job)
