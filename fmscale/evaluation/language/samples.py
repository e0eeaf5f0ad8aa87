"""Fixed prompts continued by every model, so that sizes can be read side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from fmscale.data.protocol import TextData
from fmscale.data.text.tokenizer import TextTokenizer
from fmscale.evaluation.language.in_context import text_tokenizer
from fmscale.evaluation.language.language import check_language
from fmscale.evaluation.language.sampling import generate
from fmscale.evaluation.metric import Metric, Objective, Rows

PROMPTS = (
    "def ",
    "class ",
    "    if ",
    '"""Return ',
    "The ",
    # the beginning of the prompt of Radford et al. 2019
    "In a shocking finding, scientist discovered a herd of unicorns living in a remote, ",
)


class Samples:
    """A table with one text a prompt, the same seed for every model, and how little they repeat.

    `text_distinct_trigrams` is the share of distinct runs of three characters among all (Li et al.
    2016): low where a model goes round in circles.

    Args:
        prompts: texts to continue; None: `PROMPTS`.
        n_tokens: how many to add.
        temperature, top_k, top_p: see `generate`; top-k 40 is what GPT-2's samples were drawn by.
    """

    def __init__(
        self,
        prompts: Sequence[str] | None = None,
        n_tokens: int = 120,
        temperature: float = 1.0,
        top_k: int | None = 40,
        top_p: float | None = None,
        seed: int = 0,
    ) -> None:
        prompts = PROMPTS if prompts is None else prompts
        if isinstance(prompts, str) or not prompts or not all(prompts):
            raise ValueError(f"prompts = {prompts}: give a list of at least one, and none empty.")
        if n_tokens < 1:
            raise ValueError(f"n_tokens = {n_tokens}: give at least 1.")
        self.prompts = tuple(prompts)
        self.n_tokens = n_tokens
        self.sampling: dict[str, Any] = {
            "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed
        }  # fmt: skip

    def check(self, data: Any) -> None:
        """Refuse data that is no text."""
        check_language(data)
        text_tokenizer(data)

    def __call__(self, model: Any, data: TextData, objective: Objective) -> Iterator[Metric | Rows]:
        rows = [
            {
                "prompt": prompt,
                "model": model.shape.label,
                "n_params_total": model.shape.n_params_total,
                "text": continuation(
                    model, text_tokenizer(data), prompt, self.n_tokens, **self.sampling
                ),
            }
            for prompt in self.prompts
        ]
        trigrams = [
            [text[i : i + 3] for i in range(len(row["prompt"]), len(text) - 2)]
            for row in rows
            if (text := row["text"])
        ]
        n = sum(map(len, trigrams))
        if n:
            distinct = sum(len(set(own)) for own in trigrams) / n
            yield Metric("text/distinct_trigrams", distinct, "fraction")
        yield Rows("samples", rows)


def continuation(
    model: Any, tokenizer: TextTokenizer, prompt: str, n_tokens: int, **sampling: Any
) -> str:
    """A prompt and what a model writes after it; options as for `generate`."""
    read = torch.from_numpy(tokenizer.encode(prompt.encode()).astype(np.int64))[None]
    tokens = generate(model, read, n_tokens, **sampling)[0]
    own = tokens[tokens < tokenizer.vocab_size].numpy()  # a mixture has other ids
    return tokenizer.decode(own).decode(errors="replace").replace("\0", "\n")
