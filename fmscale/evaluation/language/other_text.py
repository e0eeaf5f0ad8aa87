"""Perplexity of any text of your own (Radford et al. 2019, Table 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fmscale.data.jsonl_rows import read_rows
from fmscale.data.protocol import TextData
from fmscale.data.text.tokenizer import TextTokenizer
from fmscale.evaluation.language.in_context import text_tokenizer
from fmscale.evaluation.language.language import check_language
from fmscale.evaluation.language.scoring import Prompt, score
from fmscale.evaluation.metric import Metric, Objective, name_of


class OtherText:
    """Loss, bits per byte, and perplexity per token and per word of the documents of a file.

    Every token is predicted once. A document longer than the context is read through a window that
    moves by `stride` tokens, so that all but its first tokens are predicted from at least
    seq_len - stride others. Only bits per byte and perplexity per word can be compared between
    tokenizers.

    Args:
        file: JSONL with "text", one document a line; any other file is one document, UTF-8.
        name: of the text, in the metrics; None: that of the file.
        stride: in tokens, 1 to seq_len - 1; fewer cost more and predict better. None: half of
            the context.
    """

    def __init__(
        self, file: str | None = None, name: str | None = None, stride: int | None = None
    ) -> None:
        self.texts = _read(file)
        self.name = name or name_of(file)
        self.stride = stride

    def check(self, data: Any) -> None:
        """Refuse data that is no text, and a stride that the context does not hold."""
        check_language(data)
        text_tokenizer(data)
        if self.stride is not None and not 1 <= self.stride < data.seq_len:
            raise ValueError(
                f"stride = {self.stride}: give 1 to {data.seq_len - 1}, less than data.seq_len, "
                "or null."
            )

    def windows(self, tokenizer: TextTokenizer, seq_len: int) -> Iterator[Prompt]:
        """What is read and what is predicted from it, at most seq_len tokens together."""
        stride = self.stride or max(1, seq_len // 2)
        for text in self.texts:
            ids = tokenizer.encode(text.encode()).astype(np.int64)
            tokens = np.concatenate([[tokenizer.separator], ids])
            done, end = 1, min(len(tokens), seq_len)
            while done < end:
                begin = max(0, end - seq_len)
                yield Prompt(tokens[begin:done], tokens[done:end])
                done, end = end, min(len(tokens), end + stride)

    def __call__(self, model: Any, data: TextData, objective: Objective) -> Iterator[Metric]:
        self.check(data)
        tokenizer = text_tokenizer(data)
        windows = list(self.windows(tokenizer, model.shape.seq_len))
        nats = np.array([scored.nats for scored in score(model, windows)])
        counts = np.array([len(window.answer) for window in windows])
        total, n_tokens = float(nats.sum()), int(counts.sum())
        loss, prefix = total / n_tokens, f"other/{self.name}"
        yield Metric(f"{prefix}_loss", loss, "nats/token")
        if len(windows) > 1:  # of a ratio, each window one observation
            spread = float(np.sum((nats - loss * counts) ** 2))
            error = math.sqrt(spread * len(windows) / (len(windows) - 1)) / n_tokens
            yield Metric(f"{prefix}_loss_standard_error", error, "nats/token")
        per = {"perplexity": loss}
        # Tokens that lose a part of the text say nothing of its bytes and words.
        if tokenizer.restore([tokenizer.encode(t.encode()) for t in self.texts]) == self.texts:
            n_bytes = sum(len(text.encode()) for text in self.texts)
            yield Metric(f"{prefix}_bpb", total / math.log(2) / n_bytes, "bits/byte")
            n_words = sum(len(text.split()) for text in self.texts)
            per["word_perplexity"] = total / n_words if n_words else math.inf
        for quantity, mean in per.items():
            if mean < 700:  # e**710 overflows
                yield Metric(f"{prefix}_{quantity}", math.exp(mean), "1")
        yield Metric(f"{prefix}_n_tokens", n_tokens, "tokens")


def _read(file: str | None) -> list[str]:
    if file is None or Path(file).suffix in (".jsonl", ".ndjson"):
        texts = [row["text"] for _, row in read_rows(file, {"text": str})]
    elif not Path(file).is_file():
        raise ValueError(f"file = {file}: no such file. Give a text, or JSONL with 'text'.")
    else:
        try:
            texts = [Path(file).read_text(encoding="utf-8")]
        except UnicodeDecodeError as error:
            raise ValueError(f"file = {file} is no UTF-8 text: {error}") from error
    found = [text for text in texts if text]
    if not found:
        raise ValueError(f"file = {file} holds no text.")
    return found
