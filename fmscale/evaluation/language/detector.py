"""Can a machine tell a model's text from the held-out one? A classifier two-sample test.

In place of the human raters of Brown et al. 2020, Sec. 3.9.4 (Fig. 3.13): a classifier learns on
half of the texts and is tested on the other half; 50 % means that it cannot tell (Lopez-Paz &
Oquab 2017). It sees less than a person does: what it cannot tell, a person may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from fmscale.data.protocol import TextData
from fmscale.data.text.tokenizer import tokenizer_of
from fmscale.evaluation.language.language import check_language
from fmscale.evaluation.language.sampling import generate
from fmscale.evaluation.metric import Metric, Objective, Rows

BATCH = 128  # texts written at once; only speed and memory
FEWEST = 40  # texts of each kind
N_FEATURES = 1 << 15
PENALTIES = (0.1, 1.0, 10.0)  # inverse strengths, chosen among by cross-validation
N_SHOWN = 20  # rows of the table


class MachineDetector:
    """Accuracy of a logistic regression on token n-grams, with its 95 % band (Wilson).

    Both kinds of text continue held-out prompts; no prompt serves twice.

    Args:
        n_texts: of each kind; None: as many as the validation set has, at most 500.
        n_prompt: tokens that are given.
        n_tokens: tokens that are judged.
        temperature, top_k, top_p: how the model samples; see `generate`.
        n_gram: longest run of tokens that the classifier sees.
    """

    def __init__(
        self,
        n_texts: int | None = None,
        n_prompt: int = 16,
        n_tokens: int = 48,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        n_gram: int = 5,
        seed: int = 0,
    ) -> None:
        if n_texts is not None and n_texts < FEWEST:
            raise ValueError(f"n_texts = {n_texts}: give at least {FEWEST}, or null.")
        for field, value in (("n_prompt", n_prompt), ("n_tokens", n_tokens), ("n_gram", n_gram)):
            if value < 1:
                raise ValueError(f"{field} = {value}: give at least 1.")
        self.n_texts = n_texts
        self.n_prompt = n_prompt
        self.n_tokens = n_tokens
        self.sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        self.n_gram = n_gram
        self.seed = seed

    def check(self, data: Any) -> None:
        """Refuse data that is no language, and validation sets that are too small."""
        check_language(data)
        n = data.n_val_tokens // data.seq_len * self._per_sequence(data) // 2
        wanted = self.n_texts or FEWEST
        if n < wanted:
            raise ValueError(
                f"the validation set holds {n} texts of each kind with n_prompt + n_tokens = "
                f"{self.n_prompt + self.n_tokens} tokens, and {wanted} are needed. Raise "
                "data.n_val_tokens or lower n_tokens."
            )

    def _per_sequence(self, data: Any) -> int:
        """Texts that are cut out of one sequence; made-up languages have a first token."""
        n: int = (data.seq_len + 1) // (self.n_prompt + self.n_tokens)
        return n if tokenizer_of(data) is not None else min(n, 1)

    def texts(self, data: Any) -> np.ndarray:
        """Held-out texts with their prompts, (n, n_prompt + n_tokens), an even number of them."""
        width, per = self.n_prompt + self.n_tokens, self._per_sequence(data)
        parts = [
            batch["tokens"][:, : per * width].reshape(-1, width).numpy()
            for batch in data.validation_batches(data.val_batch_size)
        ]
        found = np.concatenate(parts)
        n = min(self.n_texts or 500, len(found) // 2)
        chosen = np.random.default_rng(self.seed).permutation(len(found))[: 2 * n]
        return found[chosen]

    def __call__(self, model: Any, data: TextData, objective: Objective) -> Iterator[Metric | Rows]:
        self.check(data)
        texts = self.texts(data)
        human, prompts = np.split(texts, 2)
        written = self._write(model, prompts[:, : self.n_prompt])
        tested = two_sample_test(human[:, self.n_prompt :], written, self.n_gram, self.seed)
        yield Metric("detector/accuracy", tested.accuracy, "fraction")
        yield Metric("detector/accuracy_low", tested.low, "fraction")
        yield Metric("detector/accuracy_high", tested.high, "fraction")
        yield Metric("detector/n_test", len(tested.is_machine), "texts")
        decode = _decoder(data)
        surest = np.argsort(-np.abs(tested.p_machine - 0.5), kind="stable")[:N_SHOWN]
        yield Rows(
            "detector",
            [
                {"text": decode(tested.texts[i]), "written_by_model": bool(tested.is_machine[i]),
                 "p_model": float(tested.p_machine[i])}
                for i in surest
            ],
        )  # fmt: skip

    def _write(self, model: Any, prompts: np.ndarray) -> np.ndarray:
        parts = [
            generate(model, torch.from_numpy(prompts[first : first + BATCH]), self.n_tokens,
                     seed=self.seed + first, **self.sampling)  # type: ignore[arg-type]
            for first in range(0, len(prompts), BATCH)
        ]  # fmt: skip
        return torch.cat(parts)[:, prompts.shape[1] :].numpy()


class TwoSampleTest:
    """What the classifier made of the half of the texts that it did not learn from."""

    def __init__(self, texts: np.ndarray, is_machine: np.ndarray, p_machine: np.ndarray) -> None:
        from scipy.stats import binomtest

        self.texts = texts
        self.is_machine = is_machine
        self.p_machine = p_machine
        hits = int(((p_machine > 0.5) == is_machine).sum())
        self.accuracy = hits / len(texts)
        band = binomtest(hits, len(texts)).proportion_ci(0.95, method="wilson")
        self.low, self.high = float(band.low), float(band.high)


def two_sample_test(
    human: np.ndarray, machine: np.ndarray, n_gram: int, seed: int
) -> TwoSampleTest:
    """Learn on half of both samples (n, T), test on the other half."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, train_test_split

    def grams(tokens: np.ndarray) -> list[str]:
        words = [str(token) for token in tokens.tolist()]
        return [
            " ".join(words[i : i + n])
            for n in range(1, n_gram + 1)
            for i in range(len(words) - n + 1)
        ]

    texts = np.concatenate([human, machine])
    labels = np.arange(len(texts)) >= len(human)
    counts = HashingVectorizer(analyzer=grams, n_features=N_FEATURES).transform(texts)
    learn, test = train_test_split(
        np.arange(len(texts)), test_size=0.5, stratify=labels, random_state=seed
    )
    classifier = GridSearchCV(LogisticRegression(solver="liblinear"), {"C": PENALTIES}, cv=3)
    classifier.fit(counts[learn], labels[learn])
    p_machine = classifier.predict_proba(counts[test])[:, 1]
    return TwoSampleTest(texts[test], labels[test], p_machine)


def _decoder(data: Any) -> Callable[[np.ndarray], str]:
    tokenizer = tokenizer_of(data)
    if tokenizer is None:  # symbols of a made-up language
        return lambda tokens: " ".join(map(str, tokens.tolist()))
    return lambda tokens: tokenizer.decode(tokens).decode(errors="replace")
