"""A text tower that knows words and not their order (Radford et al. 2021, Sec. 2.3)."""

from torch import Tensor, nn

from fmscale.sizing import BagShape


class BagOfWords(nn.Module):
    """Captions to the mean of their words' vectors, before the projection into the joint space."""

    def __init__(self, shape: BagShape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embedding = nn.Embedding(shape.vocab_size, shape.d_model)

    def forward(self, text: Tensor) -> Tensor:
        """(B, T) int64 with padding id 0 -> (B, d_model)."""
        words = (text != 0).unsqueeze(2)  # (B, T, 1)
        vectors = self.token_embedding(text) * words
        return vectors.sum(dim=1) / words.sum(dim=1).clamp(min=1)

    def roles(self) -> dict[str, list[Tensor]]:
        """Parameters by role, as the initialization table names them."""
        return {"token_embedding": [self.token_embedding.weight]}

    def param_groups(self) -> dict[str, list[Tensor]]:
        """Parameters by the groups of `BagShape.param_groups`."""
        return self.roles()
