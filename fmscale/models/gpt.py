"""GPT: a decoder of blocks as a next-token model.

Its recipe is by default that of Radford et al. 2019 (GPT-2): pre-LN blocks, learned positions,
output head tied to the token embedding. Others are GPT-1, GPT-3's banded attention, GPT-NeoX and
a modern one; see `fmscale.sizing.Recipe` and conf/model.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.models.initialization import gpt_stds, initialize
from fmscale.models.layers import Block, KeyValueCache, block_roles, norm_of, sizing_groups
from fmscale.models.parametrization import MuP
from fmscale.models.positions import Rotary
from fmscale.sizing import GPTShape


class GPT(nn.Module):
    """Predicts each token from those before it.

    Args:
        shape: sizes and recipe; see `fmscale.sizing.GPTShape`.
        dropout: probability, on embeddings, attention weights and both residual branches.
        parametrization: how initial values and rates follow the width; None: the standard one.
    """

    def __init__(
        self, shape: GPTShape, dropout: float = 0.0, parametrization: MuP | None = None
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout={dropout} must be at least 0 and below 1")
        self.shape = shape
        self.parametrization = parametrization
        d_model, recipe, mup = shape.d_model, shape.recipe, parametrization
        self.read_out_scale = 1.0 if mup is None else 1 / mup.ratio(d_model)
        self.token_embedding = nn.Embedding(shape.vocab_size, d_model)
        learned = recipe.position == "learned"
        self.position_embedding = nn.Embedding(shape.seq_len, d_model) if learned else None
        width = recipe.rotary_width(shape.d_head)
        self.rotary = Rotary(width, recipe.rotary_base, shape.seq_len) if width else None
        self.dropout = nn.Dropout(dropout)
        scale = None if mup is None else mup.attention_scale(shape.d_head)
        self.blocks = nn.ModuleList(
            Block(
                shape.n_head, d_model, shape.d_hidden, causal=True, dropout=dropout, recipe=recipe,
                scale=scale, window=recipe.window_of(layer),
            )
            for layer in range(shape.n_layer)
        )  # fmt: skip
        self.norm = None if recipe.residual == "post" else norm_of(recipe, d_model)
        self.head = None if recipe.tied else nn.Linear(d_model, shape.vocab_size, bias=False)
        self.init_weights()

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Logits (B, T, vocab_size) of the next token; position t has seen tokens 0..t.

        Args:
            tokens: (B, T) int64, T at most shape.seq_len.
            cache: of the tokens before these, which it takes in; for generation only.
        """
        return self.read_out(self.hidden(tokens, cache))

    def hidden(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """What the output head reads, (B, T, d_model); arguments as for `forward`."""
        first = 0 if cache is None else cache.length
        T, longest = first + tokens.shape[1], self.shape.seq_len
        if longest < T:
            raise ValueError(
                f"{T} tokens exceed seq_len={longest}; shorten the input or train with "
                "a longer context"
            )
        x = self.token_embedding(tokens)
        if self.position_embedding is not None:
            x = x + self.position_embedding.weight[first:T]
        x = self.dropout(x)  # (B, T, d_model)
        rotation = None if self.rotary is None else self.rotary(first, T)
        for layer, block in enumerate(self.blocks):
            x = block(x, cache, layer, rotation)
        if self.norm is not None:
            x = self.norm(x)
        return x

    def read_out(self, x: Tensor) -> Tensor:
        """Logits (..., vocab_size) of hidden states (..., d_model)."""
        if self.read_out_scale != 1.0:
            x = x * self.read_out_scale
        return F.linear(x, self.output_weight)

    @property
    def output_weight(self) -> Tensor:
        """(vocab_size, d_model): the token table where it is tied."""
        return self.token_embedding.weight if self.head is None else self.head.weight

    def roles(self) -> dict[str, list[Tensor]]:
        """Parameters by role, each once, as the initialization table names them."""
        tables = {"token_embedding": [self.token_embedding.weight]}
        if self.position_embedding is not None:
            tables["position_embedding"] = [self.position_embedding.weight]
        if self.head is not None:
            tables["output_embedding"] = [self.head.weight]
        roles = block_roles(self.blocks)
        if self.norm is not None:
            roles["norm"] += list(self.norm.parameters())
        return {**tables, **{name: found for name, found in roles.items() if found}}

    def param_groups(self) -> dict[str, list[Tensor]]:
        """Parameters by the groups of `GPTShape.param_groups`."""
        return sizing_groups(self.roles())

    def lr_factors(self) -> dict[str, float]:
        """Factor on the learning rate by parameter group; 1 where absent."""
        mup = self.parametrization
        return {} if mup is None else mup.lr_factors(self.shape.d_model)

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw all weights again from torch's global generator."""
        stds = gpt_stds(self.shape.n_layer, self.shape.recipe.residual)
        if self.parametrization is not None:
            stds = self.parametrization.stds(stds, self.shape.d_model)
        initialize(self.roles(), stds)
