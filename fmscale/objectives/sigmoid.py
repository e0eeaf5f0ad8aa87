"""Pairwise sigmoid loss of image-text pairs (Zhai et al. 2023, "SigLIP"), in nats per pair."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.objectives.contrastive import of_all_ranks


class PairwiseSigmoid:
    """Every image with every caption is a question of its own: do they belong together?

    -1/B sum_ij log sigmoid(y_ij (scale * cos_ij + bias)), y_ij = 1 on the diagonal and -1 off it
    (Zhai et al. 2023, Eq. 1). Unlike the softmax, no pair competes with another.
    """

    unit = "nats/pair"
    families = ("clip",)

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss of one batch; in distributed training, of all ranks' pairs together.

        Args:
            model: a `CLIP` whose shape has n_scalars = 2: it brings the bias.
            batch: "image" (B, 3, H, W), "text" (B, T); row i is one pair.

        Raises:
            ValueError: if the model has no bias.
        """
        bias = getattr(model, "logit_bias", None)
        if bias is None:
            raise ValueError(
                "objective=sigmoid needs a model with a bias: set model.shape.n_scalars=2 (the "
                "preset objective=sigmoid does)"
            )
        z_image, z_text, scale = model(batch["image"], batch["text"])
        loss = sigmoid_loss(of_all_ranks(z_image), of_all_ranks(z_text), scale, bias)
        return {"loss": loss, "scale": scale.detach(), "bias": bias.detach()}


def sigmoid_loss(z_image: Tensor, z_text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Sum over all captions, mean over images, of -log sigmoid(+-logit).

    Args:
        z_image, z_text: (B, d_embed) unit vectors; row i of both is one pair.
        scale, bias: the logit of a cosine is scale * cosine + bias.
    """
    with torch.autocast(z_image.device.type, enabled=False):
        logits = scale * z_image.float() @ z_text.float().T + bias  # (B, B)
        sign = 2 * torch.eye(len(logits), device=logits.device) - 1
        return -F.logsigmoid(sign * logits).sum(dim=1).mean()
