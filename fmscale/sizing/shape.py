"""What a shape answers, whoever wrote it: the sizes of a model, and how its family counts."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Protocol

from fmscale.sizing.counting import FLOPS_FORMULA, MATMUL_GROUPS

COUNTED = ("tokens", "samples")  # units with budgets and columns of their own
MEMBERS = (
    "family", "unit", "label", "n_params_total", "n_params_non_embedding", "n_params_matmul",
    "param_groups", "forward_macs", "train_flops_per_unit",
)  # fmt: skip
SHARED = ("contrasts", "metrics", "units_per_item", "vocabulary")  # given to every shape


class Shape(Protocol):
    """Sizes of a model in plain integers; needs no torch.

    Your own class inherits what has a body here, or overrides it. `label` and the
    groups' names are free; a group that is a table ends with "embedding".
    """

    family: ClassVar[str]  # name of the kind of model, which an objective may ask for
    unit: ClassVar[str]  # what D counts, in the plural: tokens, samples, or a word of your own
    contrasts: ClassVar[bool] = False  # items of a batch meet in the loss: it is never divided
    metrics: ClassVar[tuple[str, ...]] = ("val_loss",)  # columns to look at, the loss first

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the size, e.g. "gpt_4x128"."""

    @abstractmethod
    def param_groups(self) -> dict[str, int]:
        """Parameters by role; the sum is `n_params_total`."""

    @abstractmethod
    def train_flops_per_unit(self, batch_size: int) -> dict[str, int]:
        """Training FLOPs per token, sample, ... under every convention of `FLOPS_FORMULA`."""

    @property
    def n_params_total(self) -> int:
        """Every trained number once."""
        return sum(self.param_groups().values())

    @property
    def n_params_non_embedding(self) -> int:
        """Total without tables, an output table of its own included (Kaplan et al. 2020)."""
        return sum(n for name, n in self.param_groups().items() if not name.endswith("embedding"))

    @property
    def n_params_matmul(self) -> int:
        """Weights that multiply activations."""
        return sum(n for name, n in self.param_groups().items() if self._is_matmul(name))

    def _is_matmul(self, group: str) -> bool:
        return group.endswith(MATMUL_GROUPS)

    @property
    def units_per_item(self) -> int:
        """Units of D in one item of a batch."""
        return 1

    @property
    def vocabulary(self) -> int | None:
        """Tokens that the model knows; None where it reads none."""
        return None

    def forward_macs(self) -> dict[str, int]:
        """Multiply-adds of the parts that see different inputs (image, text), forward only."""
        return {}


class TokenShape(Shape, Protocol):
    """A model of sequences of tokens, each predicted from those before it."""

    vocab_size: int
    seq_len: int
    unit: ClassVar[str] = "tokens"

    @property
    def units_per_item(self) -> int:
        """Tokens of one sequence."""
        return self.seq_len

    @property
    def vocabulary(self) -> int:
        """Tokens that the model knows."""
        return self.vocab_size


def counted_as(unit: str) -> str:
    """The word for a unit in budgets, columns and logged rows: your own is "units"."""
    return unit if unit in COUNTED else "units"


def check_shape(shape: Any) -> None:
    """Refuse a shape that plans, records or laws could not use, naming all that it lacks.

    A class that does not inherit from `Shape` is given the answers that most families share.

    Raises:
        ValueError: for members, groups or conventions that are missing or contradict each other.
    """
    name = type(shape).__name__
    lacks = [member for member in MEMBERS if not hasattr(shape, member)]
    unit = shape.unit if hasattr(shape, "unit") else ""
    protocol = TokenShape if unit == "tokens" else Shape
    lacks += [member for member in protocol.__annotations__ if not hasattr(shape, member)]
    lacks = [member for member in dict.fromkeys(lacks) if member not in SHARED]
    if lacks:
        raise ValueError(
            f"{name} lacks {', '.join(lacks)}; see fmscale.sizing.Shape for what each means"
        )
    for member in SHARED:
        if not hasattr(shape, member):
            setattr(type(shape), member, getattr(protocol, member))
    if not (isinstance(unit, str) and unit.isidentifier()):
        raise ValueError(f"{name}.unit={unit!r} must be one of tokens, samples or a word like them")
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
