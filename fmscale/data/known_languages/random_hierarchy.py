"""Sentences of a random hierarchy: every symbol expands into s symbols by one of m rules, L times.

The random hierarchy model of Cagnetta et al. 2024: rules are random, and no s symbols stem from two
symbols, so the tree of a whole sentence is certain. It is learned level by level; the exact
conditional probability of each leaf follows by belief propagation along the tree.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from fmscale.data.counter_random import random_order
from fmscale.data.known_languages.known_language import KnownLanguage

_RULES = 5  # first stream of the random numbers that rules are made of, one stream a level


class RandomHierarchy(KnownLanguage):
    """Sequences of whole trees of s**L leaves; the root is uniform over the symbols.

    Args:
        n_rules: m, expansions of each symbol, equally likely.
        branching: s, symbols of one expansion.
        n_levels: L.
        rest: see `KnownLanguage`; seq_len must hold whole trees.
    """

    name = "random_hierarchy"

    def __init__(
        self, n_rules: int = 4, branching: int = 2, n_levels: int = 4, **rest: int
    ) -> None:
        super().__init__(**rest)
        if min(n_rules, n_levels) < 1 or branching < 2:
            raise ValueError(
                f"data.n_rules = {n_rules}, data.branching = {branching}, data.n_levels = "
                f"{n_levels}: give at least 1, 2 and 1."
            )
        if n_rules * self.n_symbols > self.n_symbols**branching:
            raise ValueError(
                f"data.n_rules = {n_rules}: {n_rules * self.n_symbols} expansions, but only "
                f"{self.n_symbols**branching} different ones exist. Lower data.n_rules to at most "
                f"{self.n_symbols ** (branching - 1)}."
            )
        if self.seq_len % branching**n_levels:
            raise ValueError(
                f"data.seq_len = {self.seq_len} holds no whole number of trees of "
                f"{branching**n_levels} leaves (branching ** n_levels). Give a multiple."
            )
        self.n_rules = n_rules
        self.branching = branching
        self.n_levels = n_levels

    @property
    def n_leaves(self) -> int:
        """Leaves of one tree."""
        return self.branching**self.n_levels

    @property
    def n_choices(self) -> int:
        """Random choices of one tree: its root, and a rule at each inner node."""
        return 1 + sum(self.branching**level for level in range(self.n_levels))

    @property
    def n_draws(self) -> int:
        return self.seq_len // self.n_leaves * self.n_choices

    @property
    def entropy(self) -> float:
        """[ln v + ln m * (number of inner nodes)] / s**L, nats per leaf."""
        inner = self.n_choices - 1
        return float(np.log(self.n_symbols) + inner * np.log(self.n_rules)) / self.n_leaves

    @cached_property
    def rules(self) -> np.ndarray:
        """Expansions (n_levels, n_symbols, n_rules, branching), all different on a level."""
        v, s = self.n_symbols, self.branching
        levels = []
        for level in range(self.n_levels):
            order = random_order(self.seed, _RULES + level, v**s)[: v * self.n_rules]
            digits = order[:, None] // v ** np.arange(s - 1, -1, -1) % v
            levels.append(digits.reshape(v, self.n_rules, s))
        return np.array(levels)

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        uniform = uniform.reshape(-1, self.n_choices)  # one row a tree
        symbols = (uniform[:, :1] * self.n_symbols).astype(np.int64)
        used = 1
        for level in range(self.n_levels):
            width = symbols.shape[1]
            rule = (uniform[:, used : used + width] * self.n_rules).astype(np.int64)
            used += width
            symbols = self.rules[level][symbols, rule].reshape(len(symbols), -1)
        return symbols.reshape(-1, self.seq_len)

    def log_probabilities(self, symbols: np.ndarray) -> np.ndarray:
        leaves = symbols.reshape(-1, self.n_leaves)  # (trees, leaves)
        n_trees, v = len(leaves), self.n_symbols
        # Likelihood of the leaves seen below each node, given its symbol; 1 where none was seen.
        below = [np.ones((n_trees, self.branching**level, v)) for level in range(self.n_levels + 1)]
        total = np.zeros((n_trees, self.n_leaves + 1))  # log p(first t leaves)
        for t in range(self.n_leaves):
            below[-1][:, t] = np.eye(v)[leaves[:, t]]
            node = t
            for level in range(self.n_levels - 1, -1, -1):
                node //= self.branching
                children = below[level + 1][:, node * self.branching : (node + 1) * self.branching]
                product = np.ones((n_trees, v, self.n_rules))
                for j in range(self.branching):
                    product *= children[:, j][:, self.rules[level][..., j]]
                below[level][:, node] = product.mean(axis=2)
            with np.errstate(divide="ignore"):  # a sentence that cannot be has probability 0
                total[:, t + 1] = np.log(below[0][:, 0].mean(axis=1))
        with np.errstate(invalid="ignore"):
            return np.diff(total, axis=1).reshape(symbols.shape)
