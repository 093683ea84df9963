"""Functions that the tasks of language models share: packed blocks, padding, token losses, generation."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # labels that cross_entropy ignores


def packed(texts: Sequence[Sequence[int]], block_size: int) -> list[list[int]]:
    """Return the token ids of all texts, one after the other, in blocks; the last one may be shorter."""
    flat = [token for text in texts for token in text]
    blocks = [flat[i : i + block_size] for i in range(0, len(flat), block_size)]
    return [block for block in blocks if len(block) > 1]  # a single token has no next token to predict


def with_ends(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return each text's token ids, as the tokenizer begins one, and ended by its end-of-text token."""
    end = tokenizer.eos_token_id
    rows: list[list[int]] = tokenizer(list(texts), verbose=False)["input_ids"]
    return [row if end is None or (row and row[-1] == end) else [*row, end] for row in rows]


def token_losses(logits: Tensor, labels: Tensor) -> list[tuple[float, int]]:
    """Return for each row of (rows, tokens, words) logits the summed negative log-likelihood and the tokens counted."""
    import torch

    losses = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
    )
    counts = (labels != IGNORED).sum(-1)
    return list(zip(losses.sum(-1).tolist(), counts.tolist(), strict=True))


def padded(features: Sequence[Mapping[str, Any]], fill: Mapping[str, int], *, left: bool = False) -> dict[str, Tensor]:
    """Return lists of unequal length as tensors, (rows, longest), filled up at the right, or at the left."""
    import torch

    batch = {}
    for key, value in fill.items():
        if key not in features[0]:
            continue
        longest = max(len(f[key]) for f in features)
        rows = [[*f[key], *[value] * (longest - len(f[key]))] for f in features]
        if left:
            rows = [[*[value] * (longest - len(f[key])), *f[key]] for f in features]
        batch[key] = torch.tensor(rows)
    return batch


def generated(
    model: Any,
    batch: Mapping[str, Tensor],
    tokenizer: Any,
    *,
    streamer: Any = None,
    stopping_criteria: Any = None,
    **options: Any,
) -> list[str]:
    """Return what a model generates after each prompt; for an encoder-decoder, all that it generates.

    `streamer` and `stopping_criteria` are those of transformers' generate.
    """
    settings = copy.deepcopy(model.generation_config)
    settings.update(pad_token_id=pad_id(tokenizer), max_length=None, **options)
    if settings.eos_token_id is None:
        settings.eos_token_id = tokenizer.eos_token_id
    ids = model.generate(**batch, generation_config=settings, streamer=streamer, stopping_criteria=stopping_criteria)
    if not model.config.is_encoder_decoder:
        ids = ids[:, batch["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def pad_id(tokenizer: Any) -> int:
    """Return the id to pad with; any will do where the attention mask hides it."""
    return int(_first(tokenizer.pad_token_id, tokenizer.eos_token_id, 0))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
