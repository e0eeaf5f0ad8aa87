"""GPT: the decoder of Radford et al. 2019 (GPT-2) as a next-token model.

Pre-LN blocks, learned positions, output head tied to the token embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.models.initialization import gpt_stds, initialize
from fmscale.models.layers import Block, KeyValueCache, block_roles, sizing_groups
from fmscale.sizing import GPTShape


class GPT(nn.Module):
    """Predicts each token from those before it.

    Args:
        shape: sizes; see `fmscale.sizing.GPTShape`.
        dropout: probability, on embeddings, attention weights and both residual branches.
    """

    def __init__(self, shape: GPTShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        d_model = shape.d_model
        self.token_embedding = nn.Embedding(shape.vocab_size, d_model)
        self.position_embedding = nn.Embedding(shape.seq_len, d_model)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(shape.n_head, d_model, shape.d_hidden, causal=True, dropout=dropout)
            for _ in range(shape.n_layer)
        )
        self.norm = nn.LayerNorm(d_model)
        self.init_weights()

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Scores of the next token at every position.

        Args:
            tokens: (B, T) int64, T at most shape.seq_len.
            cache: of the tokens before these, which it takes in; for generation only.

        Returns:
            (B, T, vocab_size) logits; position t has seen tokens 0..t.
        """
        first = 0 if cache is None else cache.length
        T, longest = first + tokens.shape[1], self.shape.seq_len
        if longest < T:
            raise ValueError(
                f"{T} tokens exceed seq_len={longest}; shorten the input or train with "
                "a longer context"
            )
        x = self.token_embedding(tokens) + self.position_embedding.weight[first:T]
        x = self.dropout(x)  # (B, T, d_model)
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer)
        return F.linear(self.norm(x), self.token_embedding.weight)  # (B, T, vocab_size)

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
        """Parameters by the groups of `GPTShape.param_groups`."""
        return sizing_groups(self.roles())

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw all weights anew from torch's global generator."""
        initialize(self.roles(), gpt_stds(self.shape.n_layer))
