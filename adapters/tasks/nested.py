"""Rows that are several texts: features with a list of token ids for each, and batches of (rows, texts, tokens)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .language_modeling import pad_id, padded

if TYPE_CHECKING:
    from torch import Tensor

TENSORS = ("input_ids", "attention_mask", "token_type_ids")
"""The tensors of a batch that the base reads."""


def nested_batch(features: Sequence[Mapping[str, Any]], tokenizer: Any) -> dict[str, Tensor]:
    """Return features of equally many texts as tensors, (rows, texts, tokens), padded on the right, with any labels."""
    import torch

    count = len(features[0]["input_ids"])
    keys = [key for key in TENSORS if key in features[0]]
    flat = [{key: feature[key][i] for key in keys} for feature in features for i in range(count)]
    fill = {"input_ids": pad_id(tokenizer), "attention_mask": 0, "token_type_ids": 0}
    batch = {key: t.view(len(features), count, -1) for key, t in padded(flat, fill).items()}
    if "labels" in features[0]:
        batch["labels"] = torch.tensor([feature["labels"] for feature in features])
    return batch


def flat_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what the base reads of a batch, (rows, texts, tokens), text by text."""
    return {key: batch[key].flatten(0, -2) for key in TENSORS if key in batch}
