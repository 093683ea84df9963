"""Answer many rows, a chunk at a time: with one adapter, with several, or each with the adapter that it names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from .data import LINE, read
from .errors import AdapterkitError, DataError, OptionError, PoolError, unknown
from .readers import READERS, Bad, Found, Row, Source
from .registry import Registry
from .tasks import Task
from .tasks.columns import LABELS, TEXTS
from .watch import Watch

if TYPE_CHECKING:
    from .adapter import Adapter
    from .base import Base

TEXT = "text"
"""The column of texts that came without one."""
ROUTE = "adapter"
"""The column that names the adapter of a row."""
STREAMED = ("txt", "jsonl", "csv", "tsv")
"""What a stream can hold."""
QUESTIONS, CHARACTERS = 2_048, 1 << 20
"""How many questions (a row put to one adapter is one), or characters of them, are answered at once."""

# ---- rows


@dataclass(frozen=True)
class Given:
    """Rows to answer, each with its line; those without a `total` are a stream, which can be read once."""

    name: str  # of the file; empty for texts that were typed
    rows: Iterable[tuple[int, Row]]
    total: int | None = None
    plain: bool = False  # the rows are texts, whose fields are separated by tabs

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        for number, (line, row) in enumerate(self.rows, start=1):
            if self.plain and line != number:  # readers pass over blank lines, and the answers would slip
                raise DataError(f"{self.at(number)}: the line is empty")
            yield line, row

    def at(self, line: int) -> str:
        """Say where a row stands."""
        return f"{self.name}:{line}" if self.name else f"text {line} of {self.total}"

    def error(self, text: str) -> DataError:
        """Return an error about all of the rows."""
        return DataError(f"{self.name}: {text}" if self.name else text)


def from_texts(texts: Sequence[str]) -> Given:
    """Return texts as rows."""
    return Given("", [(i, {TEXT: text}) for i, text in enumerate(texts, start=1)], len(texts), plain=True)


def from_file(path: str, watch: Watch | None = None) -> Given:
    """Return the rows of a file; a .txt has a text on each line. Raises `DataError` for a row that can't be read."""
    data = read(path, watch=watch)
    return Given(path, _Rows(data), len(data), plain=path.lower().endswith(".txt"))


def from_stream(name: str, file: BinaryIO, kind: str | None = None) -> Given:
    """Return the rows of a stream of a kind of `STREAMED`: by default JSON where it begins with {, else texts."""
    first = file.readline().removeprefix(b"\xef\xbb\xbf")
    kind = kind or ("jsonl" if first.lstrip().startswith(b"{") else "txt")
    source = _Stream(name, 0, file, first=first)
    return Given(name, _sound(source, READERS[f".{kind}"](source)), plain=kind == "txt")


class _Rows:
    """The rows of a data set, read in slices, as often as they are wanted."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        for start in range(0, len(self.data), 1_000):
            columns = self.data[start : start + 1_000]
            lines = columns.pop(LINE)
            for line, *values in zip(lines, *columns.values(), strict=True):
                yield line, dict(zip(columns, values, strict=True))


@dataclass
class _Stream(Source):
    """A source that can't be read twice, so that its encoding is found line by line."""

    first: bytes = b""

    def lines(self) -> Iterator[str]:
        for line in itertools.chain([self.first] if self.first else [], self.file):
            try:
                yield line.decode()
            except UnicodeDecodeError:
                yield line.decode("cp1252", "surrogateescape")


def _sound(source: Source, found: Found) -> Iterator[tuple[int, Row]]:
    for line, row in found:
        if isinstance(row, Bad):
            source.fail(line, row.reason)
        yield line, row


# ---- rows as questions


def inputs(task: Task) -> list[str]:
    """Return the columns that a task answers from."""
    if prompt := getattr(task, "prompt_column_name", None):
        return [prompt]
    learned = {f"{what}_column_name" for what in ("label", "answer", "completion", "target")}
    values = [getattr(task, f.name) for f in fields(task) if f.name.endswith("_column_name") and f.name not in learned]
    return [name for value in values if value for name in ([value] if isinstance(value, str) else value)]


@dataclass
class _Asked:
    """An adapter that rows are put to, and where it finds in them what its task reads."""

    name: str  # as it was asked for
    reference: str  # name@version: a newer one has no part in this
    adapter: Adapter  # its manifest alone
    task: Task
    columns: dict[str, str]  # the task's columns, and the rows' own
    texts: bool | None = None  # whether the rows hold texts, where lists would do as well

    def question(self, row: Row, where: str, *, plain: bool) -> Row:
        """Return a row as the task reads it. Raises `DataError` where it doesn't hold what the task needs."""
        columns = {TEXT: TEXT} if plain else self.columns
        found = {own: self._value(own, given, row.get(given), where) for own, given in columns.items()}
        if len(found) > 1:
            return found
        (value,) = found.values()
        texts = isinstance(value, str)
        if self.texts not in (None, texts):
            (column,) = columns.values()
            raise DataError(f"{where}: {column} is {'' if texts else 'not '}a text, unlike in the rows before")
        self.texts = texts
        return self._typed(value, where) if texts else found

    def _typed(self, text: str, where: str) -> Row:
        try:
            return {column: values[0] for column, values in self.task.rows([text]).items()}
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        except IndexError:
            wanted = " and ".join(inputs(self.task))
            raise DataError(f"{where}: '{text}': {wanted} were expected, separated by tabs") from None

    def _value(self, own: str, column: str, value: Any, where: str) -> Any:
        """Return a value as the task takes it; numbers as texts."""
        if own == getattr(self.task, "question_column_name", None) and self.task.name == "multiple-choice":
            value = value or " "  # an ending may stand by itself
        elif value is None or value in ([], {}) or (isinstance(value, str) and not value.strip()):
            raise DataError(f"{where}: {column} is empty")
        if isinstance(value, int | float):
            return str(value)
        if isinstance(value, str) and not value.isascii() and re.search("[\ud800-\udfff]", value):
            raise DataError(f"{where}: {column} holds half of a surrogate pair, which is no character")
        expected, fits = self._shape(own, value)
        if not fits:
            raise DataError(f"{where}: {column} is {str(value)[:60]}, but {expected} was expected")
        return value

    def _shape(self, own: str, value: Any) -> tuple[str, bool]:
        """Return what is expected of a value, in words, and whether it is so."""
        text, task = isinstance(value, str), self.task
        several = isinstance(value, list) and all(isinstance(v, str) and v for v in value)
        if task.name == "token-classification":
            return "a text or a list of words", text or several
        if getattr(task, "endings_column_name", ()) == (own,):
            return "a list of at least 2 endings", several and len(value) > 1
        if language := getattr(task, "source_lang", None):
            return f"a text or an object with '{language}'", text or _holds(value, language)
        if task.name == "text-generation":
            messages = isinstance(value, list) and all(_holds(v, "role", "content") for v in value)
            return "a text or a list of messages", text or messages
        return "a text", text


def _holds(value: Any, *keys: str) -> bool:
    return isinstance(value, Mapping) and all(isinstance(value.get(key), str) and value[key] for key in keys)


# ---- answers


@dataclass(frozen=True)
class Answered:
    """A row, and what each adapter that it was put to says of it."""

    line: int
    row: Row
    said: dict[str, dict[str, Any]]


class Answering:
    """Rows, and the adapters that are to answer them: `names`, each of them every row, or the one that a row names.

    What was given is checked when this is made, all of it unless it is a stream: an `AdapterkitError` says where a row
    lacks what its adapter reads. `text_columns` says where that is, if not in the columns of the training rows.
    """

    def __init__(
        self, given: Given, registry: Registry, names: Sequence[str] = (), *, text_columns: Sequence[str] = ()
    ) -> None:
        self.given, self.registry, self.text_columns = given, registry, text_columns
        self.names = list(dict.fromkeys(names))
        self._asked: dict[str, _Asked] = {}
        self._base: Base | None = None
        rows = iter(given)
        self._first = list(itertools.islice(rows, QUESTIONS))
        if not self._first:
            raise given.error("no rows")
        self.columns = list(dict.fromkeys(name for _, row in self._first for name in row))
        if not names and ROUTE not in self.columns:
            there = ", ".join(registry.adapters()) or "none"
            columns = "" if given.plain else f", or in a column '{ROUTE}', and there are {', '.join(self.columns)}"
            raise given.error(f"which adapter? name one before the texts{columns}; registered: {there}")
        if text_columns and given.plain:
            raise OptionError(f"--text-column-name={','.join(text_columns)}, but these are texts without columns")
        whole = itertools.chain(self._first, rows)
        self._rows: Iterable[tuple[int, Row]] = whole if given.total is None else given
        for line, row in self._first if given.total is None else whole:
            self._questions(line, row)

    def chunks(
        self, *, base: str | None = None, batch_size: int = 64, max_bytes: int | None = None
    ) -> Iterator[list[Answered]]:
        """Yield rows with their answers, in their order; `base` is where the base is now, if it was moved."""
        from .pool import Pool

        self._base = self._load(base)
        with Pool(self._base, registry=self.registry, batch_size=batch_size, max_bytes=max_bytes) as pool:
            for chunk in self._chunks(batch_size):
                questions = [question for *_, asked in chunk for question in asked]
                said = iter(pool.predict([row for _, row in questions], [one.reference for one, _ in questions]))
                yield [Answered(n, row, {one.name: next(said) for one, _ in asked}) for n, row, asked in chunk]

    def _chunks(self, batch_size: int) -> Iterator[list[tuple[int, Row, list[tuple[_Asked, Row]]]]]:
        chunk, count, size = [], 0, 0
        for line, row in self._rows:
            questions = self._questions(line, row)
            chunk.append((line, row, questions))
            count += len(questions)
            size += sum(len(v) if isinstance(v, str) else len(str(v)) for _, q in questions for v in q.values())
            slow = any(one.task.generates for one, _ in questions)
            if count >= (4 * batch_size if slow else max(QUESTIONS, batch_size)) or size >= CHARACTERS:
                yield chunk
                chunk, count, size = [], 0, 0
        if chunk:
            yield chunk

    def _questions(self, line: int, row: Row) -> list[tuple[_Asked, Row]]:
        """Return the adapters that a row is put to, and how each reads it."""
        where = self.given.at(line)
        if self.names:
            asked = [self._adapter(name) for name in self.names]
        else:
            name = row.get(ROUTE)
            if not name or not isinstance(name, str):
                raise DataError(f"{where}: {ROUTE} is {'no name' if name else 'empty'}")
            try:
                asked = [self._adapter(name)]
            except AdapterkitError as error:
                raise type(error)(f"{where}: {error}") from error
        return [(one, one.question(row, where, plain=self.given.plain)) for one in asked]

    # ---- adapters and their base

    def _adapter(self, name: str) -> _Asked:
        if name not in self._asked:
            reference = "@".join(self.registry.resolve(name))
            adapter = replace(self.registry.load(reference), tensors={})
            if self._base is not None:
                _check_base(name, adapter, self._base)
            columns = {} if self.given.plain else self._columns(name, inputs(adapter.task))
            self._asked[name] = _Asked(name, reference, adapter, adapter.task, columns)
        return self._asked[name]

    def _columns(self, name: str, wanted: list[str]) -> dict[str, str]:
        """Return where the rows have what a task reads."""
        there = self.columns
        for column in self.text_columns:
            if column not in there:
                raise self.given.error(unknown("column", column, there, known_as="there are"))
        reads = f"adapter '{name}' reads {' + '.join(wanted)}"
        if self.text_columns and len(self.text_columns) != len(wanted):
            raise OptionError(f"--text-column-name={','.join(self.text_columns)}, but {reads}: {len(wanted)} expected")
        if self.text_columns:
            return dict(zip(wanted, self.text_columns, strict=True))
        if set(wanted) <= set(there):
            return {column: column for column in wanted}
        text = self._text_column() if len(wanted) == 1 else None
        if text is None:
            raise self.given.error(f"{reads}; there are {', '.join(there)}; give --text-column-name")
        return {wanted[0]: text}

    def _text_column(self) -> str | None:
        """Return the one column that holds texts or, where several do, the one that is named like it."""
        others = {ROUTE, *LABELS}
        texts = [c for c in self.columns if c not in others and any(isinstance(r.get(c), str) for _, r in self._first)]
        named = [column for column in texts if column.lower() in TEXTS]
        return next((found[0] for found in (texts, named) if len(found) == 1), None)

    def _load(self, name: str | None) -> Base:
        from .base import Base

        asked = list(self._asked.values())
        stored = {one.adapter.manifest["base"]["fingerprint"]: one.adapter.manifest["base"] for one in asked}
        first = asked[0].adapter.manifest["base"]
        if name is None and len(stored) > 1:
            by_base = {
                f: [one.name for one in asked if one.adapter.manifest["base"]["fingerprint"] == f] for f in stored
            }
            known = [f"'{stored[f]['name']}' ({f[:12]}): {', '.join(names[:6])}" for f, names in by_base.items()]
            raise PoolError(
                f"adapters that answer together have one base, and these have {len(known)}: {'; '.join(known)}"
            )
        base = Base.load(self.registry.locate(first["name"]) if name is None else name, revision=first["revision"])
        for one in asked:
            _check_base(one.name, one.adapter, base)
        return base


def _check_base(name: str, adapter: Adapter, base: Base) -> None:
    try:
        adapter.check_base(base)
    except AdapterkitError as error:
        raise type(error)(f"adapter '{name}': {error}") from error
