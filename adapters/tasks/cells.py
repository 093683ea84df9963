"""Read objects and lists that a table's cell holds as JSON, or as Python or numpy write them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

_ARRAY = re.compile(r"array\((\[[^\[\]]*\])(?:, dtype=[\w.'<>]+)?\)")


def from_cell(text: str, fits: Callable[[Any], bool]) -> Any:
    """Return the object or list that a text holds, where it `fits`; else the text itself.

    >>> from_cell("{'text': array(['a'], dtype=object)}", lambda value: "text" in value)
    {'text': ['a']}
    """
    if text.lstrip()[:1] not in ("{", "["):
        return text
    for parse in (json.loads, lambda cell: ast.literal_eval(_ARRAY.sub(r"\1", cell.strip()))):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if fits(value):
            return value
    return text
