"""Many prompts at once: the probability of given answers, and the answers a model gives itself.

Prompts of like length share a batch and are padded on the right. A causal model cannot look to the
right, so padding changes nothing but the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.data.text.tokenizer import TextTokenizer
from fmscale.evaluation.metric import measuring
from fmscale.models.gpt import GPT

# Tokens at once, padding included: on a CPU what fits its cache is twice as fast as more.
BATCH_TOKENS = {"cpu": 1024, "cuda": 65_536}
BATCH_LOGITS = 1 << 26  # numbers: a quarter of a gigabyte


class Prompt(NamedTuple):
    """Token ids of a context and of the answer to score after it."""

    context: np.ndarray  # (n,), n at least 1
    answer: np.ndarray  # (m,), m at least 1


@dataclass(frozen=True)
class Scored:
    """A model's probability of one answer."""

    nats: float  # -log p(answer | context), all tokens together
    likeliest: np.ndarray  # (m + 1,): argmax at every position of the answer and after it

    def is_likeliest(self, answer: np.ndarray) -> bool:
        """Whether greedy decoding writes the answer, token by token."""
        return bool(np.array_equal(self.likeliest[:-1], answer))


def score(model: Any, prompts: Sequence[Prompt]) -> list[Scored]:
    """Score every answer in one pass over the model, whose context must hold each prompt."""
    for prompt in prompts:
        check_fits(len(prompt.context) + len(prompt.answer), model.shape.seq_len)
    scored: list[Scored | None] = [None] * len(prompts)
    sequences = [np.concatenate(prompt) for prompt in prompts]
    with measuring(model) as device:
        for chosen in _batches([len(s) for s in sequences], model.shape.vocab_size, device):
            # Logits at the answers alone: all others would cost more than the blocks.
            spans = [(len(prompts[i].context) - 1, len(sequences[i])) for i in chosen]
            log_p = _log_probabilities(model, [sequences[i] for i in chosen], spans, device)
            expected = np.concatenate([np.append(prompts[i].answer, 0) for i in chosen])
            wanted = torch.from_numpy(expected.astype(np.int64)).to(device)
            nats = -log_p.gather(1, wanted[:, None])[:, 0].double().cpu().numpy()  # (rows,)
            likeliest = log_p.argmax(dim=1).cpu().numpy()
            first = 0
            for i, (begin, end) in zip(chosen, spans, strict=True):
                after = first + end - begin - 1  # the row of what follows the answer
                own = float(nats[first:after].sum())
                scored[i] = Scored(own, likeliest[first : after + 1])
                first = after + 1
    return [s for s in scored if s is not None]


class Completion(NamedTuple):
    """A greedy answer."""

    tokens: np.ndarray  # without the token that ended it
    nats: float  # -log p of the tokens and of the end
    ended: bool  # False: cut at `n_tokens`


def complete(
    model: Any, contexts: Sequence[np.ndarray], n_tokens: int, ends: Sequence[int]
) -> list[Completion]:
    """Greedy answers to many contexts, until a token of `ends` or `n_tokens` tokens."""
    for context in contexts:
        check_fits(len(context) + n_tokens, model.shape.seq_len)
    written: list[list[int]] = [[] for _ in contexts]
    nats = [0.0] * len(contexts)
    over: dict[int, bool] = {}
    with measuring(model) as device:
        for _ in range(n_tokens):
            active = [i for i in range(len(contexts)) if i not in over]
            sequences = [
                np.concatenate([contexts[i], np.array(written[i], dtype=np.int64)]) for i in active
            ]
            for chosen in _batches([len(s) for s in sequences], model.shape.vocab_size, device):
                read = [sequences[k] for k in chosen]
                log_p = _log_probabilities(
                    model, read, [(len(s) - 1, len(s)) for s in read], device
                )
                values, tokens = (best.tolist() for best in log_p.max(dim=1))
                for k, value, token in zip(chosen, values, tokens, strict=True):
                    i = active[k]
                    nats[i] -= value
                    if token in ends:
                        over[i] = True
                    else:
                        written[i].append(token)
    return [
        Completion(np.array(tokens, dtype=np.int64), nats[i], i in over)
        for i, tokens in enumerate(written)
    ]


def line_ends(tokenizer: TextTokenizer) -> tuple[int, ...]:
    """Tokens at which a one-line answer is over: any that begins a new line, and the separator."""
    breaks = [
        token
        for token in range(tokenizer.vocab_size)
        if tokenizer.decode(np.array([token])).startswith(b"\n")
    ]
    return (*breaks, tokenizer.separator)


def exact_matches(
    model: Any,
    tokenizer: TextTokenizer,
    prompts: Sequence[Prompt],
    scored: Sequence[Scored],
    ends: Sequence[int],
) -> np.ndarray:
    """Whether the greedy answer is the given text and ends there, (n,) bool.

    The tokens of the expected answer settle it almost always. With a vocabulary of pieces the
    same text can be written in other tokens; only where the first token that differs could be
    the beginning of the same text is the model's answer written out.
    """
    matches = np.zeros(len(prompts), dtype=bool)
    doubtful = []
    for i, (prompt, s) in enumerate(zip(prompts, scored, strict=True)):
        differs = np.flatnonzero(s.likeliest[:-1] != prompt.answer)
        if len(differs) == 0:
            matches[i] = int(s.likeliest[-1]) in ends
            continue
        first = int(differs[0])
        rest = tokenizer.decode(prompt.answer[first:])
        piece = tokenizer.decode(s.likeliest[first : first + 1])
        if piece and rest.startswith(piece) and int(s.likeliest[first]) not in ends:
            doubtful.append(i)
    for i in doubtful:
        expected = tokenizer.decode(prompts[i].answer)
        room = model.shape.seq_len - len(prompts[i].context)
        n_tokens = min(len(expected) + 1, room)  # a token is at least a byte
        (own,) = complete(model, [prompts[i].context], n_tokens, ends)
        matches[i] = own.ended and tokenizer.decode(own.tokens) == expected
    return matches


def split_prompt(
    tokenizer: TextTokenizer, context: str, answers: Sequence[str], start: Sequence[int] = ()
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Token ids of a context and of each answer after it.

    The text is tokenized as a whole, as it would be read, and cut where the context ends. Where a
    token spans the cut, the cut moves back, to the same place for all answers, so that their
    probabilities can be compared.

    Args:
        start: tokens before the context, such as the separator.
    """
    alone = tokenizer.encode(context.encode())
    wholes = [tokenizer.encode((context + answer).encode()) for answer in answers]
    cut = min(_common(alone, whole) for whole in wholes)
    head = np.concatenate([np.array(start, dtype=np.int64), wholes[0][:cut].astype(np.int64)])
    return head, [whole[cut:].astype(np.int64) for whole in wholes]


def check_fits(n_tokens: int, seq_len: int) -> None:
    """Refuse a prompt that is longer than the context."""
    if n_tokens > seq_len:
        raise ValueError(
            f"a prompt with its answer has {n_tokens} tokens, but the model reads only "
            f"data.seq_len = {seq_len}. Give fewer examples or train with a longer context."
        )


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens two sequences begin with in common."""
    n = min(len(a), len(b))
    differs = np.flatnonzero(a[:n] != b[:n])
    return int(differs[0]) if len(differs) else n


def _batches(lengths: Sequence[int], vocab_size: int, device: torch.device) -> Iterator[list[int]]:
    """Indices of sequences by length, as many at once as fit in memory."""
    most = min(BATCH_TOKENS.get(device.type, 16_384), BATCH_LOGITS // vocab_size)
    chosen: list[int] = []
    for i in np.argsort(lengths, kind="stable").tolist():
        if chosen and (len(chosen) + 1) * lengths[i] > most:
            yield chosen
            chosen = []
        chosen.append(i)
    if chosen:
        yield chosen


def _log_probabilities(
    model: nn.Module,
    sequences: Sequence[np.ndarray],
    spans: Sequence[tuple[int, int]],
    device: torch.device,
) -> Tensor:
    """Log-probability of the next token at positions begin..end-1 of each sequence, one after the
    other: (n positions, vocab_size) float32.
    """
    longest = max(len(s) for s in sequences)
    padded = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    tokens = torch.from_numpy(padded).to(device)
    if isinstance(model, GPT):  # the output head is read where it is asked for
        logits = model.read_out(_at(model.hidden(tokens), spans))
    else:
        logits = _at(model(tokens), spans)
    return F.log_softmax(logits.float(), dim=-1)


def _at(values: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    """Positions begin..end-1 of each row, one after the other: (n positions, width)."""
    return torch.cat([values[row, begin:end] for row, (begin, end) in enumerate(spans)])
