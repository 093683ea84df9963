"""Answer rows in chunks: with one adapter, with several, or each row with the adapter that it names."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..cluster import Executor, Local
from ..data.input_rows import InputRows
from ..data.readers.source import BadRow, Row
from ..errors import (
    AdapterkitError,
    DataError,
    OptionError,
    PoolError,
    printable,
    unknown,
)
from ..store.registry import Registry
from ..tasks import Task
from ..tasks.columns import columns_of
from ..watch import Watch
from .answer_target import ROUTE, Target, text_column
from .pool_worker import PoolOptions, PoolWorker, Request

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter
    from ..base.base import Base

REQUESTS, CHARACTERS = 2_048, 1 << 20
"""The most requests (a row and an adapter), and the most characters, of a chunk."""
AHEAD = 4
"""Chunks per process of a cluster that are computed, or wait for an earlier one."""
FIRST_SECONDS = 1.0
"""The time to wait for the first rows of a stream, which determine the columns."""


# ---- answers


@dataclass(frozen=True)
class Answered:
    """A row and its answers, by adapter; an adapter that can't read the row has none, and `errors` holds the reason.

    A row that can't be read at all has its reason under the empty name.
    """

    line: int
    row: Row
    answers: dict[str, dict[str, Any]]
    errors: dict[str, str] = field(default_factory=dict)


@dataclass
class _RoutedRow:
    """A row with the adapters that answer it, each with its inputs, and the reasons of those that can't."""

    line: int
    row: Row
    requests: list[tuple[Target, Row]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


class Answering:
    """Rows, and the adapters that answer them: each of `names` answers every row, or each row names its own.

    Rows are checked on construction, of a stream the first ones: an `AdapterkitError` names the row and the column
    that an adapter can't read, unless the source skips bad rows. `text_columns` are the columns to read, by default
    those of the training rows.
    """

    def __init__(
        self, source: InputRows, registry: Registry, names: Sequence[str] = (), *, text_columns: Sequence[str] = ()
    ) -> None:
        self.source, self.registry, self.text_columns = source, registry, text_columns
        self.names = list(dict.fromkeys(names))
        self._targets: dict[str, Target] = {}
        self._base: Base | None = None
        self._tokenizer: Any = None
        self._allow_mismatch, self._watch = False, Watch()
        self.notes: list[str] = []
        """What the rows are read as, where their columns have other names than those of the training rows."""
        self.count = 0
        """The number of rows that were read for answers, up to now."""
        self.unanswered: dict[int, str] = {}
        """The reason of each row that has no answer of some adapter, by line; of a stream up to now."""
        rows = iter(source)
        self._first = _first(rows, source)
        self._readable = [(line, row) for line, row in self._first if not isinstance(row, BadRow)]
        if not self._readable:
            reasons = [row.reason for _, row in self._first if isinstance(row, BadRow)]
            raise source.error(f"no row can be read, the first: {reasons[0]}" if reasons else "no rows")
        self.columns = dict.fromkeys(name for _, row in self._readable for name in row)
        """The columns in order, of all rows, or of the first rows of a stream."""
        if not names and ROUTE not in self.columns:
            names_text = ", ".join(registry.adapters()) or "none"
            columns = (
                "" if source.texts_only else f", or in a column '{ROUTE}', and there are {', '.join(self.columns)}"
            )
            raise source.error(f"which adapter? name one before the texts{columns}; registered: {names_text}")
        if text_columns and source.texts_only:
            raise OptionError(f"--text-column-name={','.join(text_columns)}, but these are texts without columns")
        count = 0
        for line, row in itertools.chain(self._first, rows) if source.repeatable else self._first:
            self._route(line, row)
            self.columns.update({} if isinstance(row, BadRow) else dict.fromkeys(row))
            count += 1
        self.total = count if source.repeatable else None
        """The number of rows; None for a stream."""
        self._rows: Iterable[tuple[int, Row | BadRow]] = (
            source if source.repeatable else itertools.chain(self._first, rows)
        )

    def chunks(
        self, *, executor: Executor | None = None, watch: Watch | None = None, **options: Any
    ) -> Iterator[list[Answered]]:
        """Yield rows with their answers, in order; `options` are fields of `PoolOptions`.

        An adapter of another base is an error or, with `allow_base_mismatch`, a remark.
        """
        for _, chunk in answered_chunks([self], PoolOptions(**options), executor=executor, watch=watch):
            yield chunk

    def open(self, options: PoolOptions, watch: Watch, before: Answering | None) -> Any:
        """Return the worker that answers the requests of `requests_of`; its base is that of the answering `before`."""
        self._allow_mismatch, self._watch = options.allow_base_mismatch, watch
        self._base = before._base if before is not None else self._load(options.base)
        assert self._base is not None
        self._tokenizer = self._base.tokenizer
        for target in self._targets.values():
            self._check_base(target.name, target.adapter, self._base)
        manifest = next(iter(self._targets.values())).adapter.manifest["base"]
        name = self.registry.locate(manifest["name"]) if options.base is None else options.base
        return PoolWorker(self.registry, manifest, name, options, self.source.skip_bad, self._base)

    def requests_of(self, chunk: Sequence[_RoutedRow]) -> list[Request]:
        """Return the requests of a chunk as a worker takes them."""
        return [(target.reference, inputs) for routed in chunk for target, inputs in routed.requests]

    def finished(self, chunk: Sequence[_RoutedRow], answers: list[Any] | DataError) -> list[Answered]:
        """Return the rows of a chunk with a worker's answers to its requests. Raises its error, if it returned one."""
        if isinstance(answers, DataError):
            raise self.source.refused(answers)
        self._count_cut([request for routed in chunk for request in routed.requests])
        answer = iter(answers)
        return [self._answered(routed, answer) for routed in chunk]

    def note_cut(self) -> None:
        """Note how many rows were longer than their adapter reads."""
        from ..features.lengths import cut_note

        for target in self._targets.values():
            if target.cut:
                note = cut_note(target.task, target.cut, target.answered)
                self._watch.note("warning", f"adapter '{target.name}': {note}")

    def _read(self, reference: str) -> Adapter:
        """Return an adapter, NAME@VERSION, without its tensors."""
        return replace(self.registry.load(reference), tensors={})

    def _answered(self, routed: _RoutedRow, answers: Iterator[dict[str, Any] | DataError]) -> Answered:
        """Return a row with the next of the answers, one for each of its requests."""
        answered: dict[str, dict[str, Any]] = {}
        for target, _ in routed.requests:
            answer = next(answers)
            if isinstance(answer, DataError):
                self._skip(routed, target.name, self.source.at(routed.line), answer)
            else:
                answered[target.name] = answer
        return Answered(routed.line, routed.row, answered, routed.errors)

    def _count_cut(self, requests: Sequence[tuple[Target, Row]]) -> None:
        """Count the rows of each adapter, and those that are longer than it reads."""
        from ..features.lengths import count_cut

        for target in self._targets.values():
            if rows := [row for of_row, row in requests if of_row is target]:
                target.answered += len(rows)
                target.cut += count_cut(target.task, columns_of(target.task, rows).values, self._tokenizer)

    def routed_chunks(self, batch_size: int) -> Iterator[list[_RoutedRow]]:
        """Yield the rows in chunks, each row with the adapters that answer it."""
        chunk: list[_RoutedRow] = []
        count = size = 0
        for number, (line, row) in enumerate(self._rows, start=1):
            self.count = number
            routed = self._route(line, row)
            chunk.append(routed)
            count += max(1, len(routed.requests))
            size += sum(
                len(v) if isinstance(v, str) else len(str(v)) for _, inputs in routed.requests for v in inputs.values()
            )
            slow = any(target.task.generates for target, _ in routed.requests)
            full = count >= (4 * batch_size if slow else max(REQUESTS, batch_size)) or size >= CHARACTERS
            if full or (
                number >= len(self._first) and not self.source.ready(0)
            ):  # answer now instead of waiting for rows
                yield chunk
                chunk, count, size = [], 0, 0
        if chunk:
            yield chunk

    def _route(self, line: int, row: Row | BadRow) -> _RoutedRow:
        """Return a row with the adapters that answer it; where bad rows are skipped, with the reasons of the others."""
        location = self.source.at(line)
        if isinstance(row, BadRow):
            self.unanswered[line] = row.reason
            return _RoutedRow(line, {}, errors={"": f"{location}: {row.reason}"})
        routed = _RoutedRow(line, row)
        try:
            targets = self._targets_of(line, row, location)
        except AdapterkitError as error:
            if self.names:
                raise
            if not self.source.skip_bad:
                self.source.refused(error)
                raise
            self._skip(routed, str(row.get(ROUTE) or ""), location, error)
            return routed
        for target in targets:
            try:
                routed.requests.append((target, target.inputs(row, location, plain=self.source.texts_only)))
            except DataError as error:
                if not self.source.skip_bad:
                    self.source.refused(error)
                    raise
                self._skip(routed, target.name, location, error)
        return routed

    def _skip(self, routed: _RoutedRow, name: str, location: str, error: AdapterkitError) -> None:
        routed.errors[name] = str(error).removeprefix(printable(f"{location}: "))
        self.unanswered.setdefault(routed.line, routed.errors[name])

    def _targets_of(self, line: int, row: Row, location: str) -> list[Target]:
        """Return the adapters that answer a row."""
        if self.names:
            return [self._target(name, self._readable, self.source.name) for name in self.names]
        name = row.get(ROUTE)
        if not name or not isinstance(name, str):
            raise DataError(f"{location}: {ROUTE} is {'no name' if name else 'empty'}")
        return [self._target(name, [(line, row)], location)]

    def headline(self, name: str, answer: dict[str, Any]) -> Any:
        """Return the part of an adapter's answer that is written where there is one cell for it."""
        return self._targets[name].task.headline(answer)

    # ---- adapters and their base

    def _target(self, name: str, rows: Sequence[tuple[int, Row]], location: str) -> Target:
        """Return an adapter, read on its first use; its columns are then those of `rows`, at `location`."""
        if name not in self._targets:
            try:
                reference = "@".join(self.registry.resolve(name))
                adapter = self._read(reference)
                adapter.task.check_named()
                if self._base is not None:
                    self._check_base(name, adapter, self._base)
            except AdapterkitError as error:
                if self.names:
                    raise
                raise type(error)(f"{location}: {error}") from error
            columns = (
                {} if self.source.texts_only else self._columns(name, adapter.task, [row for _, row in rows], location)
            )
            self._targets[name] = Target(name, reference, adapter, adapter.task, columns)
        return self._targets[name]

    def _columns(self, name: str, task: Task, rows: list[Row], location: str) -> dict[str, str]:
        """Return the rows' column for each column that a task reads."""
        wanted, names = task.input_columns, list(dict.fromkeys(column for row in rows for column in row))
        needed = [column for column in wanted if column not in task.optional_columns]
        reads = f"adapter '{name}' reads {' + '.join(wanted)}"
        if chosen := self.text_columns:
            for column in chosen:
                if column not in names:
                    raise DataError(f"{location}: " + unknown("column", column, names, known_as="there are"))
            if not len(needed) <= len(chosen) <= len(wanted):
                raise OptionError(f"--text-column-name={','.join(chosen)}, but {reads}: {len(wanted)} expected")
            return dict(zip(wanted, chosen, strict=False))
        if set(needed) <= set(names):
            return {column: column for column in wanted}
        text = text_column(rows, names) if len(needed) == 1 else None
        if text is None:
            raise DataError(f"{location}: {reads}; there are {', '.join(names)}; give --text-column-name")
        self._note(f"{self.source.name}: column '{text}' is read as '{needed[0]}'")
        return {needed[0]: text}

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self._watch.note("remark", text)

    def _load(self, name: str | None) -> Base:
        from ..base.base import Base

        targets = list(self._targets.values())
        stored = {target.adapter.manifest["base"]["fingerprint"]: target.adapter.manifest["base"] for target in targets}
        first = targets[0].adapter.manifest["base"]
        if name is None and len(stored) > 1:
            by_base = {
                f: [target.name for target in targets if target.adapter.manifest["base"]["fingerprint"] == f]
                for f in stored
            }
            bases = [f"'{stored[f]['name']}' ({f[:12]}): {', '.join(names[:6])}" for f, names in by_base.items()]
            raise PoolError(f"adapters that answer together need one base, got {len(bases)}: {'; '.join(bases)}")
        return Base.from_manifest(first, self.registry.locate(first["name"]) if name is None else name)

    def _check_base(self, name: str, adapter: Adapter, base: Base) -> None:
        if self._allow_mismatch:
            if remark := adapter.moved_to(base).mismatch:
                self._watch.note("warning", f"adapter '{name}' {remark}")
            return
        try:
            adapter.check_base(base)
        except AdapterkitError as error:
            raise type(error)(f"adapter '{name}': {error}") from error


def answered_chunks(
    answerings: Iterable[Answering],
    options: PoolOptions,
    *,
    executor: Executor | None = None,
    watch: Watch | None = None,
) -> Generator[tuple[Answering, list[Answered]], None, None]:
    """Yield the rows of several sources with their answers in order, each chunk with its source, on one base.

    A source is requested when the rows before are read, and so the chunks of the next one are computed meanwhile.
    """
    executor, watch = executor or Local(), watch or Watch()
    sources = iter(answerings)
    if (first := next(sources, None)) is None:
        return
    worker = first.open(options, watch, None)
    waiting: deque[tuple[Answering, list[_RoutedRow]]] = deque()

    def tasks() -> Iterator[list[Request]]:
        for answering in itertools.chain([first], sources):
            if answering is not first:
                answering.open(options, watch, first)
            for chunk in answering.routed_chunks(options.batch_size):
                waiting.append((answering, chunk))
                yield answering.requests_of(chunk)

    before = first
    for answers in executor.map(worker, tasks(), ahead=AHEAD):
        answering, chunk = waiting.popleft()
        if answering is not before:
            before.note_cut()
        yield (before := answering), answering.finished(chunk, answers)
    before.note_cut()


def _first(rows: Iterator[tuple[int, Row | BadRow]], source: InputRows) -> list[tuple[int, Row | BadRow]]:
    """Return the first rows, of a stream those that arrive within `FIRST_SECONDS`."""
    first: list[tuple[int, Row | BadRow]] = []
    until = time.monotonic() + FIRST_SECONDS
    for numbered in itertools.islice(rows, REQUESTS):
        first.append(numbered)
        if not source.ready(max(0.0, until - time.monotonic())):
            break
    return first
