"""Read rows from JSON: an object per line, a list of objects, or SQuAD."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import DataError
from ..answer_places import locate
from ..blank import is_blank
from .annotations import annotated
from .layouts import layout_of
from .nlu import utterances
from .source import SURROGATE, BadRow, NumberedRows, Row, Source
from .spacy_pairs import are_pairs, from_pairs, with_categories

START = "answer_start"
_SQUAD = {"paragraphs", "qas"}
"""The keys of SQuAD's articles and paragraphs."""
SPLIT_NAMES = {"train", "training", "validation", "valid", "val", "dev", "test"}


def read_jsonl(source: Source) -> NumberedRows:
    """Read an object per line."""
    return annotated(source, _json_lines(source, source.lines()))


def _json_lines(source: Source, lines: Iterable[str]) -> NumberedRows:
    objects = _Objects(source)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if error := source.undecoded(line):
            yield number, BadRow(error)
            continue
        try:
            yield number, objects.row(objects.keys.parsed(line))
        except json.JSONDecodeError as failure:
            yield number, BadRow(f"not JSON: {failure.msg} at character {failure.pos + 1}")
        except (ValueError, RecursionError) as failure:
            yield number, BadRow(f"JSON that can't be read: {failure}")
    objects.finish()


class _Objects:
    """Rows from JSON values: objects, bare texts as the column `text`, and objects that were written as text."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.keys = _Keys()
        self.texts = self.written_twice = 0

    def row(self, value: Any) -> Row | BadRow:
        """Return a value as a row."""
        if isinstance(value, dict):
            return value
        if isinstance(value, str):
            if (inner := _object_in(value)) is not None:
                self.written_twice += 1
                return inner
            self.texts += 1
            return {"text": value}
        hint = "; a file of one list is named .json" if isinstance(value, list) else ""
        return BadRow(f"a JSON object was expected, not a {type(value).__name__}{hint}")

    def finish(self) -> None:
        """Append the notes about the rows to those of the source."""
        self.source.count(self.texts, "bare text read as column 'text'", "bare texts read as column 'text'")
        self.source.count(
            self.written_twice,
            "row is JSON in a JSON text: read as its object",
            "rows are JSON in a JSON text: read as their objects",
        )
        self.keys.finish(self.source)


class _Keys:
    """The keys that objects of a file repeat; of their values JSON's parsers return the last one alone."""

    def __init__(self) -> None:
        self.objects = 0
        self.names: dict[str, None] = {}

    def parsed(self, text: str) -> Any:
        """Return what a text holds as JSON, and count its objects with a key twice."""
        return json.loads(text, object_pairs_hook=self._object)

    def _object(self, pairs: list[tuple[str, Any]]) -> Row:
        row = dict(pairs)
        if len(row) < len(pairs):
            keys = [key for key, _ in pairs]
            self.objects += 1
            self.names |= dict.fromkeys(key for key in row if keys.count(key) > 1)
        return row

    def finish(self, source: Source) -> None:
        """Append the note about the keys to those of the source."""
        names = ", ".join(f"'{name}'" for name in [*self.names][:6])
        source.count(
            self.objects,
            f"object has a key twice ({names}): the last value is read",
            f"objects have a key twice ({names}): the last value is read",
        )


def _object_in(text: str) -> Row | None:
    """Return the object that a text is in JSON, or None for any other text."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_json(source: Source) -> NumberedRows:
    """Read a list of objects, {"data": [...]}, SQuAD or spaCy's pairs. The file is parsed at once, in memory."""
    text, keys = "".join(source.lines()), _Keys()
    try:
        parsed = keys.parsed(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):  # JSON lines in a file named .json
            yield from annotated(source, _json_lines(source, io.StringIO(text, newline="")))
            return
        source.fail(error.lineno, f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        source.fail(1, f"JSON that can't be read: {error}")
    if bad := SURROGATE.search(text):
        source.fail(text.count("\n", 0, bad.start()) + 1, str(source.undecoded(text)))
    keys.finish(source)
    source.unit = "row"
    entries = _entries(source, parsed) if isinstance(parsed, dict) else parsed
    if not isinstance(entries, list):
        got = f"an object of {', '.join(list(parsed)[:6]) or 'nothing'}" if isinstance(parsed, dict) else repr(parsed)
        splits = isinstance(parsed, dict) and len(parsed) > 1 and SPLIT_NAMES.issuperset(parsed)
        hint = "; save each split as a file" if splits else ""
        raise DataError(f'{source.name}: a list of objects or {{"data": [...]}} was expected, not {got[:80]}{hint}')
    squad = any(isinstance(entry, dict) and _SQUAD & {*entry} and not layout_of(entry) for entry in entries)
    if squad:
        yield from enumerate(_squad(entries), start=1)
    else:
        objects = _Objects(source)
        values = with_categories(source, from_pairs(entries))
        yield from annotated(source, enumerate(map(objects.row, values), start=1))
        objects.finish()


def _entries(source: Source, parsed: Row) -> Any:
    """Return the list of rows that an object holds; columns, as pandas writes them, become rows."""
    if _SQUAD & {*parsed} or ("data" not in parsed and layout_of(parsed)):  # a single article, paragraph or tree
        return [parsed]
    if (examples := utterances(parsed)) is not None:
        return examples
    if {"annotatable", "anncomplete"} <= {*parsed}:
        raise DataError(f"{source.name}: tagtog's ann.json has no text; write its text and entities as JSON")
    if are_pairs(parsed.get("annotations")):  # of an annotator for spaCy
        return [entry for entry in parsed["annotations"] if entry is not None]
    if "data" in parsed:
        names, data = parsed.get("columns"), parsed["data"]
        if not isinstance(names, list) or not isinstance(data, list) or not all(isinstance(row, list) for row in data):
            return data
        return [dict(zip(map(str, names), row, strict=False)) for row in data]  # of pandas
    if (columns := _columns(parsed)) is not None:
        source.notes.append(f"an object of columns, {', '.join(list(columns)[:6])}: read as rows")
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    rows = list(parsed.values())
    if len(rows) > 1 and all(isinstance(row, dict) and set(row) == set(rows[0]) for row in rows):
        source.notes.append(f"an object of {len(rows):,} rows by key: the keys are not read")
        return rows
    lists = [key for key in parsed if isinstance(parsed[key], list) and any(isinstance(v, dict) for v in parsed[key])]
    lists = ["rows"] if "rows" in lists else lists
    if len(lists) != 1:
        return None
    others = [key for key in parsed if key != lists[0]][:6]
    source.notes.append(f"rows read from '{lists[0]}'" + (f"; not read: {', '.join(others)}" if others else ""))
    if all(isinstance(entry, dict) and isinstance(entry.get("row"), dict) for entry in parsed[lists[0]]):
        return [entry["row"] for entry in parsed[lists[0]]]  # of the Hub's data viewer
    return parsed[lists[0]]


def _columns(parsed: Row) -> dict[str, list[Any]] | None:
    """Return the columns of an object of lists, or of objects by row as pandas writes them; None for any other."""
    values = list(parsed.values())
    if values and all(isinstance(value, dict) and value and list(value) == list(values[0]) for value in values):
        numbered = all(key.isdecimal() for key in values[0])
        return {key: list(value.values()) for key, value in parsed.items()} if numbered else None
    of_lists = len(values) > 1 and all(isinstance(value, list) and len(value) == len(values[0]) for value in values)
    return parsed if of_lists and not any(isinstance(cell, dict) for value in values for cell in value) else None


def _squad(articles: list[Any]) -> Iterator[Row | BadRow]:
    """Yield a row for each question of SQuAD v1.1 or v2.0, and a `BadRow` for an article or paragraph without any."""
    for article in articles:
        if isinstance(article, dict) and "paragraphs" not in article and "qas" in article:  # paragraphs alone
            yield from _paragraph(article, "paragraph", {})
        elif problem := _mismatch(article, "article", paragraphs=list):
            yield BadRow(problem)
        else:
            title = str(article.get("title", ""))
            for paragraph in article["paragraphs"]:
                yield from _paragraph(paragraph, f"paragraph of '{title}'", {"title": title})


def _paragraph(paragraph: Any, name: str, columns: Row) -> Iterator[Row | BadRow]:
    if problem := _mismatch(paragraph, name, context=str, qas=list):
        yield BadRow(problem)
        return
    for question in paragraph["qas"]:
        yield _question({**columns, "context": paragraph["context"]}, question)


def _question(columns: Row, entry: Any) -> Row | BadRow:
    """Return the row of a question; it has no answers where none are written, as in a hidden test set."""
    stated = next((entry[key] for key in ("id", "question") if entry.get(key)), "") if isinstance(entry, dict) else ""
    name = f"question '{str(stated)[:40]}'" if stated else "question"
    if problem := _mismatch(entry, name, question=str):
        return BadRow(problem)
    columns = {**({"id": str(entry["id"])} if entry.get("id") is not None else {}), **columns}
    answer = entry.get("answer")  # KorQuAD 2.0 has a single one
    impossible, answers = bool(entry.get("is_impossible")), entry.get("answers", [answer] if answer else None)
    if answers is None and not impossible:
        return {**columns, "question": entry["question"]}
    if problem := _mismatch({"answers": answers or []}, name, answers=list):
        return BadRow(problem)
    texts: list[str] = []
    starts: list[int | None] = []
    for answer in answers or []:
        if problem := _mismatch(answer, f"answer of {name}", text=str):
            return BadRow(problem)
        if is_blank(answer["text"]):  # how some tools write that there is no answer
            continue
        text, start = answer["text"], _integer(answer.get("answer_start"))
        if start is not None and (problem := _mismatch({START: start}, f"answer of {name}", answer_start=int)):
            return BadRow(problem)
        start = None if start == -1 else start  # as cdQA's annotator writes where it found no place
        if locate(text, start, columns["context"]) is None:
            return BadRow(f"{name}: {_misplaced(text, start, columns['context'])}")
        texts.append(text)
        starts.append(start)
    if impossible and texts:
        return BadRow(f"{name} is_impossible, and has answers; none were expected")
    return {**columns, "question": entry["question"], "answers": {"text": texts, "answer_start": starts}}


def _integer(value: Any) -> Any:
    """Return a whole number that is written as a text or with a point as a number, and any other value as it is."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _misplaced(text: str, start: int | None, context: str) -> str:
    if start is None:
        return f"answer '{text}' isn't in the context"
    got = context[max(start, 0) : max(start, 0) + max(len(text), 1)]
    return f"answer '{text}' was expected at character {start} of the context, not '{got}'"


def _mismatch(value: Any, what: str, **kinds: type) -> str | None:
    """Return which key a value lacks or has with another type, or None where it is as expected."""
    if not isinstance(value, dict):
        return f"{what}: an object was expected, not a {type(value).__name__}"
    for key, kind in kinds.items():
        if not isinstance(value.get(key), kind) or isinstance(value[key], bool):
            words = {str: "a text", int: "a whole number", list: "a list"}[kind]
            got = f"{type(value[key]).__name__} {value[key]!r}"[:60] if key in value else "nothing"
            return f"{what}: {words} was expected as '{key}', not {got}"
    return None
