"""torch's vmap still shows the levels and axes that the folded attention asks it for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.func import vmap

from fmscale.training.vmapped.attention_internals import FoldedAttention

N_MEMBERS, SHAPE = 3, (2, 4, 5, 8)  # rows, heads, positions, width of a head


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("axis", [0, 2])  # of the members, among those of a batch
def test_members_in_one_batch_attend_as_each_by_itself(axis, masked):
    torch.manual_seed(0)
    q, k, v = (torch.randn(N_MEMBERS, *SHAPE) for _ in range(3))
    mask = torch.ones(5, 5).tril().bool() if masked else None  # shared by all

    def attend(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=not masked)

    folded = []

    class Noting(FoldedAttention):
        def _attention(self, *tensors, **options):
            folded.append(len(tensors))
            return super()._attention(*tensors, **options)

    with Noting(N_MEMBERS):
        together = vmap(attend, in_dims=axis)(*(x.movedim(0, axis) for x in (q, k, v)))
    apart = torch.stack([attend(*member) for member in zip(q, k, v, strict=True)])
    torch.testing.assert_close(together, apart)
    assert len(folded) == 1
