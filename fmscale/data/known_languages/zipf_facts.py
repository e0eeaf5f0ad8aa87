"""Facts of unequal frequency: records `key value`, key k drawn with probability ~ k^-(1+a).

Rare facts are learned late and need room: the ideal loss falls with exponent a in size and
a/(1+a) in data (Hutter 2021; Michaud et al. 2023). The floor is exact: the entropy of keys and of
the noise of values.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from fmscale.data.counter_random import random_bits, random_order
from fmscale.data.known_languages.known_language import KnownLanguage, pick

_VALUES, _NAMES = 3, 4  # streams: the value of each key, and which digits spell which rank


class ZipfFacts(KnownLanguage):
    """Keys of `n_digits` symbols, each followed by its one value.

    Args:
        n_digits: symbols of a key; there are n_symbols**n_digits keys.
        exponent: a of the law p(k) ~ k^-(1+a) over ranks k = 1, 2, ...
        noise: share of values replaced by a uniform symbol.
        rest: see `KnownLanguage`; seq_len must hold whole records of n_digits + 1 symbols.
    """

    name = "zipf_facts"

    def __init__(
        self, n_digits: int = 3, exponent: float = 0.5, noise: float = 0.0, **rest: int
    ) -> None:
        super().__init__(**rest)
        if n_digits < 1:
            raise ValueError(f"data.n_digits = {n_digits}: give at least 1.")
        if self.seq_len % (n_digits + 1):
            raise ValueError(
                f"data.seq_len = {self.seq_len} holds no whole number of records of "
                f"{n_digits + 1} symbols (data.n_digits + 1). Give a multiple."
            )
        if exponent <= 0 or not 0 <= noise < 1:
            raise ValueError(
                f"data.exponent = {exponent}, data.noise = {noise}: the exponent is positive, the "
                "noise at least 0 and less than 1."
            )
        self.n_digits = n_digits
        self.exponent = exponent
        self.noise = noise

    @property
    def n_keys(self) -> int:
        return self.n_symbols**self.n_digits

    @property
    def n_records(self) -> int:
        """Records of one sequence."""
        return self.seq_len // (self.n_digits + 1)

    @property
    def n_draws(self) -> int:
        return 2 * self.n_records

    @cached_property
    def probabilities(self) -> np.ndarray:
        """p(key) by its digits read as a number, (n_keys,)."""
        weights = np.arange(1, self.n_keys + 1) ** -(1 + self.exponent)
        p = np.empty(self.n_keys)
        p[random_order(self.seed, _NAMES, self.n_keys)] = weights / weights.sum()
        return p

    @cached_property
    def values(self) -> np.ndarray:
        """The value of each key, (n_keys,)."""
        bits = random_bits(self.seed, _VALUES, np.arange(self.n_keys), 1)[:, 0]
        return (bits % np.uint64(self.n_symbols)).astype(np.int64)

    @property
    def entropy(self) -> float:
        p = self.probabilities
        keys = float(-np.sum(p * np.log(p)))
        right, wrong = self._value_probabilities
        values = -right * np.log(right)
        if wrong > 0:
            values -= (self.n_symbols - 1) * wrong * np.log(wrong)
        return float(keys + values) / (self.n_digits + 1)

    @property
    def _value_probabilities(self) -> tuple[float, float]:
        """Of the key's own value, and of each other symbol."""
        wrong = self.noise / self.n_symbols
        return 1 - self.noise + wrong, wrong

    @cached_property
    def _cumulative(self) -> np.ndarray:
        return np.cumsum(self.probabilities)

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        n, size = self.n_symbols, (len(uniform), self.n_records)
        which, noise = uniform[:, : self.n_records], uniform[:, self.n_records :]
        last = self.n_keys - 1  # rounding may leave the last sum below 1
        keys = np.minimum(np.searchsorted(self._cumulative, which, side="right"), last)
        digits = keys[..., None] // n ** np.arange(self.n_digits - 1, -1, -1) % n
        right, wrong = self._value_probabilities
        value = self.values[keys]
        if wrong > 0:
            rows = np.full((value.size, n), wrong)
            rows[np.arange(value.size), value.ravel()] = right
            value = pick(rows.cumsum(axis=1), noise.ravel()).reshape(size)
        return np.concatenate([digits, value[..., None]], axis=2).reshape(len(uniform), -1)

    def log_probabilities(self, symbols: np.ndarray) -> np.ndarray:
        n = self.n_symbols
        records = symbols.reshape(-1, self.n_digits + 1)
        out = np.empty(records.shape)
        prefix = np.zeros(len(records), dtype=np.int64)
        known = np.ones(len(records))
        for j in range(self.n_digits):
            prefix = prefix * n + records[:, j]
            longer = self.probabilities.reshape(n ** (j + 1), -1).sum(axis=1)[prefix]
            out[:, j] = np.log(longer / known)
            known = longer
        right, wrong = self._value_probabilities
        hit = records[:, -1] == self.values[prefix]
        with np.errstate(divide="ignore"):  # a value that cannot be has probability 0
            out[:, -1] = np.log(np.where(hit, right, wrong))
        return out.reshape(symbols.shape)
