"""Mean-pooled embeddings of texts by a base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..base.base import Base

if TYPE_CHECKING:
    import numpy as np

_BATCH, _TOKENS = 64, 256


def embeddings(base: Base, texts: Sequence[str]) -> np.ndarray:
    """Return the mean of the base's last hidden states over each text's tokens, (texts, features)."""
    import numpy as np
    import torch

    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = np.zeros((len(texts), int(base.model.config.hidden_size)), dtype="float32")
    longest = min(_TOKENS, base.max_length or _TOKENS)
    model = base.model.get_encoder() if base.model.config.is_encoder_decoder else base.model
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            batch = base.tokenizer(
                [texts[i] or " " for i in chosen],
                padding=True,
                truncation=True,
                max_length=longest,
                return_tensors="pt",
            ).to(base.model.device)
            hidden = model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"].unsqueeze(-1)
            vectors[chosen] = ((hidden * mask).sum(1) / mask.sum(1).clamp(min=1)).cpu().numpy()
    return vectors
