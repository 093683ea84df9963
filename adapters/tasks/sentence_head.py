"""The head of sentence similarity: tokens pooled to a vector, a linear map of it, and length 1."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import normalize

from ..base.pooling import pooled


class SentenceHead(nn.Module):
    """Pool hidden states to a vector and add a linear map of it, which starts at zero.

    Without a trained map, vectors are those of sentence-transformers for the same base.
    """

    neutral: ClassVar[frozenset[str]] = frozenset({"map.weight"})
    """An adapter without the map has the base's own vectors."""

    def __init__(self, width: int, pooling: str, *, normalizes: bool) -> None:
        super().__init__()
        self.pooling, self.normalizes = pooling, normalizes
        self.scale = width**-0.5  # a step of AdamW changes each weight alike, and a vector by their sum
        self.map = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.map.weight)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the vectors, (texts, features), of (texts, tokens, features) and their mask, (texts, tokens)."""
        vectors = pooled(hidden, mask, self.pooling)
        vectors = vectors + self.map(vectors) * self.scale
        return normalize(vectors, dim=-1) if self.normalizes else vectors
