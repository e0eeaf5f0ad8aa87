"""CLIP's text tower: causal blocks read at the end of the text (Radford et al. 2021, Sec. 2.4)."""

from torch import Tensor, nn

from fmscale.models.layers import Block, block_roles, read_at, sizing_groups
from fmscale.sizing import TextShape


class TextEncoder(nn.Module):
    """Captions to one feature vector each, before the projection into the joint space."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.shape = shape
        d_model = shape.d_model
        self.token_embedding = nn.Embedding(shape.vocab_size, d_model)
        self.position_embedding = nn.Embedding(shape.seq_len, d_model)
        self.blocks = nn.ModuleList(
            Block(shape.n_head, d_model, shape.d_hidden, causal=True, recipe=shape.recipe)
            for _ in range(shape.n_layer)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, text: Tensor) -> Tensor:
        """Feature (B, d_model) of the end of texts (B, T) int64, T at most shape.seq_len.

        The end-of-text token has the highest id of the vocabulary, so argmax finds it. Padding
        (id 0) comes after it and, the mask being causal, cannot reach it.
        """
        T = text.shape[1]
        if self.shape.seq_len < T:
            raise ValueError(f"{T} tokens exceed seq_len={self.shape.seq_len}; truncate captions")
        x = self.token_embedding(text) + self.position_embedding.weight[:T]  # (B, T, d_model)
        end = text.argmax(dim=1)  # (B,)
        return self.norm(read_at(self.blocks, x, end))  # (B, d_model)

    def states(self, x: Tensor) -> Tensor:
        """The blocks' output (B, T, d_model) for embedded tokens, before the last norm."""
        x = x + self.position_embedding.weight[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return x

    def roles(self) -> dict[str, list[Tensor]]:
        """Parameters by role, each once, as the initialization table names them."""
        roles = block_roles(self.blocks)
        roles["norm"] += [self.norm.weight, self.norm.bias]
        return {
            "token_embedding": [self.token_embedding.weight],
            "position_embedding": [self.position_embedding.weight],
            **roles,
        }

    def param_groups(self) -> dict[str, list[Tensor]]:
        """Parameters by the groups of the shape's `param_groups`."""
        return sizing_groups(self.roles())
