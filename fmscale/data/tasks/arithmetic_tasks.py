"""The ten arithmetic tasks of GPT-3 (Brown et al. 2020, Sec. 3.9.1), and three of their kin.

Prompts and answers are those of the files that its authors published (github.com/openai/gpt-3,
data/), where operands are uniform in 0..10^k - 1, so that "three digits" includes 87, and answers
may be negative. `one_line` writes the same question on one line, as the paper prints it.
"""

from __future__ import annotations

from typing import Literal

from fmscale.data.tasks.prompt_task import Example, PromptTask

Rendering = Literal["as_published", "one_line"]
RENDERINGS = ("as_published", "one_line")
OPERATIONS = {"plus": "Add", "minus": "Subtract", "times": "Multiply"}
SIGNS = "+-*"
DIGITS = {"single": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
WORDS = {"addition": "plus", "subtraction": "minus", "multiplication": "times"}
# In the order of Brown et al. 2020, Table 3.9.
ARITHMETIC = (
    "two_digit_addition", "two_digit_subtraction", "three_digit_addition",
    "three_digit_subtraction", "four_digit_addition", "four_digit_subtraction",
    "five_digit_addition", "five_digit_subtraction", "two_digit_multiplication",
    "single_digit_three_ops",
)  # fmt: skip
# Published beside them, but not in that table.
MORE_ARITHMETIC = ("six_digit_addition", "six_digit_subtraction", "sum_of_digits")


def question(text: str, answer: int, rendering: Rendering) -> Example:
    """A question with its answer, in one of the two renderings."""
    if rendering == "one_line":
        return Example(f"\nQ: What is {text}? A:", f" {answer}.")
    return Example(f"\n\nQ: What is {text}?\n\nA:", f" {answer}")


class TwoOperands(PromptTask):
    """Addition, subtraction or multiplication of two numbers of up to `n_digits` digits."""

    def __init__(self, name: str, rendering: Rendering = "as_published") -> None:
        digits, _, word = name.split("_")
        self.name = name
        self.rendering = rendering
        self.operation = WORDS[word]
        self.base = 10 ** DIGITS[digits]
        self.n_problems = self.base**2
        self.description = f"{OPERATIONS[self.operation]} the two numbers."

    def example(self, problem: int, salt: int) -> Example:
        a, b = divmod(problem, self.base)
        answer = {"plus": a + b, "minus": a - b, "times": a * b}[self.operation]
        return question(f"{a} {self.operation} {b}", answer, self.rendering)


class ThreeOperands(PromptTask):
    """(a op b) op c with single digits from 1 to 9, as "(9 + 8) * 2"."""

    name = "single_digit_three_ops"
    description = "Work out the expression."
    n_problems = 9**3 * 3**2

    def __init__(self, rendering: Rendering = "as_published") -> None:
        self.rendering = rendering

    def example(self, problem: int, salt: int) -> Example:
        digits = []
        for _ in range(3):
            problem, digit = divmod(problem, 9)
            digits.append(digit + 1)
        a, b, c = digits
        first, second = (SIGNS[k] for k in divmod(problem, 3))
        inner = _apply(first, a, b)
        text = f"({a} {first} {b}) {second} {c}"
        return question(text, _apply(second, inner, c), self.rendering)


class SumOfDigits(PromptTask):
    """The sum of the digits of a number below 10,000."""

    name = "sum_of_digits"
    description = "Add the digits of the number."
    n_problems = 10_000

    def __init__(self, rendering: Rendering = "as_published") -> None:
        self.rendering = rendering

    def example(self, problem: int, salt: int) -> Example:
        text = f"the sum of the digits of the number {problem}"
        return question(text, sum(map(int, str(problem))), self.rendering)


def arithmetic_task(name: str, rendering: Rendering = "as_published") -> PromptTask:
    """A task of `ARITHMETIC` or `MORE_ARITHMETIC` by its name."""
    if name == ThreeOperands.name:
        return ThreeOperands(rendering)
    if name == SumOfDigits.name:
        return SumOfDigits(rendering)
    return TwoOperands(name, rendering)


def _apply(sign: str, a: int, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b}[sign]
