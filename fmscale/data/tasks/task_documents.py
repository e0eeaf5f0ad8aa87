"""Documents of examples of prompt tasks, so that learning from examples can itself be learned.

A document shows one task: its description in words or not, then some examples. Few-shot prompts
are then like what was read in training; the problems themselves are others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fmscale.data.counter_random import random_bits
from fmscale.data.known_languages.known_language import VALIDATION_START
from fmscale.data.protocol import TextData
from fmscale.data.tasks.arithmetic_tasks import Rendering
from fmscale.data.tasks.prompt_tasks import build_tasks
from fmscale.data.tasks.word_tasks import WordTask, words_hash
from fmscale.data.text.token_sequences import check_sizes
from fmscale.data.text.tokenizer import ByteTokenizer, TextTokenizer

if TYPE_CHECKING:
    from torch import Tensor

_DOCUMENTS, _EXAMPLES = 11, 12  # streams of the random numbers
_SHORTEST = 8  # bytes that one example has at least


class TaskDocuments(TextData):
    """Sequences of packed task documents; item i is a pure function of (seed, i).

    A sequence begins with the separator and holds documents, each followed by the separator, cut
    where the sequence ends.

    Args:
        tasks: names, each equally likely; None: the fifteen of GPT-3.
        rendering: of the arithmetic tasks, "as_published" or "one_line".
        p_description: share of documents that begin with the description.
        max_examples: of one document; their number is log-uniform from 1.
        words_file: text whose words are scrambled; None: the standard library's sources.
        seed: of the documents, not of the run.
        n_unique_tokens: data budget U.
        n_val_tokens: size of the validation set, made of held-out problems alone.
        rest: see `TextData`.
    """

    name = "task_documents"
    val_bytes_per_token = 1.0

    def __init__(
        self,
        seq_len: int,
        vocab_size: int = 256,
        tasks: Sequence[str] | None = None,
        rendering: Rendering = "as_published",
        p_description: float = 0.5,
        max_examples: int = 16,
        words_file: str | None = None,
        seed: int = 0,
        n_unique_tokens: int = 1 << 28,
        n_val_tokens: int = 65_536,
        val_batch_size: int = 32,
    ) -> None:
        self.tokenizer: TextTokenizer = ByteTokenizer()
        if vocab_size != self.tokenizer.vocab_size:
            raise ValueError(
                f"data.vocab_size = {vocab_size}, but task documents are bytes. Set "
                f"data.vocab_size={self.tokenizer.vocab_size}."
            )
        if not 0 <= p_description <= 1:
            raise ValueError(f"data.p_description = {p_description}: give a share from 0 to 1.")
        if max_examples < 1:
            raise ValueError(f"data.max_examples = {max_examples}: give at least 1.")
        check_sizes(seq_len, val_batch_size, n_val_tokens, n_unique_tokens)
        self.tasks = build_tasks(tasks, rendering, words_file)
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.rendering = rendering
        self.p_description = p_description
        self.max_examples = max_examples
        self.seed = seed
        self.n_unique_tokens = n_unique_tokens
        self.n_val_tokens = n_val_tokens
        self.val_batch_size = val_batch_size

    @property
    def n_items(self) -> int:
        """Distinct training sequences."""
        return self.n_unique_tokens // self.seq_len

    def prepare(self) -> None:
        """Nothing is cached: documents are written when they are asked for."""

    def train_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Sequences of the given items: {"tokens": (B, seq_len + 1) int64}."""
        return self._batch(indices, held_out=False)

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """The fixed validation sequences, of held-out problems; the last batch may be short."""
        indices = VALIDATION_START + np.arange(self.n_val_tokens // self.seq_len)
        for first in range(0, len(indices), batch_size):
            yield self._batch(indices[first : first + batch_size], held_out=True)

    def describe(self) -> dict[str, object]:
        """Settings, as stored in every record."""
        words = [task.words for task in self.tasks if isinstance(task, WordTask)]
        return {
            "name": self.name,
            "tokenizer": self.tokenizer.name,
            "tasks": [task.name for task in self.tasks],
            **{k: v for k, v in vars(self).items() if isinstance(v, (int, float, str))},
            "n_words": len(words[0]) if words else 0,
            "words_sha256": words_hash(words[0]) if words else None,
        }

    def _batch(self, indices: np.ndarray, held_out: bool) -> dict[str, Tensor]:
        import torch

        n_most = self.seq_len // _SHORTEST + 2  # documents or examples of one sequence
        documents = random_bits(self.seed, _DOCUMENTS, indices, 3 * n_most)
        examples = random_bits(self.seed, _EXAMPLES, indices, 2 * n_most)
        rows = [
            self._sequence(d, e, held_out)
            for d, e in zip(documents.tolist(), examples.tolist(), strict=True)
        ]
        return {"tokens": torch.from_numpy(np.stack(rows))}

    def _sequence(self, documents: list[int], examples: list[int], held_out: bool) -> np.ndarray:
        """Token ids (seq_len + 1,) from the random numbers of one item."""
        separator = [self.tokenizer.separator]
        tokens, k, n_wanted = separator, 0, self.seq_len + 1
        for d in range(0, len(documents), 3):
            task = self.tasks[documents[d] % len(self.tasks)]
            described = (documents[d + 1] >> 11) * 2.0**-53 < self.p_description
            share = (documents[d + 2] >> 11) * 2.0**-53
            n = math.floor(math.exp(share * math.log(self.max_examples + 1)))
            text = [task.description] if described else []
            for _ in range(n):
                if 2 * k >= len(examples):
                    break
                text += task.draw(examples[2 * k], examples[2 * k + 1], held_out)
                k += 1
            tokens = [*tokens, *self.tokenizer.encode("".join(text).encode()).tolist(), *separator]
            if len(tokens) >= n_wanted:
                break
        assert len(tokens) >= n_wanted, (len(tokens), n_wanted)
        return np.array(tokens[:n_wanted], dtype=np.int64)
