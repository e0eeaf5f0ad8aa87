"""Tasks in the published formats, right by an independent reading, with problems held out."""

from __future__ import annotations

import re

import pytest

from fmscale.data.tasks.prompt_tasks import MORE_ARITHMETIC, PUBLISHED, build_tasks
from fmscale.data.tasks.word_tasks import INSERTED, WORD_TASKS, frequent_words

# Lines of the files that the authors of GPT-3 published, letter by letter.
PUBLISHED_LINES = {
    "two_digit_subtraction": ("\n\nQ: What is 33 minus 88?\n\nA:", " -55"),
    "two_digit_multiplication": ("\n\nQ: What is 95 times 45?\n\nA:", " 4275"),
    "single_digit_three_ops": ("\n\nQ: What is (9 + 8) * 2?\n\nA:", " 34"),
    "sum_of_digits": ("\n\nQ: What is the sum of the digits of the number 8606?\n\nA:", " 20"),
}


@pytest.mark.parametrize(("name", "line"), PUBLISHED_LINES.items())
def test_published_lines_are_among_the_problems(name, line):
    (task,) = build_tasks([name])
    problems = range(task.n_problems) if task.n_problems <= 10_000 else ()
    assert line in {tuple(task.example(k, 0)) for k in problems}


def test_fifteen_tasks_are_the_default():
    assert [task.name for task in build_tasks()] == list(PUBLISHED)
    assert len(PUBLISHED) == 15


@pytest.mark.parametrize("name", [n for n in (*PUBLISHED, *MORE_ARITHMETIC) if n not in WORD_TASKS])
@pytest.mark.parametrize("rendering", ["as_published", "one_line"])
def test_every_answer_is_what_python_works_out(name, rendering):
    (task,) = build_tasks([name], rendering)
    for k in range(300):
        prompt, answer = task.draw(k * 7919, 0, held_out=k % 2 == 0)
        pattern = r"\n\nQ: What is (.*)\?\n\nA:" if rendering == "as_published" else (
            r"\nQ: What is (.*)\? A:")  # fmt: skip
        question = re.fullmatch(pattern, prompt).group(1)
        for word, sign in (("plus", "+"), ("minus", "-"), ("times", "*")):
            question = question.replace(word, sign)
        if digits := re.search(r"sum of the digits of the number (\d+)", question):
            question = "+".join(digits.group(1))
        expected = f" {eval(question)}" + ("." if rendering == "one_line" else "")
        assert answer == expected


def test_words_are_scrambled_as_the_paper_says():
    words = ("casino", "reciprocal", "inevitably", "succession")
    padded = words + tuple(w for w in frequent_words() if w not in words)
    tasks = dict(zip(WORD_TASKS, build_tasks(WORD_TASKS), strict=True))
    for task in tasks.values():
        task.words = padded
        for k, word in enumerate(padded[:200]):
            prompt, answer = task.example(k, salt=k)
            assert answer == f" {word}"
            scrambled = re.fullmatch(r"\n(.*) =", prompt).group(1)
            if task.name == "reversed_words":
                assert scrambled == "".join(reversed(word))
                continue
            # Two letters at each end leave one letter in the middle of five.
            assert (
                scrambled != word
                or (task.name, len(word)) == ("mid_word_2_anagrams", 5)
                or (len(set(word[2:-2])) == 1)
            )
            match task.name:
                case "cycle_letters_in_word":
                    assert scrambled in word + word
                    assert len(scrambled) == len(word)
                case "random_insertion_in_word":
                    assert scrambled[::2] == word
                    assert set(scrambled[1::2]) <= set(INSERTED)
                case name:
                    kept = 1 if name == "mid_word_1_anagrams" else 2
                    assert sorted(scrambled) == sorted(word)
                    assert scrambled[:kept] == word[:kept]
                    assert scrambled[-kept:] == word[-kept:]
    assert "asinoc" in {
        tasks["cycle_letters_in_word"].example(0, salt)[0].strip(" =\n") for salt in range(40)
    }


@pytest.mark.parametrize("name", ["two_digit_addition", "single_digit_three_ops", "reversed_words"])
def test_a_tenth_of_all_problems_is_held_out_and_never_drawn_in_training(name):
    (task,) = build_tasks([name])
    held_out = [k for k in range(task.n_problems) if task.is_held_out(k)]
    assert len(held_out) == pytest.approx(0.1 * task.n_problems, abs=1)
    prompts = {tuple(task.example(k, 0)) for k in held_out}
    for bits in range(0, 10**6, 997):
        assert tuple(task.draw(bits, 0, held_out=False)) not in prompts
        assert tuple(task.draw(bits, 0, held_out=True)) in prompts


def test_held_out_sums_are_spread_over_both_operands():
    (task,) = build_tasks(["two_digit_addition"])
    operands = [divmod(k, 100) for k in range(task.n_problems) if task.is_held_out(k)]
    for place in (0, 1):
        for read in (lambda n: n // 10, lambda n: n % 10):
            counts = [0] * 10
            for pair in operands:
                counts[read(pair[place])] += 1
            assert min(counts) > 70  # 100 each if drawn at random
            assert max(counts) < 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["two_digit_adition"]}, "tasks = .*two_digit_adition.*Choose from"),
        ({"names": []}, "tasks = .*none"),
        ({"rendering": "prose"}, "rendering = 'prose'"),
        ({"words_file": "nowhere.txt"}, "words_file = 'nowhere.txt': no such file"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_tasks(**arguments)
