"""The eight models of GPT-3 as printed and as they must have been, and what they cost to train."""

from dataclasses import dataclass, replace

from fmscale.sizing.architecture import GPT2, Recipe
from fmscale.sizing.gpt import GPTShape

VOCABULARY, CONTEXT = 50_257, 2048
TRAINING_TOKENS = 300e9
PF_DAY = 8.64e19  # FLOPs
V100_FLOPS = 28e12  # sustained, FLOP/s: the rate behind the often quoted 355 GPU-years


@dataclass(frozen=True)
class PrintedModel:
    """One row of Brown et al. 2020, Table 2.1."""

    name: str
    n_params: float  # as printed
    n_layer: int
    d_model: int
    n_head: int
    d_head: int
    batch_tokens: float
    lr: float

    def misprint(self) -> str | None:
        """Why the row cannot be right, or None: heads x head width must be the width."""
        if self.n_head * self.d_head == self.d_model:
            return None
        total = _shape(self.n_layer, self.n_head, self.d_model).n_params_total
        fixed = corrected(self)
        return (
            f"{self.name}: {self.n_head} heads of width {self.d_head} make "
            f"{self.n_head * self.d_head}, not {self.d_model}. With d_model={fixed.d_model} and "
            f"n_head={fixed.n_head} the count is {fixed.n_params_total / 1e6:,.0f}M (as printed "
            f"{total / 1e6:,.0f}M), against {self.n_params / 1e6:,.0f}M in the table"
        )


TABLE = (
    PrintedModel("Small", 125e6, 12, 768, 12, 64, 0.5e6, 6.0e-4),
    PrintedModel("Medium", 350e6, 24, 1024, 16, 64, 0.5e6, 3.0e-4),
    PrintedModel("Large", 760e6, 24, 1536, 16, 96, 0.5e6, 2.5e-4),
    PrintedModel("XL", 1_320e6, 24, 2048, 24, 128, 1e6, 2.0e-4),
    PrintedModel("2.7B", 2_650e6, 32, 2560, 32, 80, 1e6, 1.6e-4),
    PrintedModel("6.7B", 6_660e6, 32, 4096, 32, 128, 2e6, 1.2e-4),
    PrintedModel("13B", 12_850e6, 40, 5140, 40, 128, 2e6, 1.0e-4),
    PrintedModel("175B", 174_600e6, 96, 12288, 96, 128, 3.2e6, 0.6e-4),
)


def corrected(model: PrintedModel) -> GPTShape:
    """The shape whose count is the paper's own and whose heads fill its width."""
    if model.name == "XL":  # 24 heads would be 3072 wide
        return _shape(model.n_layer, model.d_model // model.d_head, model.d_model)
    if model.name == "13B":  # 5140 is not 40 x 128
        return _shape(model.n_layer, model.n_head, model.n_head * model.d_head)
    return _shape(model.n_layer, model.n_head, model.d_model)


def _shape(n_layer: int, n_head: int, d_model: int) -> GPTShape:
    if d_model % n_head:  # only the count is asked of such a row, and heads do not enter it
        n_head = 1
    return GPTShape(n_layer, n_head, d_model, vocab_size=VOCABULARY, seq_len=CONTEXT)


def gpt3_shape(
    row: str,
    table: str = "corrected",
    vocab_size: int = VOCABULARY,
    seq_len: int = CONTEXT,
    recipe: Recipe = GPT2,
) -> GPTShape:
    """One of the eight models by its name in Table 2.1: "Small", ..., "175B".

    `table` is "corrected" or "as_printed"; a row that cannot be built as printed is refused.
    """
    models = {model.name: model for model in TABLE}
    if row not in models:
        raise ValueError(f"row={row!r} is not in Table 2.1 of GPT-3; rows: {', '.join(models)}")
    if table not in ("corrected", "as_printed"):
        raise ValueError(f"table={table!r} is not known; use corrected or as_printed")
    misprint = models[row].misprint()
    if table == "as_printed" and misprint is not None:
        raise ValueError(f"a misprint of Table 2.1: {misprint}. Use table=corrected")
    shape = corrected(models[row])
    return replace(shape, vocab_size=vocab_size, seq_len=seq_len, recipe=recipe)


@dataclass(frozen=True)
class TrainingCost:
    """Compute of one training run by C = 6 N D, embeddings included (Brown et al. 2020, App. D)."""

    flops: float

    @property
    def pf_days(self) -> float:
        return self.flops / PF_DAY

    def gpu_hours(self, sustained_flops: float = V100_FLOPS) -> float:
        return self.flops / sustained_flops / 3600

    def dollars(self, per_gpu_hour: float, sustained_flops: float = V100_FLOPS) -> float:
        return self.gpu_hours(sustained_flops) * per_gpu_hour


def training_cost(shape: GPTShape, n_tokens: float = TRAINING_TOKENS) -> TrainingCost:
    """Cost of reading `n_tokens` once."""
    return TrainingCost(shape.train_flops_per_unit(1)["flops_6nd"] * n_tokens)
