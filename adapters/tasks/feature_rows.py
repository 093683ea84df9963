"""Features row by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .columns import Columns


def features_of(columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield each feature as a dict."""
    for i in range(len(columns)):
        yield {name: values[i] for name, values in columns.values.items()}
