"""Learning-rate schedules: pure functions from step to a multiplier of the peak rate.

`step` counts optimizer steps from 0: the multiplier at `step` is the one that update number
`step + 1` uses. The first update of a warm-up of w steps uses 1 / w, so none is wasted on 0. From
step `n_steps` on the last value holds, because schedulers look one step past the end.
"""

import math


def constant(
    step: int, *, warmup_steps: int, n_steps: int | None = None, cooldown_steps: int = 0
) -> float:
    """Linear warm-up to 1, then 1; `cooldown_steps` must be 0."""
    _check(warmup_steps=warmup_steps, n_steps=n_steps, cooldown_steps=cooldown_steps)
    if cooldown_steps:
        raise ValueError(
            f"a constant schedule has no cooldown, got cooldown_steps={cooldown_steps}; "
            "set schedule.cooldown_fraction=0 or choose schedule=wsd"
        )
    return _warmup(step, warmup_steps)


def wsd(
    step: int, *, warmup_steps: int, n_steps: int | None = None, cooldown_steps: int = 0
) -> float:
    """Warm-up, stable, decay: linear to 1, constant, then 1 - sqrt (Hägele et al. 2024, Sec. 3).

    The first cooldown step still uses 1 and the last one something above 0, so a cooldown branched
    from a constant-rate trunk continues it exactly and wastes no update.

    Args:
        warmup_steps: updates until the multiplier reaches 1.
        n_steps: updates in all; None for a trunk, which never cools down.
        cooldown_steps: updates of the cooldown, at the end of `n_steps`.
    """
    _check(warmup_steps=warmup_steps, n_steps=n_steps, cooldown_steps=cooldown_steps)
    if n_steps is None or cooldown_steps == 0 or step < n_steps - cooldown_steps:
        return _warmup(step, warmup_steps)
    cooled = min(step, n_steps - 1) - (n_steps - cooldown_steps)
    return 1.0 - math.sqrt(cooled / cooldown_steps)


def cosine(
    step: int,
    *,
    warmup_steps: int,
    n_steps: int,
    cooldown_steps: int | None = None,
    floor: float = 0.1,
) -> float:
    """Linear warm-up to 1, then half a cosine to `floor` at the end (Hoffmann et al. 2022).

    Args:
        warmup_steps: updates until the multiplier reaches 1.
        n_steps: updates in all; the horizon must be known in advance.
        cooldown_steps: updates of the decay, at the end of `n_steps`; None: all after warm-up.
        floor: multiplier after the last update; 0.1 in GPT-3 and Chinchilla.
    """
    _check(warmup_steps=warmup_steps, n_steps=n_steps, cooldown_steps=cooldown_steps or 0)
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"floor is a share of the peak rate in [0, 1], got {floor}")
    n_decay = n_steps - warmup_steps if cooldown_steps is None else cooldown_steps
    if step < n_steps - n_decay:
        return _warmup(step, warmup_steps)
    done = (min(step, n_steps) - (n_steps - n_decay)) / max(1, n_decay)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0


def _check(*, warmup_steps: int, n_steps: int | None, cooldown_steps: int = 0) -> None:
    if warmup_steps < 0 or cooldown_steps < 0:
        raise ValueError(
            f"steps cannot be negative: warmup_steps={warmup_steps}, "
            f"cooldown_steps={cooldown_steps}"
        )
    if n_steps is None:
        if cooldown_steps:
            raise ValueError("cooldown_steps needs n_steps: a trunk has no end to cool down to")
        return
    if n_steps <= 0:
        raise ValueError(f"n_steps must be positive, got {n_steps}")
    if warmup_steps + cooldown_steps > n_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} + cooldown_steps={cooldown_steps} exceed "
            f"n_steps={n_steps}; train longer or shorten them"
        )
