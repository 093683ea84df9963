"""Relevance judgements (qrels) of queries and documents: the files of TREC and of BEIR."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError

Judgements = dict[str, dict[str, int]]
"""By the id of a query, the relevance of each judged document by its id."""
_EXPECTED = "expected query, iteration, document, relevance (TREC), or query-id, corpus-id, score (BEIR)"


def read_judgements(path: str) -> Judgements:
    """Return the judgements of a file, separated by tabs or spaces; a first line of names is a header.

    Raises `DataError`, with file and line, for a line of another form, and where a pair has two relevances.
    """
    judgements: Judgements = {}
    for number, fields in _lines(path):
        if len(fields) not in (3, 4):
            raise DataError(f"{path}:{number}: {_EXPECTED}; got {len(fields)} fields")
        query, document = fields[0], fields[-2]
        try:
            relevance = int(fields[-1])
        except ValueError:
            if number == 1 and not _is_number(fields[-1]):
                continue  # a header
            raise DataError(f"{path}:{number}: relevance must be an integer, got '{fields[-1][:40]}'") from None
        if judgements.setdefault(query, {}).setdefault(document, relevance) != relevance:
            raise DataError(f"{path}:{number}: document '{document}' has another relevance for query '{query}' before")
    if not judgements:
        raise DataError(f"{path}: no judgements; {_EXPECTED}")
    return judgements


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _lines(path: str) -> Iterator[tuple[int, list[str]]]:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: judgements in UTF-8 were expected: {error.reason}") from error
    except OSError as error:
        raise DataError(f"'{path}' can't be read: {error.strerror}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
