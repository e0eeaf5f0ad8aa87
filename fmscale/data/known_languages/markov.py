"""A Markov chain of order m: the entropy rate is known in closed form.

Shorter contexts give known plateaus: a model that looks at k < m symbols ends at the entropy
given k symbols. Parametric, so late excess loss falls as 1/D: it tests the floor E and the
counting of D, not a power law.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from fmscale.data.known_languages.known_language import KnownLanguage, pick, random_rows

_TABLE = 2  # stream of the random numbers that the transition table is made of
LARGEST_TABLE = 1 << 24


class Markov(KnownLanguage):
    """Each symbol depends on the `order` symbols before it; the start is stationary.

    Args:
        order: m, symbols of context.
        sharpness: 1 draws rows of the table from Dirichlet(1, ..., 1); more makes them sparser.
        rest: see `KnownLanguage`.
    """

    name = "markov"

    def __init__(self, order: int = 2, sharpness: float = 2.0, **rest: int) -> None:
        super().__init__(**rest)
        if not 1 <= order < self.seq_len:
            raise ValueError(
                f"data.order = {order}: at least 1 and less than data.seq_len = {self.seq_len}."
            )
        if self.n_symbols ** (order + 1) > LARGEST_TABLE:
            raise ValueError(
                f"data.n_symbols = {self.n_symbols} at data.order = {order} needs a table of "
                f"{self.n_symbols ** (order + 1):,} numbers (at most {LARGEST_TABLE:,}). "
                "Lower one of them."
            )
        if sharpness <= 0:
            raise ValueError(f"data.sharpness = {sharpness}: give a positive number.")
        self.order = order
        self.sharpness = sharpness

    @property
    def n_draws(self) -> int:
        return self.seq_len

    @cached_property
    def table(self) -> np.ndarray:
        """p(next | context), (n_symbols**order, n_symbols); the oldest symbol counts most."""
        n_contexts = self.n_symbols**self.order
        return random_rows(self.seed, _TABLE, n_contexts, self.n_symbols, self.sharpness)

    @cached_property
    def stationary(self) -> np.ndarray:
        """Long-run share of each context, (n_symbols**order,), by repeated multiplication."""
        share = np.full(len(self.table), 1 / len(self.table))
        for _ in range(10_000):
            joint = share[:, None] * self.table  # (context, next)
            after = joint.reshape(self.n_symbols, -1).sum(axis=0)  # drop the oldest symbol
            if np.abs(after - share).max() < 1e-15:
                break
            share = after
        return share / share.sum()

    def marginal(self, length: int) -> np.ndarray:
        """p(first `length` symbols), (n_symbols**length,), length at most `order`."""
        return self.stationary.reshape(self.n_symbols**length, -1).sum(axis=1)

    @property
    def entropy_rate(self) -> float:
        """sum_i pi_i H(P_i), nats per symbol."""
        return float(self.stationary @ _entropy(self.table))

    @property
    def entropy(self) -> float:
        start = float(_entropy(self.stationary[None])[0])
        return (start + (self.seq_len - self.order) * self.entropy_rate) / self.seq_len

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        symbols = np.empty(uniform.shape, dtype=np.int64)
        context = np.zeros(len(uniform), dtype=np.int64)
        for t in range(self.seq_len):
            rows = self._conditional(context, t)
            symbols[:, t] = pick(rows.cumsum(axis=1), uniform[:, t])
            context = self._shift(context, symbols[:, t], t)
        return symbols

    def log_probabilities(self, symbols: np.ndarray) -> np.ndarray:
        out = np.empty(symbols.shape)
        context = np.zeros(len(symbols), dtype=np.int64)
        everyone = np.arange(len(symbols))
        for t in range(symbols.shape[1]):
            out[:, t] = np.log(self._conditional(context, t)[everyone, symbols[:, t]])
            context = self._shift(context, symbols[:, t], t)
        return out

    def _conditional(self, context: np.ndarray, t: int) -> np.ndarray:
        """p(symbol t | the symbols before), (B, n_symbols)."""
        if t >= self.order:
            return self.table[context]
        joint = self.marginal(t + 1).reshape(-1, self.n_symbols)
        return joint[context] / joint[context].sum(axis=1, keepdims=True)

    def _shift(self, context: np.ndarray, symbol: np.ndarray, t: int) -> np.ndarray:
        longer = context * self.n_symbols + symbol
        return longer if t + 1 <= self.order else longer % self.n_symbols**self.order


def _entropy(rows: np.ndarray) -> np.ndarray:
    """Nats of each distribution (R, n) -> (R,)."""
    return -np.sum(rows * np.log(np.where(rows > 0, rows, 1.0)), axis=1)
