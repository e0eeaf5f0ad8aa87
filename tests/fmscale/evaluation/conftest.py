"""A tiny byte model with something to say, and the data whose tokenizer it reads by."""

from __future__ import annotations

import pytest
import torch

from fmscale.data.tasks.task_documents import TaskDocuments
from fmscale.models.gpt import GPT
from fmscale.sizing import GPTShape


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTShape(n_layer=1, n_head=2, d_model=16, vocab_size=256, seq_len=32))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture
def data() -> TaskDocuments:
    return TaskDocuments(seq_len=32, tasks=["reversed_words"], n_val_tokens=64)
