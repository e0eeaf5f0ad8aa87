"""Next-token prediction: the loss of GPT in nats per token."""

import torch.nn.functional as F
from torch import Tensor, nn


class NextToken:
    """Mean cross-entropy of each token given those before it."""

    unit = "nats/token"
    families = ("gpt",)

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            model: maps (B, T) token ids to (B, T, vocab_size) logits.
            batch: "tokens" (B, T + 1) int64; the first T are read, the last T predicted.
        """
        tokens = batch["tokens"]
        logits = model(tokens[:, :-1])  # (B, T, vocab_size)
        # float32 whatever the precision of the model: the loss is what the laws are fitted to.
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        return {"loss": loss}
