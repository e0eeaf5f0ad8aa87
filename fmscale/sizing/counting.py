"""Counting rules that all shapes share."""

from dataclasses import fields, is_dataclass

FLOPS_FORMULA: dict[str, str] = {
    "flops": "matrix products, attention over all T x T pairs if any, head included, 3 x "
    "forward (Chowdhery et al. 2022, App. B)",
    "flops_causal": "as flops, with half of the attention term where the mask is causal "
    "(Kaplan et al. 2020, Table 1)",
    "flops_6nd": "6 * n_params_total * D, embeddings included (Brown et al. 2020, App. D)",
    "flops_6nd_non_embedding": "6 * n_params_non_embedding * D (Kaplan et al. 2020, Eq. 2.2)",
    "flops_6nd_matmul": "6 * n_params_matmul * D: linear weights with the output head, no look-ups",
}
"""What each compute column counts; stored beside the numbers."""

# Groups that are matrices applied to activations.
MATMUL_GROUPS = ("patch", "conv", "attention", "mlp", "projection")


def check_positive(shape: object) -> None:
    """Refuse anything but positive integers, with the name of the field."""
    for field in fields(shape):  # type: ignore[arg-type]
        value = getattr(shape, field.name)
        if is_dataclass(value) or isinstance(field.default, str):
            continue
        if field.default is None and value is None:
            continue
        parts = value if isinstance(value, tuple) else (value,)
        if any(isinstance(v, bool) or not isinstance(v, int) or v <= 0 for v in parts):
            raise ValueError(
                f"{type(shape).__name__}.{field.name} must be a positive integer, got {value!r}; "
                "set it in the model or data config"
            )


def check_heads(shape: object, n_head: int, d_model: int) -> None:
    if d_model % n_head:
        near = [n for n in range(1, d_model + 1) if d_model % n == 0]
        remedy = min(near, key=lambda n: abs(n - n_head))
        raise ValueError(
            f"{type(shape).__name__}: n_head={n_head} does not divide d_model={d_model}; "
            f"the nearest number of heads that does is {remedy}"
        )


def block_groups(n_layer: int, d_model: int, d_ff: int) -> dict[str, int]:
    """Parameters of `n_layer` pre-LN blocks by role (two norms, fused qkv, output, two MLPs)."""
    return {
        "attention": n_layer * 4 * d_model * d_model,
        "mlp": n_layer * 2 * d_model * d_ff,
        "bias": n_layer * (3 * d_model + d_model + d_ff + d_model),
        "norm": n_layer * 2 * 2 * d_model,
    }


def block_forward_flops(n_layer: int, d_model: int, d_ff: int, n_keys: float) -> int:
    """Forward FLOPs of `n_layer` blocks for one position that attends to `n_keys` positions.

    Scores and the weighted sum each take d_model multiply-adds per key, over all heads together.
    """
    weights = 4 * d_model * d_model + 2 * d_model * d_ff
    return n_layer * (2 * weights + round(4 * d_model * n_keys))


def check_batch(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}")
