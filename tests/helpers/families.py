"""Which tasks each family of models can do: the pairs that transformers has no head for are listed, not skipped."""

from __future__ import annotations

from typing import Any

import pytest

from adapterkit.testing import tiny
from tests.helpers.rows import ROWS

NOT_CAUSAL = ("text-generation", "text2text-generation")
DECODER = ("text2text-generation", "fill-mask", "multiple-choice")
WITHOUT = {
    "bert": NOT_CAUSAL,
    "roberta": NOT_CAUSAL,
    "distilbert": NOT_CAUSAL,
    "modernbert": NOT_CAUSAL,
    "deberta-v2": NOT_CAUSAL,
    "electra": NOT_CAUSAL,
    "gpt2": DECODER,
    "llama": DECODER,
    "qwen2": DECODER,
    "t5": ("text-generation", "fill-mask", "multiple-choice", "sentence-similarity"),
    "bart": ("token-classification", "text-generation", "fill-mask", "multiple-choice", "sentence-similarity"),
}
"""By family: the tasks without a head in transformers, or that the architecture can't do. Any other pair works."""
ON = {"sentence-similarity": ("bert", "gpt2", "modernbert"), "text-ranking": ("bert", "gpt2", "modernbert")}
"""Tasks that are tried on some families: the head of one reads hidden states alone, the other's is a classifier's."""


def tried(family: str, task: str) -> bool:
    return task not in WITHOUT[family] and family in ON.get(task, tiny.CONFIGS)


PAIRS = [(family, task) for family in tiny.CONFIGS for task in ROWS if tried(family, task)]
IMPOSSIBLE = [(family, task) for family, tasks in WITHOUT.items() for task in tasks]


def slow(*values: Any) -> list[Any]:
    """Return parameters that `make test` leaves out; a tuple is one of several names."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow) for value in values
    ]


SOME = ("bert", "llama", "t5")
"""A family of each kind: an encoder, a decoder and both."""
EVERY = [*SOME, *slow(*(family for family in tiny.CONFIGS if family not in SOME))]
"""All families, of which `make test` has one of each kind."""
NOT_PACKED = {
    "deberta-v2": "its attention is its own, with relative positions, and not transformers' AttentionInterface",
    "t5": "an encoder-decoder, whose heads include the base",
    "bart": "an encoder-decoder, whose heads include the base",
}
"""The families whose passes are always padded, and why."""
