"""Count how often a block runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the rows that each call of a BERT block sees."""
    from transformers.models.bert.modeling_bert import BertLayer

    seen: list[int] = []
    forward = BertLayer.forward

    def counting(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(len(hidden_states))
        return forward(self, hidden_states, *args, **kwargs)

    monkeypatch.setattr(BertLayer, "forward", counting)
    return seen
