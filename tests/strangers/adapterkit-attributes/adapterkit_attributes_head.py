"""The head of the task `attributes`."""

import torch
from torch import nn


class AttributesHead(nn.Module):
    """Pool by attention, then a linear map for each attribute; a parameter of its own beside its modules."""

    def __init__(self, width, sizes):
        super().__init__()
        self.query = nn.Parameter(torch.randn(width) / width**0.5)
        self.inner = nn.Linear(width, width)
        self.each = nn.ModuleList(nn.Linear(width, size) for size in sizes)

    def forward(self, hidden, mask):
        scores = (hidden @ self.query).masked_fill(~mask.bool(), -1e4)  # (texts, tokens)
        pooled = (scores.softmax(-1).unsqueeze(-1) * hidden).sum(1)
        inner = torch.tanh(self.inner(pooled))
        return torch.cat([linear(inner) for linear in self.each], -1)
