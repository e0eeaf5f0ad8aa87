"""Initial values by parameter role: one table for GPT, one for CLIP.

Biases and norm shifts start at 0 and norm gains at 1 in both (the last gain of a residual block of
convolutions at 0); convolutions follow He et al. 2015; every other role is normal with mean
0 and the standard deviation of the table. Draws come from torch's global generator, so seed it.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Roles = Mapping[str, Sequence[Tensor]]


def gpt_stds(n_layer: int, residual: str = "pre") -> dict[str, float]:
    """Standard deviations of GPT-2 (Radford et al. 2019, Sec. 2.3, and its released code).

    The two matrices that write to the residual stream shrink with the number of writes, two a
    layer, so that the stream's variance does not grow with depth. Post-LN, which normalises the
    stream itself, leaves them at 0.02, and GPT-1 draws its positions like its tokens (the released
    code of Radford et al. 2018).
    """
    shrink = 1.0 if residual == "post" else 1 / math.sqrt(2 * n_layer)
    return {
        "token_embedding": 0.02,
        "position_embedding": 0.02 if residual == "post" else 0.01,
        "output_embedding": 0.02,
        "qkv": 0.02,
        "attention_out": 0.02 * shrink,
        "mlp_in": 0.02,
        "mlp_out": 0.02 * shrink,
    }


def clip_stds(n_layer: int, d_model: int) -> dict[str, float]:
    """Standard deviations of one CLIP tower (the released code of Radford et al. 2021).

    That code initialises the text tower so and leaves the vision blocks at torch's defaults; here
    both towers follow the text rule.
    """
    width = d_model**-0.5
    residual = (2 * n_layer) ** -0.5
    return {
        "token_embedding": 0.02,
        "position_embedding": 0.01,
        "class_embedding": width,
        "patch": 0.02,
        "qkv": width,
        "attention_out": width * residual,
        "mlp_in": (2 * d_model) ** -0.5,
        "mlp_out": width * residual,
        "projection": width,
    }


@torch.no_grad()
def initialize(roles: Roles, stds: Mapping[str, float]) -> None:
    """Fill the parameters of every role in place, in the order of `roles`."""
    for role, parameters in roles.items():
        if role == "norm":
            continue  # norms start at gain 1 and shift 0
        for parameter in parameters:
            if role in ("bias", "norm_zero"):
                parameter.zero_()
            elif role == "conv":  # He et al. 2015: sqrt(2 / inputs of one output)
                parameter.normal_(0.0, math.sqrt(2 / parameter[0].numel()))
            else:
                parameter.normal_(0.0, stds[role])
