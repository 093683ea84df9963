"""Features as the base's inputs: a text's token ids and token type ids, or those of each choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .columns import Columns

Text = tuple[tuple[int, ...], tuple[int, ...]]
"""The base's input for a text: token ids, and token type ids where the tokenizer gives some."""


def features_of(columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield each feature as a dict."""
    for i in range(len(columns)):
        yield {name: values[i] for name, values in columns.values.items()}


def texts_of(feature: Mapping[str, Any]) -> tuple[Text, ...]:
    """Return the base's input for a feature: one text, or one for each choice."""
    ids, types = feature["input_ids"], feature.get("token_type_ids")
    if has_choices(feature):
        kinds = types or [()] * len(ids)
        return tuple((tuple(i), tuple(t)) for i, t in zip(ids, kinds, strict=True))
    return ((tuple(ids), tuple(types or ())),)


def has_choices(feature: Mapping[str, Any]) -> bool:
    """Return whether a feature is a text for each of several choices."""
    return bool(feature["input_ids"]) and isinstance(feature["input_ids"][0], list)
