"""Gaps in a text: the last word of a passage (LAMBADA), and one of several choices (CBT).

The formats of Paperno et al. 2016 and Hill et al. 2016, scored as by Radford et al. 2019,
Sec. 3.2 and 3.3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fmscale.data.jsonl_rows import read_rows
from fmscale.data.protocol import TextData
from fmscale.data.tasks.labelled_texts import check_choices
from fmscale.data.text.tokenizer import TextTokenizer
from fmscale.evaluation.language.in_context import text_tokenizer
from fmscale.evaluation.language.language import check_language
from fmscale.evaluation.language.scoring import Prompt, check_fits, score, split_prompt
from fmscale.evaluation.metric import Metric, Objective, accuracy_metrics, name_of

BLANK = "XXXXX"  # as in the Children's Book Test


class _Passages:
    """Passages of a file, each with the texts that could go on from where it breaks off."""

    name: str
    passages: list[tuple[str, str, list[str], int]]  # place in the file, text, endings, right one

    def check(self, data: Any) -> None:
        """Refuse data that is no text, and endings longer than the context."""
        check_language(data)
        self.prompts(text_tokenizer(data), data.seq_len)

    def prompts(self, tokenizer: TextTokenizer, seq_len: int) -> tuple[list[list[Prompt]], int]:
        """The prompts of each passage, and how many lost their beginning to fit the context."""
        prompts, n_cut = [], 0
        for where, before, endings, _ in self.passages:
            own, cut = fitting(tokenizer, before, endings, seq_len, where)
            prompts.append(own)
            n_cut += cut
        return prompts, n_cut


class LastWord(_Passages):
    """Accuracy and perplexity of the last word of each passage.

    A word counts as predicted if each of its tokens is the likeliest one.

    Args:
        file: JSONL with "text"; what stands after its last space is the word.
        name: of the passages, in the metrics; None: that of the file.
    """

    def __init__(self, file: str | None = None, name: str | None = None) -> None:
        self.passages = []
        for where, row in read_rows(file, {"text": str}):
            found = re.fullmatch(r"(.*\S)(\s+\S+)", row["text"].rstrip(), flags=re.DOTALL)
            if found is None:
                raise ValueError(f"{where}: 'text' has fewer than two words.")
            self.passages.append((where, found[1], [found[2]], 0))
        self.name = name or name_of(file)

    def __call__(self, model: Any, data: TextData, objective: Objective) -> Iterator[Metric]:
        each, n_cut = self.prompts(text_tokenizer(data), model.shape.seq_len)
        prompts = [prompt for (prompt,) in each]
        scored = score(model, prompts)
        hits = np.array([s.is_likeliest(p.answer) for s, p in zip(scored, prompts, strict=True)])
        nats = float(np.mean([s.nats for s in scored]))
        prefix = f"cloze/{self.name}"
        yield from accuracy_metrics(prefix, hits)
        yield Metric(f"{prefix}_nats", nats, "nats/word")
        if nats < 700:  # e**710 overflows
            yield Metric(f"{prefix}_perplexity", math.exp(nats), "1")
        yield Metric(f"{prefix}_truncated", n_cut / len(prompts), "fraction")


class FilledBlank(_Passages):
    """Accuracy of choosing what was in the blank of each passage.

    The choice is the one with the highest probability of itself and of the text after it, given
    the text before it; beside it stands the same divided by length.

    Args:
        file: JSONL with "text" that holds one blank XXXXX, "choices" and "label", the place of
            the right one, counted from 0.
        name: of the passages, in the metrics; None: that of the file.
    """

    def __init__(self, file: str | None = None, name: str | None = None) -> None:
        self.passages = []
        for where, row in read_rows(file, {"text": str, "choices": list, "label": int}):
            check_choices(row["choices"], row["label"], where)
            if row["text"].count(BLANK) != 1:
                raise ValueError(
                    f"{where}: 'text' has {row['text'].count(BLANK)} blanks {BLANK}; give one."
                )
            before, after = row["text"].split(BLANK)
            endings = [choice + after for choice in row["choices"]]
            self.passages.append((where, before, endings, row["label"]))
        self.name = name or name_of(file)

    def __call__(self, model: Any, data: TextData, objective: Objective) -> Iterator[Metric]:
        prompts, n_cut = self.prompts(text_tokenizer(data), model.shape.seq_len)
        scored = iter(score(model, [prompt for own in prompts for prompt in own]))
        hits, hits_per_byte = [], []
        for own, (_, _, endings, label) in zip(prompts, self.passages, strict=True):
            nats = np.array([next(scored).nats for _ in own])
            n_bytes = np.array([len(ending.encode()) for ending in endings])
            hits.append(nats.argmin() == label)
            hits_per_byte.append((nats / n_bytes).argmin() == label)
        prefix = f"choice/{self.name}"
        yield from accuracy_metrics(prefix, np.array(hits))
        value = float(np.mean(hits_per_byte))
        yield Metric(f"{prefix}_accuracy_per_byte", value, "fraction")
        chance = float(np.mean([1 / len(own) for own in prompts]))
        yield Metric(f"{prefix}_chance", chance, "fraction")
        yield Metric(f"{prefix}_truncated", n_cut / len(prompts), "fraction")


def fitting(
    tokenizer: TextTokenizer, context: str, answers: Sequence[str], seq_len: int, where: str
) -> tuple[list[Prompt], bool]:
    """A prompt for each answer, the context cut at its beginning to fit, the same for all."""
    head, tails = split_prompt(tokenizer, context, answers, [tokenizer.separator])
    longest = max(map(len, tails))
    try:
        check_fits(1 + longest, seq_len)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    kept = head[-(seq_len - longest) :]
    return [Prompt(kept, tail) for tail in tails], len(kept) < len(head)
