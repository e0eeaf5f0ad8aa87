"""Few-shot scoring of many prompts at once against one prompt at a time, as ratios."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fmscale.data.text.tokenizer import ByteTokenizer
from fmscale.evaluation.language.in_context import InContext
from fmscale.evaluation.language.sampling import generate
from fmscale.evaluation.language.scoring import Prompt, exact_matches, line_ends, score
from fmscale.models.gpt import GPT
from fmscale.sizing import GPTShape

pytestmark = pytest.mark.bench
TOKENIZER = ByteTokenizer()
ENDS = line_ends(TOKENIZER)


def one_at_a_time(model: GPT, prompts: list[Prompt]) -> tuple[list[float], list[bool]]:
    """The plain loop: the probability of the answer, then the own answer, prompt by prompt."""
    nats, hits = [], []
    for context, answer in prompts:
        whole = torch.from_numpy(np.concatenate([context, answer]))[None]
        with torch.no_grad():
            log_p = model(whole)[0].log_softmax(-1)
        n = len(context)
        nats.append(-sum(float(log_p[n - 1 + k, t]) for k, t in enumerate(answer.tolist())))
        own = generate(model, whole[:, :n], len(answer) + 1, temperature=0)[0, n:].tolist()
        hits.append(own[:-1] == answer.tolist() and own[-1] in ENDS)
    return nats, hits


def batched(model: GPT, prompts: list[Prompt]) -> tuple[list[float], list[bool]]:
    scored = score(model, prompts)
    hits = exact_matches(model, TOKENIZER, prompts, scored, ENDS)
    return [s.nats for s in scored], hits.tolist()


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@pytest.mark.parametrize("size", [(2, 32), (2, 64), (4, 128)], ids=["2x32", "2x64", "4x128"])
def test_batched_scoring_is_five_times_as_fast_as_a_loop_and_says_the_same(size):
    n_layer, d_model = size
    torch.manual_seed(0)
    model = GPT(GPTShape(n_layer, 2, d_model, vocab_size=256, seq_len=256)).eval()
    tasks = ["two_digit_addition", "reversed_words"]
    evaluator = InContext(tasks, shots=[0, 1, 4], descriptions=[False], n_problems=20)
    prompts = [p for c in evaluator.conditions() for p in evaluator.prompts(c, TOKENIZER)]
    loop_nats, loop_hits = one_at_a_time(model, prompts)
    nats, hits = batched(model, prompts)
    np.testing.assert_allclose(nats, loop_nats, rtol=1e-4)
    assert hits == loop_hits
    ratios = [
        seconds(lambda: one_at_a_time(model, prompts)) / seconds(lambda: batched(model, prompts))
        for _ in range(3)  # alternating, so that a busy machine slows both
    ]
    print(f"\n{n_layer}x{d_model}: {len(prompts)} prompts, ratios {[f'{r:.1f}' for r in ratios]}")
    assert np.median(ratios) >= 5
