"""Read rows from JSON: an object a line, a list of objects, or SQuAD."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import DataError
from .source import SURROGATE, UNDECODED, Bad, Found, Row, Source, undecoded


def read_jsonl(source: Source) -> Found:
    """Read an object a line."""
    return _json_lines(source.lines())


def _json_lines(lines: Iterable[str]) -> Found:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if undecoded(line):
            yield number, Bad(UNDECODED)
            continue
        try:
            yield number, _object(json.loads(line))
        except json.JSONDecodeError as error:
            yield number, Bad(f"not JSON: {error.msg} at character {error.pos + 1}")
        except (ValueError, RecursionError) as error:
            yield number, Bad(f"JSON that can't be read: {error}")


def _object(value: Any) -> Row | Bad:
    return value if isinstance(value, dict) else Bad(f"a JSON object was expected, not a {type(value).__name__}")


def read_json(source: Source) -> Found:
    """Read a list of objects, {"data": [...]}, or SQuAD. The file is held in memory whole, as JSON has no rows."""
    text = "".join(source.lines())
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):  # lines of JSON under the name of JSON
            yield from _json_lines(io.StringIO(text, newline=""))
            return
        source.fail(error.lineno, f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        source.fail(1, f"JSON that can't be read: {error}")
    if bad := SURROGATE.search(text):
        source.fail(text.count("\n", 0, bad.start()) + 1, UNDECODED)
    source.unit = "row"
    entries = whole.get("data") if isinstance(whole, dict) else whole
    if not isinstance(entries, list):
        given = f"an object of {', '.join(list(whole)[:6]) or 'nothing'}" if isinstance(whole, dict) else repr(whole)
        raise DataError(f'{source.name}: a list of objects or {{"data": [...]}} was expected, not {given[:80]}')
    squad = any(isinstance(entry, dict) and "paragraphs" in entry for entry in entries)
    yield from enumerate(_squad(entries) if squad else map(_object, entries), start=1)


def _squad(articles: list[Any]) -> Iterator[Row | Bad]:
    """Yield a row for each question of SQuAD v1.1 or v2.0, and one `Bad` for an article or paragraph without any."""
    for article in articles:
        if fault := _lacks(article, "article", paragraphs=list):
            yield Bad(fault)
            continue
        for paragraph in article["paragraphs"]:
            if fault := _lacks(paragraph, f"paragraph of '{article.get('title', '')}'", context=str, qas=list):
                yield Bad(fault)
                continue
            for question in paragraph["qas"]:
                yield _question(str(article.get("title", "")), paragraph["context"], question)


def _question(title: str, context: str, asked: Any) -> Row | Bad:
    name = f"question '{asked.get('id')}'" if isinstance(asked, dict) else "question"
    if fault := _lacks(asked, name, id=str, question=str, answers=list):
        return Bad(fault)
    if asked.get("is_impossible") and asked["answers"]:
        return Bad(f"{name} is_impossible, and has answers; none were expected")
    for answer in asked["answers"]:
        if fault := _lacks(answer, f"answer of {name}", text=str, answer_start=int):
            return Bad(fault)
        text, start = answer["text"], answer["answer_start"]
        if not text or start < 0 or not context.startswith(text, start):
            there = context[max(start, 0) : max(start, 0) + max(len(text), 1)]
            return Bad(f"{name}: answer '{text}' was expected at character {start} of the context; there is '{there}'")
    answers = {key: [answer[key] for answer in asked["answers"]] for key in ("text", "answer_start")}
    row = {"id": asked["id"], "title": title, "context": context, "question": asked["question"]}
    return row | {"answers": answers}


def _lacks(thing: Any, what: str, **kinds: type) -> str | None:
    """Say which key `thing` lacks or has of another type; None where it is as expected."""
    if not isinstance(thing, dict):
        return f"{what}: an object was expected, not a {type(thing).__name__}"
    for key, kind in kinds.items():
        if not isinstance(thing.get(key), kind) or isinstance(thing[key], bool):
            words = {str: "a text", int: "a whole number", list: "a list"}[kind]
            given = f"{type(thing[key]).__name__} {thing[key]!r}"[:60] if key in thing else "nothing"
            return f"{what}: {words} was expected as '{key}', not {given}"
    return None
