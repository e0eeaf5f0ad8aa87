"""Batched scoring against one prompt at a time, and against probabilities known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fmscale.data.text.tokenizer import ByteTokenizer
from fmscale.evaluation.language import scoring
from fmscale.evaluation.language.sampling import generate
from fmscale.evaluation.language.scoring import Prompt, complete, exact_matches, line_ends, score
from fmscale.models.gpt import GPT
from fmscale.sizing import GPTShape


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTShape(n_layer=2, n_head=2, d_model=32, vocab_size=256, seq_len=48))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def random_prompts(n: int) -> list[Prompt]:
    rng = np.random.default_rng(0)
    return [
        Prompt(rng.integers(0, 256, rng.integers(1, 30)), rng.integers(0, 256, rng.integers(1, 9)))
        for _ in range(n)
    ]


def test_batched_scores_equal_one_prompt_at_a_time(model, monkeypatch):
    monkeypatch.setitem(scoring.BATCH_TOKENS, "cpu", 200)  # many batches, of unequal lengths
    prompts = random_prompts(60)
    for prompt, found in zip(prompts, score(model, prompts), strict=True):
        whole = torch.tensor(np.concatenate(prompt))[None]
        with torch.no_grad():
            log_p = model(whole)[0].log_softmax(-1)
        n = len(prompt.context)
        expected = -sum(float(log_p[n - 1 + k, t]) for k, t in enumerate(prompt.answer))
        assert found.nats == pytest.approx(expected, abs=1e-4)
        assert found.likeliest.tolist() == log_p[n - 1 :].argmax(-1).tolist()


def test_greedy_answers_equal_those_of_the_sampler(model):
    contexts = [p.context for p in random_prompts(12)]
    for context, found in zip(contexts, complete(model, contexts, 6, ends=()), strict=True):
        expected = generate(model, torch.tensor(context)[None], 6, temperature=0)
        assert found.tokens.tolist() == expected[0, len(context) :].tolist()
        assert not found.ended
        (scored,) = score(model, [Prompt(context, found.tokens)])
        assert found.nats == pytest.approx(scored.nats, abs=1e-4)
        assert scored.is_likeliest(found.tokens)


class Fixed(torch.nn.Module):
    """Writes a given text whatever it reads: probability 1/2 of the next token of the text."""

    def __init__(self, text: np.ndarray, vocab_size: int) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.text = text
        self.shape = GPTShape(1, 1, 2, vocab_size=vocab_size, seq_len=64)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        B, T = tokens.shape
        rest = 0.5 / (self.shape.vocab_size - 1)
        logits = torch.full((B, T, self.shape.vocab_size), math.log(rest))
        for t in range(T):
            logits[:, t, self.text[min(t + 1, len(self.text) - 1)]] = math.log(0.5)
        return logits


def match(text: str, context: str, answer: str) -> bool:
    tokenizer = ByteTokenizer()
    model = Fixed(tokenizer.encode(text.encode()), 256)
    head, (tail,) = scoring.split_prompt(tokenizer, context, [answer])
    prompts = [Prompt(head, tail)]
    scored = score(model, prompts)
    if text.startswith(context + answer):
        assert scored[0].nats == pytest.approx(len(answer) * math.log(2), rel=1e-5)
    return bool(exact_matches(model, tokenizer, prompts, scored, line_ends(tokenizer))[0])


def test_an_answer_must_be_right_to_the_letter_and_end_there():
    assert match("A: 12\n\nQ", "A:", " 12")
    assert match("A: 12\0", "A:", " 12")
    assert not match("A: 123\n", "A:", " 12")
    assert not match("A: 13\n", "A:", " 12")


class Pieces:
    """Bytes and one piece more: token 256 is " 12", so that a text has two tokenizations."""

    name, vocab_size, separator, dtype = "pieces", 257, 0, np.dtype(np.uint16)

    def encode(self, text: bytes) -> np.ndarray:
        return np.frombuffer(text, dtype=np.uint8).astype(np.uint16)

    def decode(self, tokens: np.ndarray) -> bytes:
        return b"".join(b" 12" if t == 256 else bytes([t]) for t in tokens.tolist())


def test_the_same_text_in_other_tokens_counts():
    tokenizer = Pieces()
    head = tokenizer.encode(b"A:")
    prompts = [Prompt(head, tokenizer.encode(b" 12"))]
    for written, right in (([256, 10], True), ([256, 51, 10], False), ([32, 49, 50, 10], True)):
        model = Fixed(np.array([*head, *written]), 257)
        found = exact_matches(model, tokenizer, prompts, score(model, prompts), (0, 10))
        assert found.tolist() == [right]


class Joins(Pieces):
    """Reads "a b" with the blank joined to the b (token 256 here stands for " b")."""

    def encode(self, text: bytes) -> np.ndarray:
        parts = text.split(b" b")
        tokens: list[int] = []
        for k, part in enumerate(parts):
            tokens += ([256] if k else []) + list(part)
        return np.array(tokens, dtype=np.uint16)


def test_a_token_across_the_cut_moves_the_cut_for_all_answers():
    head, tails = scoring.split_prompt(Joins(), "a ", ["b", "c"], start=[7])
    assert head.tolist() == [7, ord("a")]
    assert [t.tolist() for t in tails] == [[256], [ord(" "), ord("c")]]


def test_a_prompt_that_does_not_fit_is_refused(model):
    with pytest.raises(ValueError, match=r"49 tokens, but the model reads only data.seq_len = 48"):
        score(model, [Prompt(np.ones(40, int), np.ones(9, int))])
