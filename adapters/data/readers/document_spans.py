"""Read documents with spans by offsets into them: BioC JSON, PubTator, UIMA CAS JSON of INCEpTION."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .source import BadRow, NumberedRows, Row, Source
from .span_rows import with_words
from .spans import character_at

Counts = Counter[tuple[str, str]]
_RELATIONS = ("relation not read", "relations not read")
_STRUCTURES, _TYPE = "%FEATURE_STRUCTURES", "%TYPE"
_VALUES = ("value", "label", "tag", "identifier", "PosValue")
_NO_LAYERS = ("Token", "Sentence", "Lemma", "POS", "DocumentMetaData", "DocumentAnnotation", "Sofa")
_TITLE = re.compile(r"(\w+)\|t\|(.*)")
_ABSTRACT = re.compile(r"(\w+)\|a\|(.*)")


def _entity(start: Any, end: Any, label: Any, text: Any = None) -> Row:
    return {"start": start, "end": end, "label": label, **({"text": text} if isinstance(text, str) else {})}


# ---- BioC


def is_bioc(row: Row) -> bool:
    """Return whether an object is a document of BioC: passages with a text and an offset."""
    passages = row.get("passages")
    return isinstance(passages, list) and bool(passages) and all(map(_is_passage, passages))


def _is_passage(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("offset"), int)
        and ("text" in value or "annotations" in value)
    )


def bioc_passages(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield a row for each passage with a text; offsets count from the start of the document."""
    relations = row.get("relations")
    left_out[_RELATIONS] += len(relations) if isinstance(relations, list) else 0
    for passage in row["passages"]:
        if not isinstance(passage.get("text"), str) or not passage["text"].strip():
            continue
        annotations = passage.get("annotations")
        annotations = annotations if isinstance(annotations, list) else []
        entities = [entity for one in annotations for entity in _of_annotation(one, passage["offset"])]
        yield {"id": str(row.get("id", "")), "text": passage["text"], "entities": entities}


def _of_annotation(annotation: Any, offset: int) -> Iterator[Row]:
    """Yield an entity for each place of an annotation."""
    annotation = annotation if isinstance(annotation, Mapping) else {}
    infons, places = annotation.get("infons"), annotation.get("locations")
    label = infons.get("type") if isinstance(infons, Mapping) else None
    places = [place for place in places if isinstance(place, Mapping)] if isinstance(places, list) else []
    for place in places:
        start, length = place.get("offset"), place.get("length")
        if isinstance(start, int) and isinstance(length, int):
            text = annotation.get("text") if len(places) == 1 else None
            yield _entity(start - offset, start - offset + length, label or "span", text)


# ---- UIMA CAS


def is_cas(row: Row) -> bool:
    """Return whether an object is a UIMA CAS in JSON, as INCEpTION exports it."""
    return isinstance(row.get(_STRUCTURES), list) and any(_sofas(row))


def _sofas(row: Row) -> Iterator[str]:
    for structure in row[_STRUCTURES]:
        if isinstance(structure, Mapping) and isinstance(structure.get("sofaString"), str):
            yield structure["sofaString"]


def cas_sentences(row: Row, left_out: Counts, every: bool) -> Iterator[Row | BadRow]:
    """Yield a row for each sentence, or else for each line: of the named entities, or of the first other layer.

    Offsets are in units of UTF-16.
    """
    text = next(_sofas(row))
    spans = [s for s in row[_STRUCTURES] if isinstance(s, Mapping) and _is_place(s.get("begin"), s.get("end"))]
    layers = {name: None for s in spans if (name := str(s.get(_TYPE))) and not name.endswith(_NO_LAYERS)}
    layer = next((name for name in layers if "NamedEntity" in name), next(iter(layers), None))
    for name in layers:
        if name != layer:
            left_out[(f"span of the layer {name} not read", f"spans of the layer {name} not read")] += sum(
                s.get(_TYPE) == name for s in spans
            )
    placed = [(character_at(text, s["begin"]), character_at(text, s["end"]), s) for s in spans]
    places = [(start, end, _value(s)) for start, end, s in placed if s.get(_TYPE) == layer]
    sentences = [(start, end) for start, end, s in placed if str(s.get(_TYPE)).endswith("Sentence")]
    for start, end in sorted(sentences) or [match.span() for match in re.finditer(r"[^\r\n]+", text)]:
        if text[start:end].strip():
            inside = [_entity(a - start, b - start, label) for a, b, label in places if start <= a < end]
            yield {"text": text[start:end], "entities": inside}


def _is_place(start: Any, end: Any) -> bool:
    return isinstance(start, int) and isinstance(end, int) and 0 <= start < end


def _value(structure: Mapping[str, Any]) -> str:
    """Return the value of a span, or else the last part of its type's name."""
    value = next((structure[key] for key in _VALUES if structure.get(key)), None)
    return str(value) if value is not None else str(structure.get(_TYPE)).rpartition(".")[2]


# ---- PubTator


def looks_like_pubtator(lines: Sequence[str]) -> bool:
    """Return whether a text file begins with the title and the abstract of PubTator."""
    filled = [line for line in lines[:100] if line.strip()][:2]
    return len(filled) == 2 and bool(_TITLE.match(filled[0]) and _ABSTRACT.match(filled[1]))


def read_pubtator(source: Source) -> NumberedRows:
    """Read documents of a title, an abstract and a line for each span, whose offsets count over both."""
    return with_words(source, _documents(source))


def _documents(source: Source) -> NumberedRows:
    current: Row = {}
    first = relations = 0
    for number, line in enumerate(source.lines(), start=1):
        text = line.rstrip("\r\n")
        cells = text.split("\t")
        if error := source.undecoded(text):
            yield number, BadRow(error)
        elif title := _TITLE.fullmatch(text):
            if current:
                yield first, current
            current, first = {"id": title[1], "text": title[2], "entities": []}, number
        elif current and (abstract := _ABSTRACT.fullmatch(text)):
            current["text"] += f" {abstract[2]}"
        elif current and len(cells) >= 5 and cells[1].isdecimal() and cells[2].isdecimal():
            current["entities"].append(_entity(int(cells[1]), int(cells[2]), cells[4], cells[3]))
        elif current and len(cells) == 4 and cells[0] == current["id"]:
            relations += 1
        elif text.strip():
            yield number, BadRow("a title (1|t|...), an abstract (1|a|...) or a span between tabs was expected")
    if current:
        yield first, current
    source.notes.append("read as PubTator: title and abstract are a text")
    source.count(relations, *_RELATIONS)
