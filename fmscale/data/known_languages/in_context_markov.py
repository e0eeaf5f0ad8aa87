"""Every sequence is a Markov chain of its own: what can be learned is learning in context.

The best predictor counts the transitions seen so far (Edelman et al. 2024): its loss falls along
the sequence from ln V towards the mean entropy of a random row, psi(V + 1) - psi(2). A small
stand-in for Brown et al. 2020, Fig. 1.2: the gain from examples exists, and its optimum is known.
"""

from __future__ import annotations

import numpy as np

from fmscale.data.known_languages.known_language import KnownLanguage, pick


class InContextMarkov(KnownLanguage):
    """First-order chains whose rows are drawn from Dirichlet(1, ..., 1), anew for each sequence."""

    name = "in_context_markov"

    @property
    def n_draws(self) -> int:
        return self.n_symbols**2 + self.seq_len

    @property
    def entropy(self) -> None:
        """The mean Bayes loss has no closed form; `val_oracle_loss` measures it."""
        return None

    @property
    def entropy_rate(self) -> float:
        """Where the oracle's loss goes along an endless sequence: H_V - 1 nats, H harmonic."""
        return float(np.sum(1 / np.arange(2, self.n_symbols + 1)))

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        n = self.n_symbols
        weights = -np.log1p(-uniform[:, : n * n]).reshape(-1, n, n)
        cumulative = np.cumsum(weights / weights.sum(axis=2, keepdims=True), axis=2)
        draws = uniform[:, n * n :]
        symbols = np.empty((len(uniform), self.seq_len), dtype=np.int64)
        symbols[:, 0] = (draws[:, 0] * n).astype(np.int64)  # the first symbol is uniform
        everyone = np.arange(len(uniform))
        for t in range(1, self.seq_len):
            symbols[:, t] = pick(cumulative[everyone, symbols[:, t - 1]], draws[:, t])
        return symbols

    def log_probabilities(self, symbols: np.ndarray) -> np.ndarray:
        """Bayes: (count of this transition + 1) / (count of its origin + V)."""
        n, everyone = self.n_symbols, np.arange(len(symbols))
        counts = np.zeros((len(symbols), n, n))
        out = np.empty(symbols.shape)
        out[:, 0] = -np.log(n)
        for t in range(1, symbols.shape[1]):
            before, now = symbols[:, t - 1], symbols[:, t]
            row = counts[everyone, before]  # (B, n)
            out[:, t] = np.log((row[everyone, now] + 1) / (row.sum(axis=1) + n))
            counts[everyone, before, now] += 1
        return out
