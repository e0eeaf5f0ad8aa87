"""What the blocks of a GPT are made of, apart from their sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace

CHOICES = {
    "norm": ("layer", "rms"),
    "residual": ("pre", "post", "parallel"),
    "position": ("learned", "rotary"),
    "mlp": ("gelu", "gelu_exact", "quick_gelu", "swiglu"),
}


@dataclass(frozen=True)
class Recipe:
    """Architecture of a GPT; the defaults are GPT-2's (Radford et al. 2019, Sec. 2.3)."""

    name: str = "gpt"  # front part of model names: gpt_4x128
    norm: str = "layer"  # layer: gain and shift; rms: gain alone (Zhang & Sennrich 2019)
    # pre: norms on the way into each branch; post: after each addition, as in GPT-1, and none at
    # the end; parallel: attention and MLP read the same input (Black et al. 2022, GPT-NeoX).
    residual: str = "pre"
    position: str = "learned"  # learned table, or rotary (Su et al. 2021)
    rotary_share: float = 1.0  # of each head's width that is rotated
    rotary_base: float = 10_000.0
    # gelu (tanh form), gelu_exact, quick_gelu (x * sigmoid(1.702 x), of the released CLIP), or
    # swiglu (Shazeer 2020)
    mlp: str = "gelu"
    bias: bool = True  # of the blocks' matrices
    qk_norm: bool = False  # RMS norm of queries and keys, head by head (Dehghani et al. 2023)
    tied: bool = True  # the output head is the token table
    # Positions, itself included, that a token sees in every second block (the first is dense);
    # None: all blocks are dense (Brown et al. 2020, Sec. 2.1; Child et al. 2019).
    window: int | None = None

    def __post_init__(self) -> None:
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise ValueError(
                    f"recipe.{key}={getattr(self, key)!r} is not known; use {' or '.join(choices)}"
                )
        if not 0 < self.rotary_share <= 1:
            raise ValueError(f"recipe.rotary_share={self.rotary_share} must lie in (0, 1]")
        if self.window is not None and (not isinstance(self.window, int) or self.window < 1):
            raise ValueError(f"recipe.window={self.window!r} must be a positive integer, or null")

    @property
    def is_gpt2(self) -> bool:
        """Whether GPT-2's own code computes the same function."""
        return replace(self, name="gpt") == GPT2

    @property
    def norm_size(self) -> int:
        """Trained vectors in a norm: gain and shift, or gain alone."""
        return 2 if self.norm == "layer" else 1

    @property
    def mlp_matrices(self) -> int:
        """Matrices of the MLP; SwiGLU has a gate beside the two."""
        return 3 if self.mlp == "swiglu" else 2

    def window_of(self, layer: int) -> int | None:
        """Positions seen by block number `layer`, counted from 0; None: all."""
        return self.window if layer % 2 else None

    def rotary_width(self, d_head: int) -> int:
        """Rotated components of a head, an even number; 0 without rotary positions."""
        return 0 if self.position != "rotary" else max(2, int(self.rotary_share * d_head) // 2 * 2)


GPT2 = Recipe()
