"""Greedy generation with a key-value cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..errors import DataError
from .manifest import GenerationRecord
from .session import Session


def greedy(
    session: Session,
    record: GenerationRecord,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    feeds: Mapping[str, np.ndarray],
    ended: Callable[[int], bool] = lambda row: False,
) -> list[list[int]]:
    """Return the tokens that follow each prompt, at most its limit, the token that ends the text included.

    `feeds` are the low-rank updates and `adapter_of_row`; a row ends early once `ended` returns true.
    Raises `DataError` for a prompt without tokens.
    """
    if not all(prompts):
        raise DataError("a prompt without tokens can't be continued")
    count, longest = len(prompts), max(map(len, prompts))
    ids, mask = np.zeros((count, longest), np.int64), np.zeros((count, longest), np.int64)
    for i, prompt in enumerate(prompts):
        ids[i, : len(prompt)], mask[i, : len(prompt)] = prompt, 1
    names = [f"{layer}.{kind}" for layer in range(record.layers) for kind in ("key", "value")]
    cache = {f"past.{name}": np.zeros((count, record.heads, 0, record.size), np.float32) for name in names}
    last = mask.sum(1) - 1
    generated: list[list[int]] = [[] for _ in prompts]
    open_rows = [i for i in range(count) if limits[i] > 0]
    while open_rows:
        positions = np.maximum(mask.cumsum(1) - 1, 0)[:, -ids.shape[1] :]
        tokens = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "last": last}
        outputs = session.run({**feeds, **tokens, **cache})
        chosen = outputs["logits"].argmax(-1)
        for i in open_rows:
            generated[i].append(int(chosen[i]))
        open_rows = [i for i in open_rows if chosen[i] not in record.eos_token_ids and len(generated[i]) < limits[i]]
        open_rows = [i for i in open_rows if not ended(i)]
        cache = {f"past.{name}": outputs[f"present.{name}"] for name in names}
        ids, last = chosen.astype(np.int64)[:, None], np.zeros(count, np.int64)
        mask = np.concatenate([mask, np.ones((count, 1), np.int64)], 1)
    return generated
