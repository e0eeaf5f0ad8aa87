"""The prompt tasks by name."""

from __future__ import annotations

from collections.abc import Sequence

from fmscale.data.tasks.arithmetic_tasks import (
    ARITHMETIC,
    MORE_ARITHMETIC,
    RENDERINGS,
    Rendering,
    arithmetic_task,
)
from fmscale.data.tasks.prompt_task import PromptTask
from fmscale.data.tasks.word_tasks import WORD_TASKS, WordTask, frequent_words

PUBLISHED = (*ARITHMETIC, *WORD_TASKS)  # the fifteen of Brown et al. 2020, Sec. 3.9.1 and 3.9.2


def build_tasks(
    names: Sequence[str] | None = None,
    rendering: Rendering = "as_published",
    words_file: str | None = None,
) -> list[PromptTask]:
    """Tasks by name.

    Args:
        names: None: the fifteen of GPT-3.
        rendering: of the arithmetic tasks.
        words_file: text whose frequent words are scrambled; None: the standard library's sources.

    Raises:
        ValueError: naming an unknown task or rendering.
    """
    known = (*PUBLISHED, *MORE_ARITHMETIC)
    chosen = list(PUBLISHED if names is None else names)
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"tasks = {chosen}: unknown, repeated or none. Choose from {', '.join(known)}; null "
            "takes the fifteen of GPT-3."
        )
    if rendering not in RENDERINGS:
        raise ValueError(f"rendering = {rendering!r}: choose one of {', '.join(RENDERINGS)}.")
    return [
        WordTask(name, frequent_words(words_file))
        if name in WORD_TASKS
        else arithmetic_task(name, rendering)
        for name in chosen
    ]
