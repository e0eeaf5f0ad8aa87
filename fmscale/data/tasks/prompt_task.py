"""A task as text: a prompt, an answer, and what to write between examples.

A problem has a number, so that a tenth of all problems can be held out of training documents:
what is measured on the others is not what was read. The held-out tenth is spread over the whole
range of numbers by a multiplication with a number near n / golden ratio.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

HELD_OUT = 0.1  # share of all problems that training documents never show


class Example(NamedTuple):
    """A problem and its solution; prompt + answer + prompt + answer ... is a document."""

    prompt: str
    answer: str  # begins with the space that separates it from the prompt


class PromptTask(ABC):
    """One task: numbered problems and a description in words.

    What follows an answer is the next prompt, which begins with a line break, or the end of the
    document: a model has answered when it writes either.
    """

    name: str
    description: str  # a sentence that stands before the first example, where it is asked for
    n_problems: int

    @abstractmethod
    def example(self, problem: int, salt: int) -> Example:
        """A problem by its number, 0..n_problems-1; `salt` settles what else is random in it."""

    def draw(self, bits: int, salt: int, held_out: bool) -> Example:
        """A random problem of one of the two splits.

        Args:
            bits: 64 random bits that choose the problem.
            salt: 64 more for what is random within it.
            held_out: from the problems that training documents never show.
        """
        n, n_train = self.n_problems, self.n_train
        place = n_train + bits % (n - n_train) if held_out else bits % n_train
        return self.example(place * self._stride % n, salt)

    def is_held_out(self, problem: int) -> bool:
        """Whether a problem is one of those that training documents never show."""
        place = problem * pow(self._stride, -1, self.n_problems) % self.n_problems
        return place >= self.n_train

    @property
    def n_train(self) -> int:
        return self.n_problems - max(1, round(HELD_OUT * self.n_problems))

    @cached_property
    def _stride(self) -> int:
        n = self.n_problems
        stride = max(1, round(n * (math.sqrt(5) - 1) / 2))
        while math.gcd(stride, n) > 1:
            stride += 1
        return stride
