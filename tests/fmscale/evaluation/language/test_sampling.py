"""Generation: the cache changes nothing, the options do what they say."""

import sys

import pytest
import torch

from fmscale.evaluation.language.sampling import generate
from fmscale.models.gpt import GPT
from fmscale.models.layers import KeyValueCache
from fmscale.sizing import GPTShape

SHAPE = GPTShape(n_layer=2, n_head=2, d_model=16, vocab_size=11, seq_len=12)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GPT(SHAPE, dropout=0.2).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("cuts", [(1,) * 12, (5, 7), (3, 1, 4, 4)])
def test_reading_in_pieces_gives_the_same_logits(model, cuts):
    tokens = torch.randint(11, (3, 12))
    cache = KeyValueCache(SHAPE.n_layer)
    with torch.no_grad():
        whole = model(tokens)
        parts = [model(part, cache) for part in tokens.split(list(cuts), dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)
    assert cache.length == 12
    with pytest.raises(ValueError, match="13 tokens exceed"):
        model(tokens[:, :1], cache)


def test_greedy_text_equals_a_loop_without_a_cache(model):
    prompt = torch.randint(11, (2, 3))
    found = generate(model, prompt, 9, temperature=0)
    tokens = prompt
    for _ in range(9):
        with torch.no_grad():
            best = model(tokens)[:, -1].argmax(dim=1, keepdim=True)
        tokens = torch.cat([tokens, best], dim=1)
    assert torch.equal(found, tokens)


def test_text_goes_on_beyond_the_context(model):
    tokens = generate(model, torch.randint(11, (1, 20)), 40, seed=1)
    assert tokens.shape == (1, 60)
    assert torch.equal(tokens, generate(model, tokens[:, :20], 40, seed=1))
    assert not torch.equal(tokens, generate(model, tokens[:, :20], 40, seed=2))


def test_samples_follow_the_models_probabilities(model):
    prompt = torch.tensor([[1, 2, 3]]).expand(4000, 3)
    with torch.no_grad():
        p = (model(prompt[:1])[0, -1] / 0.7).softmax(dim=0)
    drawn = generate(model, prompt, 1, temperature=0.7)[:, -1].bincount(minlength=11) / 4000
    assert (drawn - p).abs().max() < 5 * (0.25 / 4000) ** 0.5
    ranked, order = p.sort(descending=True)
    few = generate(model, prompt, 1, temperature=0.7, top_k=3)[:, -1].unique()
    assert set(few.tolist()) == set(order[:3].tolist())
    n_kept = int((ranked.cumsum(0) - ranked < 0.6).sum())
    kept = generate(model, prompt, 1, temperature=0.7, top_p=0.6)[:, -1].unique()
    assert set(kept.tolist()) == set(order[:n_kept].tolist())


@pytest.mark.parametrize(
    "options", [{"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_options_out_of_range_are_named(model, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        generate(model, torch.ones(1, 1, dtype=torch.int64), 1, **options)


def test_the_command_prints_every_size_of_a_study(tiny, plan_one, tmp_path, monkeypatch, capsys):
    from fmscale.commands import sample
    from fmscale.training import run

    runs = tmp_path / "runs"
    for model in ("gpt/1x8", "gpt/1x16"):
        job = plan_one([*tiny, f"model={model}", "budget.tokens=[2560,5120]",
                        f"paths.runs_dir={runs}"])  # fmt: skip
        run.train_trunk(job)
        for branch in job.branches:
            run.train_branch(job, branch)
    command = ["fmscale sample", "--study", "default", "--prompt", "ab", "--tokens", "5",
               "--runs-dir", str(runs)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    sample.main()
    out = capsys.readouterr().out
    assert out.index("gpt_1x8-5.12k") < out.index("gpt_1x16-5.12k")
    assert "2.56k" not in out
    monkeypatch.setattr(sys, "argv", [*command[:1], "--runs-dir", str(runs)])
    with pytest.raises(SystemExit, match="name runs"):
        sample.main()
