"""A language model that classifies: three more tokens, and a linear layer on one feature.

After Radford et al. 2018, Sec. 3.2 and Fig. 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.data.tasks.labelled_texts import N_SPECIAL, Form, Labelled
from fmscale.models.gpt import GPT

INIT_STD = 0.02  # of new embeddings and of the classifier, as in GPT-1


class Batch:
    """Examples as one tensor: every sequence a row, padded on the right.

    Attributes:
        tokens: (rows, T) int64; the sequences of an example are rows beside each other.
        ends: place of the extract token of each row, (rows,).
        labels: (B,).
        n_sequences: rows of one example, the same for all.
    """

    def __init__(self, examples: Sequence[Labelled], device: torch.device) -> None:
        self.n_sequences = len(examples[0].sequences)
        if any(len(example.sequences) != self.n_sequences for example in examples):
            raise ValueError("examples of one batch need the same number of choices")
        rows = [sequence for example in examples for sequence in example.sequences]
        padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        for k, row in enumerate(rows):
            padded[k, : len(row)] = row
        self.tokens = torch.from_numpy(padded).to(device)
        self.ends = torch.tensor([len(row) - 1 for row in rows], device=device)
        self.labels = torch.tensor([example.label for example in examples], device=device)


class LabelledClassifier(nn.Module):
    """A GPT with three more tokens and a linear layer on the feature at the extract token.

    Args:
        model: copied; the rows of the new tokens are drawn from torch's global generator.
        n_outputs: classes; 1 for multiple choice, where each choice gets a score.
        dropout: probability, on the features that the layer reads.
    """

    def __init__(self, model: GPT, form: Form, n_outputs: int, dropout: float) -> None:
        super().__init__()
        self.body = with_special_tokens(model)
        self.form = form
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(model.shape.d_model, n_outputs)
        nn.init.normal_(self.linear.weight, std=INIT_STD)
        nn.init.zeros_(self.linear.bias)

    def features(self, batch: Batch, back: int = 0) -> tuple[Tensor, Tensor]:
        """Feature of each row (rows, d_model), and the hidden states it is one of.

        Args:
            back: how many tokens before the extract token the feature is taken.
        """
        hidden = self.body.hidden(batch.tokens)  # (rows, T, d_model)
        rows = torch.arange(len(hidden), device=hidden.device)
        return hidden[rows, batch.ends - back], hidden

    def scores(self, features: Tensor, n_sequences: int) -> Tensor:
        """(B, n_classes) from the features of B examples of `n_sequences` rows each."""
        if self.form == "multiple_choice":
            return self.linear(self.dropout(features)).view(-1, n_sequences)  # a score a choice
        together = features.view(-1, n_sequences, features.shape[1]).sum(dim=1)
        return self.linear(self.dropout(together))

    def loss(self, batch: Batch, lm_coef: float) -> Tensor:
        """L3 = L2 + lambda L1 (Radford et al. 2018, Eq. 5), in nats.

        As in the authors' code, L1 is the mean over the tokens of each sequence, then over
        sequences, wrong choices included.
        """
        features, hidden = self.features(batch)
        loss = F.cross_entropy(self.scores(features, batch.n_sequences), batch.labels)
        if lm_coef:
            logits, following = self.body.read_out(hidden[:, :-1]), batch.tokens[:, 1:]
            nats = F.cross_entropy(logits.transpose(1, 2), following, reduction="none")
            real = torch.arange(1, batch.tokens.shape[1], device=nats.device) <= batch.ends[:, None]
            loss = loss + lm_coef * ((nats * real).sum(dim=1) / batch.ends).mean()
        return loss


def with_special_tokens(model: GPT) -> GPT:
    """A copy with three more tokens; the new rows are drawn, all else stays."""
    shape = replace(model.shape, vocab_size=model.shape.vocab_size + N_SPECIAL)
    wider = GPT(shape, model.dropout.p, model.parametrization)
    state = dict(model.state_dict())
    for name, fresh in wider.state_dict().items():
        old = state[name]
        if fresh.shape != old.shape:  # a table of the vocabulary
            new = INIT_STD * torch.randn(N_SPECIAL, old.shape[1])
            state[name] = torch.cat([old, new.to(old)])
    wider.load_state_dict(state)
    return wider
