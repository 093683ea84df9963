"""Answer many rows, a chunk at a time: with one adapter, with several, or each with the adapter that it names."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..data.readers import Row
from ..data.streams import TEXT, InputRows
from ..errors import AdapterkitError, DataError, OptionError, PoolError, unknown
from ..store.registry import Registry
from ..tasks import Task
from ..tasks.columns import LABELS, TEXTS
from ..watch import Watch

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter
    from ..base.base import Base

ROUTE = "adapter"
"""The column that names the adapter of a row."""
QUESTIONS, CHARACTERS = 2_048, 1 << 20
"""How many questions (a row put to one adapter is one), or characters of them, are answered at once."""
FIRST_SECONDS = 1.0
"""How long the first rows of a stream, which set the columns, are waited for."""


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
        columns = {"": TEXT} if plain else self.columns
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
            wanted = " and ".join(self.task.input_columns)
            raise DataError(f"{where}: '{text}': {wanted} were expected, separated by tabs") from None

    def _value(self, own: str, column: str, value: Any, where: str) -> Any:
        """Return a value as the task takes it; numbers as texts."""
        if value is None or value in ([], {}) or (isinstance(value, str) and not value.strip()):
            if not self.task.may_be_empty(own):
                raise DataError(f"{where}: {column} is empty")
            value = value or ""
        if isinstance(value, int | float):
            return str(value)
        if isinstance(value, str) and not value.isascii() and re.search("[\ud800-\udfff]", value):
            raise DataError(f"{where}: {column} holds half of a surrogate pair, which is no character")
        if expected := self.task.accepts(own, value):
            raise DataError(f"{where}: {column} is {str(value)[:60]}, but {expected} was expected")
        return value


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
        self, given: InputRows, registry: Registry, names: Sequence[str] = (), *, text_columns: Sequence[str] = ()
    ) -> None:
        self.given, self.registry, self.text_columns = given, registry, text_columns
        self.names = list(dict.fromkeys(names))
        self._asked: dict[str, _Asked] = {}
        self._base: Base | None = None
        self._allow_mismatch, self._watch = False, Watch()
        rows = iter(given)
        self._first = _first(rows, given)
        if not self._first:
            raise given.error("no rows")
        self.columns = dict.fromkeys(name for _, row in self._first for name in row)
        """In their order: those of all rows, or of the first ones of a stream."""
        if not names and ROUTE not in self.columns:
            there = ", ".join(registry.adapters()) or "none"
            columns = "" if given.texts_only else f", or in a column '{ROUTE}', and there are {', '.join(self.columns)}"
            raise given.error(f"which adapter? name one before the texts{columns}; registered: {there}")
        if text_columns and given.texts_only:
            raise OptionError(f"--text-column-name={','.join(text_columns)}, but these are texts without columns")
        count = 0
        for line, row in itertools.chain(self._first, rows) if given.repeatable else self._first:
            self._questions(line, row)
            self.columns.update(dict.fromkeys(row))
            count += 1
        self.total = count if given.repeatable else None
        """How many rows there are, where that can be known."""
        self._rows: Iterable[tuple[int, Row]] = given if given.repeatable else itertools.chain(self._first, rows)

    def chunks(
        self,
        *,
        base: str | None = None,
        batch_size: int = 64,
        max_bytes: int | None = None,
        device: str | None = None,
        allow_base_mismatch: bool = False,
        watch: Watch | None = None,
    ) -> Iterator[list[Answered]]:
        """Yield rows with their answers, in their order; `base` is where the base is now, if it was moved.

        An adapter of another base is an error or, if that is allowed, a remark.
        """
        from ..pool import Pool

        self._allow_mismatch, self._watch = allow_base_mismatch, watch or Watch()
        self._base = self._load(base)
        with Pool(
            self._base,
            registry=self.registry,
            batch_size=batch_size,
            max_bytes=max_bytes,
            device=device,
            allow_base_mismatch=allow_base_mismatch,
        ) as pool:
            for chunk in self._chunks(batch_size):
                questions = [question for *_, asked in chunk for question in asked]
                rows, names = [row for _, row in questions], [one.reference for one, _ in questions]
                said = iter(pool.predict(rows, adapter_of_each=names))
                yield [Answered(n, row, {one.name: next(said) for one, _ in asked}) for n, row, asked in chunk]

    def _chunks(self, batch_size: int) -> Iterator[list[tuple[int, Row, list[tuple[_Asked, Row]]]]]:
        chunk, count, size = [], 0, 0
        for number, (line, row) in enumerate(self._rows, start=1):
            questions = self._questions(line, row)
            chunk.append((line, row, questions))
            count += len(questions)
            size += sum(len(v) if isinstance(v, str) else len(str(v)) for _, q in questions for v in q.values())
            slow = any(one.task.generates for one, _ in questions)
            full = count >= (4 * batch_size if slow else max(QUESTIONS, batch_size)) or size >= CHARACTERS
            if full or (number >= len(self._first) and not self.given.ready(0)):  # nobody waits for a row to come
                yield chunk
                chunk, count, size = [], 0, 0
        if chunk:
            yield chunk

    def _questions(self, line: int, row: Row) -> list[tuple[_Asked, Row]]:
        """Return the adapters that a row is put to, and how each reads it."""
        where = self.given.at(line)
        if self.names:
            asked = [self._adapter(name, self._first, self.given.name) for name in self.names]
        else:
            name = row.get(ROUTE)
            if not name or not isinstance(name, str):
                raise DataError(f"{where}: {ROUTE} is {'no name' if name else 'empty'}")
            asked = [self._adapter(name, [(line, row)], where)]
        return [(one, one.question(row, where, plain=self.given.texts_only)) for one in asked]

    def headline(self, name: str, answer: dict[str, Any]) -> Any:
        """Return the part of an adapter's answer that is written where there is one cell for it."""
        return self._asked[name].task.headline(answer)

    # ---- adapters and their base

    def _adapter(self, name: str, put: Sequence[tuple[int, Row]], where: str) -> _Asked:
        """Return an adapter, found now if `put` are the first rows that are put to it; `where` is where they stand."""
        if name not in self._asked:
            try:
                reference = "@".join(self.registry.resolve(name))
                adapter = replace(self.registry.load(reference), tensors={})
                adapter.task.check_named()
                if self._base is not None:
                    self._check_base(name, adapter, self._base)
            except AdapterkitError as error:
                if self.names:
                    raise
                raise type(error)(f"{where}: {error}") from error
            columns = {} if self.given.texts_only else self._columns(name, adapter.task, [row for _, row in put], where)
            self._asked[name] = _Asked(name, reference, adapter, adapter.task, columns)
        return self._asked[name]

    def _columns(self, name: str, task: Task, put: list[Row], where: str) -> dict[str, str]:
        """Return where rows have what a task reads."""
        wanted, there = task.input_columns, list(dict.fromkeys(column for row in put for column in row))
        reads = f"adapter '{name}' reads {' + '.join(wanted)}"
        if chosen := self.text_columns:
            for column in chosen:
                if column not in there:
                    raise DataError(f"{where}: " + unknown("column", column, there, known_as="there are"))
            if len(chosen) != len(wanted):
                raise OptionError(f"--text-column-name={','.join(chosen)}, but {reads}: {len(wanted)} expected")
            return dict(zip(wanted, chosen, strict=True))
        if set(wanted) <= set(there):
            return {column: column for column in wanted}
        text = _text_column(put, there) if len(wanted) == 1 else None
        if text is None:
            raise DataError(f"{where}: {reads}; there are {', '.join(there)}; give --text-column-name")
        return {wanted[0]: text}

    def _load(self, name: str | None) -> Base:
        from ..base.base import Base

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
        base = Base.from_manifest(first, self.registry.locate(first["name"]) if name is None else name)
        for one in asked:
            self._check_base(one.name, one.adapter, base)
        return base

    def _check_base(self, name: str, adapter: Adapter, base: Base) -> None:
        if self._allow_mismatch:
            if remark := adapter.moved_to(base).mismatch:
                self._watch.note("warning", f"adapter '{name}' {remark}")
            return
        try:
            adapter.check_base(base)
        except AdapterkitError as error:
            raise type(error)(f"adapter '{name}': {error}") from error


def _first(rows: Iterator[tuple[int, Row]], given: InputRows) -> list[tuple[int, Row]]:
    """Return the first rows, of a stream those that come within `FIRST_SECONDS`."""
    found: list[tuple[int, Row]] = []
    until = time.monotonic() + FIRST_SECONDS
    for one in itertools.islice(rows, QUESTIONS):
        found.append(one)
        if not given.ready(max(0.0, until - time.monotonic())):
            break
    return found


def _text_column(put: list[Row], there: list[str]) -> str | None:
    """Return the one column that holds texts or, where several do, the one that is named like it."""
    filled = {c for row in put for c, value in row.items() if isinstance(value, str) and value.strip()}
    texts = [column for column in there if column in filled - {ROUTE, *LABELS}]
    named = [column for column in texts if column.lower() in TEXTS]
    return next((found[0] for found in (texts, named) if len(found) == 1), None)
