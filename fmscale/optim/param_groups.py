"""AdamW, and which tensors its weight decay touches.

Matrices decay; gains, biases, embeddings and the log-temperature do not. Sparing gains and biases
follows Radford et al. 2021, Sec. 2.5. Sparing embeddings, also the one tied to GPT's output head,
follows Groeneveld et al. 2025 (OLMo 2, Sec. 3.3): a row of a table is renewed only when its token
occurs, so decay would shrink rare tokens towards nothing between two updates.
"""

from typing import Any, Protocol

from torch import Tensor
from torch.optim import AdamW

# Last part of a group's name in `param_groups` of the models: "image_mlp" decays as "mlp" does.
DECAYED = ("attention", "mlp", "projection", "patch", "conv")
NOT_DECAYED = ("bias", "norm", "embedding", "temperature")


class Grouped(Protocol):
    """A model that sorts its parameters by role."""

    def param_groups(self) -> dict[str, list[Tensor]]: ...


def param_groups(model: Grouped, weight_decay: float, lr: float) -> list[dict[str, Any]]:
    """Optimizer groups "decay" and "no_decay"; together they hold each parameter once.

    A model with `lr_factors` (maximal update parametrization) gets one more group for each factor.
    Where a factor lowers the rate, it raises the decay: what a step decays by, rate times
    `weight_decay`, must not depend on the width (Wortsman et al. 2023; Kosson et al. 2025).

    Raises:
        ValueError: the model has a group for which no rule is written here.
    """
    factors: dict[str, float] = model.lr_factors() if hasattr(model, "lr_factors") else {}
    chosen: dict[tuple[bool, float], list[Tensor]] = {(True, 1.0): [], (False, 1.0): []}
    for name, parameters in model.param_groups().items():
        role = name.rsplit("_", 1)[-1]
        if role not in (*DECAYED, *NOT_DECAYED):
            raise ValueError(
                f"parameter group {name!r} is neither decayed nor spared; end its name with one of "
                f"{', '.join(DECAYED)} (decayed), {', '.join(NOT_DECAYED)} (spared), or give an "
                "optimizer of your own"
            )
        key = role in DECAYED, factors.get(name, 1.0)
        chosen.setdefault(key, [])
        chosen[key] += parameters
    return [
        {
            "params": parameters,
            "lr": lr * factor,
            "weight_decay": weight_decay / factor if decays else 0.0,
            "name": ("decay" if decays else "no_decay") + ("" if factor == 1 else f" x{factor:g}"),
        }
        for (decays, factor), parameters in chosen.items()
        if parameters
    ]


def adamw(
    model: Grouped,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019) over `param_groups`; defaults of Brown et al. 2020, App. B.

    The fused kernel does all arithmetic of a tensor in one pass and is deterministic.

    Args:
        lr: peak learning rate, before the schedule's multiplier.
        weight_decay: decoupled; the decay per step is lr * weight_decay.
    """
    beta1, beta2 = betas  # a config hands a list
    groups = param_groups(model, weight_decay, lr)
    return AdamW(groups, lr=lr, betas=(beta1, beta2), eps=eps, fused=True)
