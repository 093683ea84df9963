"""Read rows from plain text: a text per line."""

from __future__ import annotations

from .source import BadRow, NumberedRows, Source


def read_txt(source: Source) -> NumberedRows:
    """Read each line that isn't blank as a text."""
    for number, line in enumerate(source.lines(), start=1):
        if line.strip():
            error = source.undecoded(line)
            yield number, BadRow(error) if error else {"text": line.rstrip("\r\n")}
