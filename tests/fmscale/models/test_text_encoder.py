"""The text tower: read at the end token, deaf to what follows."""

import pytest
import torch

from fmscale.models.text_encoder import TextEncoder
from fmscale.sizing import TextShape

SHAPE = TextShape(vocab_size=32, seq_len=8, n_layer=2, n_head=2, d_model=16)
END = 31


def test_feature_is_read_at_the_end_token_and_ignores_what_follows():
    torch.manual_seed(0)
    tower = TextEncoder(SHAPE)
    text = torch.tensor([[5, 9, END, 0, 0, 0, 0, 0]])
    other = torch.tensor([[5, 9, END, 7, 3, 0, 2, 0]])
    torch.testing.assert_close(tower(text), tower(other))
    assert not torch.allclose(tower(text), tower(torch.tensor([[9, 5, END, 0, 0, 0, 0, 0]])))


def test_padding_to_a_shorter_length_changes_nothing():
    torch.manual_seed(0)
    tower = TextEncoder(SHAPE)
    text = torch.tensor([[5, 9, END, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(tower(text), tower(text[:, :4]))


def test_long_captions_are_refused():
    with pytest.raises(ValueError, match="9 tokens exceed seq_len=8"):
        TextEncoder(SHAPE)(torch.zeros(1, 9, dtype=torch.int64))
