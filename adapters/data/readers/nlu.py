"""Read training data of language understanding: intents and entities of Rasa, Snips, LUIS and Dialogflow."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .source import BadRow, NumberedRows, Row, Source
from .span_rows import with_words

_LABELS = ("slot_name", "entity", "alias", "meta")
"""The keys that name the entity of a piece of text: of Snips, then of Dialogflow."""
_PIECE = {"text", *_LABELS, "userDefined", "slot_value", "resolved_value", "range"}
_ENTITY = re.compile(r"\[([^\]]+)\](?:\(([^):]+)(?::[^)]*)?\)|(\{[^}]*\}))")
"""Rasa's [text](entity), [text](entity:value) and [text]{"entity": "..."}."""

_DEEPEST = 100
"""Levels of nesting of a YAML file; Rasa's have five."""


def utterances(parsed: Row) -> list[Any] | None:
    """Return the utterances of a file of Rasa, LUIS or Snips as objects; None for any other object."""
    if isinstance(parsed.get("rasa_nlu_data"), Mapping):
        examples = parsed["rasa_nlu_data"].get("common_examples")
        return examples if isinstance(examples, list) else None
    if isinstance(parsed.get("utterances"), list) and {"luis_schema_version", "intents"} & {*parsed}:
        return [_of_luis(entry) for entry in parsed["utterances"]]
    intents = parsed.get("intents", parsed)
    if not isinstance(intents, Mapping) or not intents:
        return None
    by_intent = {
        name: value.get("utterances") if isinstance(value, Mapping) else value for name, value in intents.items()
    }
    if not all(isinstance(entries, list) and all(map(_has_pieces, entries)) for entries in by_intent.values()):
        return None
    return [{"intent": name, **entry} for name, entries in by_intent.items() for entry in entries or []]


def _has_pieces(entry: Any) -> bool:
    return isinstance(entry, Mapping) and is_utterance(dict(entry))


def _of_luis(entry: Any) -> Any:
    """Return an utterance of LUIS, whose entities end at their last character."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("entities"), list):
        return entry
    spans = [
        [e["startPos"], e["endPos"] + 1, e["entity"]]
        if isinstance(e, Mapping) and isinstance(e.get("endPos"), int) and {"startPos", "entity"} <= {*e}
        else e
        for e in entry["entities"]
    ]
    return {**entry, "entities": spans}


def is_utterance(row: Row) -> bool:
    """Return whether an object has its text in pieces, of which some are entities, as in Snips and Dialogflow."""
    pieces = row.get("data")
    return (
        isinstance(pieces, list)
        and bool(pieces)
        and all(isinstance(p, Mapping) and isinstance(p.get("text"), str) and {*p} <= _PIECE for p in pieces)
    )


def utterance(row: Row, left_out: Counter[tuple[str, str]], every: bool) -> Iterator[Row | BadRow]:
    """Yield the row of an utterance in pieces, with its entities as spans."""
    text, spans = "", []
    for piece in row["data"]:
        label = next((piece[key] for key in _LABELS if isinstance(piece.get(key), str) and piece[key]), None)
        if label is not None:
            spans.append([len(text), len(text) + len(piece["text"]), label])
        text += piece["text"]
    yield {"text": text, **{key: value for key, value in row.items() if key != "data"}, "entities": spans}


def read_rasa(source: Source) -> NumberedRows:
    """Read the intents and entities of Rasa's YAML, an example a row."""
    return with_words(source, _examples(source))


def _parsed(text: str) -> Any:
    """Return the content of YAML, parsed by libyaml where PyYAML has it, ten times as quick.

    libyaml's composer recurses without a limit, so the depth is checked first, by its events. Raises `YAMLError`, and
    `ValueError` or `RecursionError` for content that is no plain data.
    """
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} levels of nesting")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _examples(source: Source) -> NumberedRows:
    import yaml

    text = "".join(source.lines())
    if error := source.undecoded(text):
        source.fail(1, error)
    try:
        parsed = _parsed(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "it can't be parsed"
        source.fail(mark.line + 1 if mark else 1, f"not YAML: {problem}")
    except (ValueError, RecursionError, TypeError) as error:  # such as a date of month 13, or an unhashable key
        source.fail(1, f"YAML that can't be read: {str(error) or type(error).__name__}")
    blocks = parsed.get("nlu") if isinstance(parsed, Mapping) else None
    if not isinstance(blocks, list):
        source.fail(1, "Rasa's training data was expected: a list of intents and examples under 'nlu'")
    source.unit = "row"
    others = 0
    number = 0
    for block in blocks:
        examples = block.get("examples") if isinstance(block, Mapping) else None
        if not isinstance(examples, str) or not isinstance(block.get("intent"), str):
            others += 1
            continue
        for line in examples.splitlines():
            if line.strip():
                number += 1
                yield number, _example(line, block["intent"])
    source.count(
        others,
        "part without an intent (synonyms, lookup tables, regular expressions) not read",
        "parts without an intent (synonyms, lookup tables, regular expressions) not read",
    )


def _example(line: str, intent: str) -> Row | BadRow:
    """Return the row of an example: its text without the marks of entities, and these as spans."""
    line = line.strip().removeprefix("-").strip()
    text, spans, reached = "", [], 0
    for match in _ENTITY.finditer(line):
        label = match[2] or _entity_of(match[3])
        if not label:
            return BadRow(f"an entity was expected in {match[3]!r}")
        text += line[reached : match.start()]
        spans.append([len(text), len(text) + len(match[1]), label])
        text, reached = text + match[1], match.end()
    return {"text": text + line[reached:], "intent": intent, "entities": spans}


def _entity_of(text: str) -> str | None:
    try:
        entity = json.loads(text).get("entity")
    except ValueError:
        return None
    return entity if isinstance(entity, str) else None
