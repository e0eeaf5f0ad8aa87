"""What a shape must answer, whoever wrote it: asked once, before anything is planned with it."""

from __future__ import annotations

from typing import Any

from fmscale.sizing.counting import FLOPS_FORMULA

MEMBERS = (
    "family", "unit", "label", "n_params_total", "n_params_non_embedding", "n_params_matmul",
    "param_groups", "forward_macs", "train_flops_per_unit",
)  # fmt: skip
UNITS = {"tokens": ("seq_len", "vocab_size"), "samples": ()}  # unit -> further members


def check_shape(shape: Any) -> None:
    """Refuse a shape that plans, records or laws could not use, naming all that it lacks.

    Raises:
        ValueError: for members, groups or conventions that are missing or contradict each other.
    """
    name = type(shape).__name__
    lacks = [member for member in MEMBERS if not hasattr(shape, member)]
    unit = str(getattr(shape, "unit", None))
    lacks += [member for member in UNITS.get(unit, ()) if not hasattr(shape, member)]
    if lacks:
        raise ValueError(
            f"{name} lacks {', '.join(lacks)}; see fmscale.sizing.GPTShape for what each means"
        )
    if unit not in UNITS:
        raise ValueError(f"{name}.unit={unit!r} must be one of {', '.join(UNITS)}")
    missing = sorted(set(FLOPS_FORMULA) - set(shape.train_flops_per_unit(1)))
    if missing:
        raise ValueError(
            f"{name}.train_flops_per_unit lacks {', '.join(missing)}; give every convention of "
            "fmscale.sizing.FLOPS_FORMULA"
        )
    groups = shape.param_groups()
    if sum(groups.values()) != shape.n_params_total:
        raise ValueError(
            f"{name}.n_params_total={shape.n_params_total:,} is not the sum of its groups, "
            f"{sum(groups.values()):,}"
        )
