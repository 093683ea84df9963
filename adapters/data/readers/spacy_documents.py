"""Read documents in the JSON of spaCy 2: paragraphs of sentences of tokens, each with its part of speech and entity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from .source import BadRow, Row


def is_document(row: Row) -> bool:
    """Return whether an object is a document of spaCy 2; SQuAD has questions in its paragraphs."""
    paragraphs = row.get("paragraphs")
    return isinstance(paragraphs, list) and any(isinstance(p, Mapping) and "sentences" in p for p in paragraphs)


def sentences_of(row: Row, left_out: Counter[tuple[str, str]], every: bool) -> Iterator[Row | BadRow]:
    """Yield a row for each sentence: words, and their entities (BILUO) or else their parts of speech as tags."""
    paragraphs = [p.get("sentences") or [] for p in row["paragraphs"] if isinstance(p, Mapping)]
    if not all(isinstance(sentences, list) for sentences in paragraphs):
        yield BadRow("a list of sentences was expected in each paragraph")
        return
    for sentence in chain(*paragraphs):
        tokens = sentence.get("tokens") if isinstance(sentence, Mapping) else None
        if not isinstance(tokens, list) or not tokens or not all(map(_is_token, tokens)):
            yield BadRow("a sentence of tokens with 'orth' was expected")
            continue
        columns: Row = {"tokens": [token["orth"] for token in tokens]}
        for key, column in (("ner", "ner_tags"), ("tag", "pos_tags")):
            if any(isinstance(token.get(key), str) for token in tokens):
                columns[column] = [str(token.get(key) or "-") for token in tokens]
        yield columns


def _is_token(token: Any) -> bool:
    return isinstance(token, Mapping) and isinstance(token.get("orth"), str)
