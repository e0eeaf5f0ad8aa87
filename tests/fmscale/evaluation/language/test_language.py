"""Held-out loss of text against a plain loop and closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.data.text.token_dataset import ByteText
from fmscale.evaluation.language.language import HeldOutText
from fmscale.evaluation.runner import evaluate
from fmscale.models.gpt import GPT
from fmscale.objectives.next_token import NextToken
from fmscale.sizing import GPTShape


@pytest.fixture
def data(tmp_path: Path) -> ByteText:
    root = tmp_path / "text"
    root.mkdir()
    letters = np.random.default_rng(0).integers(97, 123, (100, 300), dtype=np.uint8)
    for i, row in enumerate(letters):
        (root / f"{i}.txt").write_bytes(row.tobytes())
    return ByteText(tmp_path, 16, root=root, suffixes=[".txt"], n_val_tokens=400, val_batch_size=7)


class Fixed(nn.Module):
    """Predicts the same distribution everywhere."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(*tokens.shape, -1)


def tiny_gpt(dropout: float = 0.0) -> GPT:
    torch.manual_seed(0)
    shape = GPTShape(n_layer=2, n_head=2, d_model=16, vocab_size=256, seq_len=16)
    return GPT(shape, dropout)


def measure(model: nn.Module, data: ByteText, **settings: int) -> dict[str, float]:
    return evaluate(model, data, NextToken(), {"text": HeldOutText(**settings)}).metrics


def test_the_loss_equals_a_plain_loop_over_tokens(data: ByteText) -> None:
    model = tiny_gpt().eval()
    sequences, losses = 0, []
    for batch in data.validation_batches(1):
        tokens = batch["tokens"]
        log_p = F.log_softmax(model(tokens[:, :-1]), dim=-1)
        losses.append(np.mean([-log_p[0, t, tokens[0, t + 1]].item() for t in range(16)]))
        sequences += 1
    found = measure(model, data)
    assert sequences == 400 // 16
    assert found["val_loss"] == pytest.approx(np.mean(losses), abs=1e-6)
    error = np.std(losses, ddof=1) / math.sqrt(sequences)
    assert found["val_loss_standard_error"] == pytest.approx(error, rel=1e-4)


def test_the_loss_is_the_training_objective_on_whole_batches(data: ByteText) -> None:
    model = tiny_gpt().eval()
    (everything,) = data.validation_batches(1000)
    expected = NextToken()(model, everything)["loss"].item()
    assert measure(model, data)["val_loss"] == pytest.approx(expected, abs=1e-6)


def test_a_uniform_model_needs_eight_bits_per_byte(data: ByteText) -> None:
    found = evaluate(Fixed(torch.zeros(256)), data, NextToken(), {"text": HeldOutText()})
    assert found.metrics["val_loss"] == pytest.approx(math.log(256))
    assert found.metrics["val_bpb"] == pytest.approx(8)
    assert found.metrics["val_perplexity"] == pytest.approx(256, rel=1e-5)
    assert found.units == {
        "val_loss": "nats/token",
        "val_loss_standard_error": "nats/token",
        "val_bpb": "bits/byte",
        "val_perplexity": "1",
    }


def test_the_batch_size_changes_nothing(data: ByteText) -> None:
    model = tiny_gpt()
    found = [measure(model, data, batch_size=n)["val_loss"] for n in (1, 4, 1000)]
    assert found == pytest.approx([found[0]] * 3, abs=1e-6)


def test_dropout_is_off_and_the_mode_is_restored(data: ByteText) -> None:
    model = tiny_gpt(dropout=0.5).train()
    assert measure(model, data) == measure(model, data)
    assert model.training
    assert measure(model.eval(), data)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_the_mode_is_restored_after_an_error(data: ByteText) -> None:
    class Broken(Fixed):
        def forward(self, tokens: Tensor) -> Tensor:
            raise RuntimeError("broken")

    model = Broken(torch.zeros(256)).train()
    with pytest.raises(RuntimeError, match="broken"):
        measure(model, data)
    assert model.training
    assert torch.is_grad_enabled()


def test_autocast_of_training_does_not_reach_the_loss(data: ByteText) -> None:
    model = tiny_gpt()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = measure(model, data)
    assert inside == measure(model, data)


def test_an_astronomic_perplexity_is_missing_rather_than_infinite(data: ByteText) -> None:
    logits = torch.zeros(256)
    logits[255] = 1e4  # a byte that never comes
    found = measure(Fixed(logits), data)
    assert found["val_loss"] == pytest.approx(1e4)
    assert "val_perplexity" not in found


def test_a_batch_size_of_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="batch_size = 0"):
        HeldOutText(batch_size=0)


def test_two_evaluators_of_one_name_are_an_error(data: ByteText) -> None:
    with pytest.raises(ValueError, match="'again' gives the metric 'val_loss'"):
        evaluate(
            Fixed(torch.zeros(256)), data, NextToken(), {"a": HeldOutText(), "again": HeldOutText()}
        )
