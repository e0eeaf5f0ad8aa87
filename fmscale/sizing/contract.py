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
    tables = sum(count for group, count in groups.items() if group.endswith("embedding"))
    if shape.n_params_non_embedding != shape.n_params_total - tables:
        raise ValueError(
            f"{name}.n_params_non_embedding={shape.n_params_non_embedding:,} is not the total "
            f"without the groups that end with embedding, {shape.n_params_total - tables:,}"
        )
    if not 0 <= shape.n_params_matmul <= shape.n_params_total:
        raise ValueError(
            f"{name}.n_params_matmul={shape.n_params_matmul:,} lies outside of 0 and the total, "
            f"{shape.n_params_total:,}"
        )
    if unit == "tokens":
        flops = shape.train_flops_per_unit(1)
        for key in ("total", "non_embedding", "matmul"):
            column = "flops_6nd" if key == "total" else f"flops_6nd_{key}"
            if flops[column] != 6 * getattr(shape, f"n_params_{key}"):
                raise ValueError(
                    f"{name}.train_flops_per_unit gives {column}={flops[column]:,}, which is not "
                    f"6 * n_params_{key}"
                )
