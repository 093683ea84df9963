"""Answer rows in chunks: with one adapter, with several, or each row with the adapter that it names."""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from ..data.blank import is_blank
from ..data.readers import BadRow, Row
from ..data.streams import TEXT, InputRows
from ..errors import (
    AdapterkitError,
    DataError,
    OptionError,
    PoolError,
    TruncationWarning,
    printable,
    unknown,
)
from ..evaluation.row_errors import by_halves
from ..store.registry import Registry
from ..tasks import Task
from ..tasks.columns import LABELS, TEXTS, columns_of
from ..tasks.inputs import Inputs, inputs_of
from ..watch import Watch

if TYPE_CHECKING:
    from ..adapter.adapter import Adapter
    from ..base.base import Base

ROUTE = "adapter"
"""The column that names the adapter of a row."""
REQUESTS, CHARACTERS = 2_048, 1 << 20
"""The most requests (a row and an adapter), and the most characters, of a chunk."""
FIRST_SECONDS = 1.0
"""The time to wait for the first rows of a stream, which determine the columns."""


@dataclass
class _Target:
    """An adapter that answers rows, and the columns in which they have its task's inputs."""

    name: str  # as requested
    reference: str  # name@version, so that all rows have answers of one version
    adapter: Adapter  # without its tensors
    task: Task
    columns: dict[str, str]  # from the task's columns to the rows'
    answered: int = 0
    cut: int = 0  # rows that are longer than the task reads
    fields: set[str] = field(default_factory=set)  # of the inputs of the rows before

    def inputs(self, row: Row, location: str, *, plain: bool) -> Inputs:
        """Return a row's values by the task's columns. Raises `DataError` for one that the task can't read."""
        try:
            values = inputs_of(self.task, row[TEXT] if plain else row, self.columns)
        except DataError as error:
            raise DataError(f"{location}: {error}") from error
        if self.fields not in (set(), set(values)):
            (column,) = self.columns.values()
            text = "" if len(values) > 1 else "not "
            raise DataError(f"{location}: {column} is {text}a text, unlike in the rows before")
        self.fields = set(values)
        return values


class _Predictor(Protocol):
    """A `Pool`, or another that answers as it does."""

    def predict(self, texts: Any, *, adapter_of_each: Sequence[str]) -> Any:
        """Return the answer to each text by the adapter that is named for it."""


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
    requests: list[tuple[_Target, Row]] = field(default_factory=list)
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
        self._targets: dict[str, _Target] = {}
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
        self,
        *,
        base: str | None = None,
        batch_size: int = 64,
        max_bytes: int | None = None,
        device: str | None = None,
        allow_base_mismatch: bool = False,
        watch: Watch | None = None,
    ) -> Iterator[list[Answered]]:
        """Yield rows with their answers, in order; `base` is where to load the base from, if it was moved.

        An adapter of another base is an error or, with `allow_base_mismatch`, a remark.
        """
        from ..features.lengths import cut_note

        self._allow_mismatch, self._watch = allow_base_mismatch, watch or Watch()
        with self._open_pool(base, batch_size, max_bytes, device) as pool:
            for chunk in self._chunks(batch_size):
                every = [request for routed in chunk for request in routed.requests]
                answers = iter(self._predicted(pool, every))
                self._count_cut(every)
                yield [self._answered(routed, answers) for routed in chunk]
        for target in self._targets.values():
            if target.cut:
                note = cut_note(target.task, target.cut, target.answered)
                self._watch.note("warning", f"adapter '{target.name}': {note}")

    @contextlib.contextmanager
    def _open_pool(
        self, base: str | None, batch_size: int, max_bytes: int | None, device: str | None
    ) -> Iterator[_Predictor]:
        """Yield what answers the rows: a pool on the adapters' base."""
        from ..pool import Pool

        self._base = self._load(base)
        self._tokenizer = self._base.tokenizer
        with Pool(
            self._base,
            registry=self.registry,
            batch_size=batch_size,
            max_bytes=max_bytes,
            device=device,
            allow_base_mismatch=self._allow_mismatch,
        ) as pool:
            yield pool

    def _read(self, reference: str) -> Adapter:
        """Return an adapter, NAME@VERSION, without its tensors."""
        return replace(self.registry.load(reference), tensors={})

    def _predicted(self, pool: _Predictor, requests: Sequence[tuple[_Target, Row]]) -> list[dict[str, Any] | DataError]:
        """Return the answer to each request; where bad rows are skipped, or the error of one that a model refuses."""

        def answers_of(some: list[tuple[_Target, Row]]) -> list[Any]:
            names = [target.reference for target, _ in some]
            answers: list[Any] = pool.predict([row for _, row in some], adapter_of_each=names)
            return answers

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TruncationWarning)  # counted here, over all chunks
            if self.source.skip_bad:
                return by_halves(requests, answers_of)
            try:
                return answers_of(list(requests)) if requests else []
            except DataError as error:
                self.source.refused(error)
                raise

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

    def _count_cut(self, requests: Sequence[tuple[_Target, Row]]) -> None:
        """Count the rows of each adapter, and those that are longer than it reads."""
        from ..features.lengths import count_cut

        for target in self._targets.values():
            if rows := [row for of_row, row in requests if of_row is target]:
                target.answered += len(rows)
                target.cut += count_cut(target.task, columns_of(target.task, rows).values, self._tokenizer)

    def _chunks(self, batch_size: int) -> Iterator[list[_RoutedRow]]:
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

    def _targets_of(self, line: int, row: Row, location: str) -> list[_Target]:
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

    def _target(self, name: str, rows: Sequence[tuple[int, Row]], location: str) -> _Target:
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
            self._targets[name] = _Target(name, reference, adapter, adapter.task, columns)
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
        text = _text_column(rows, names) if len(needed) == 1 else None
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
        base = Base.from_manifest(first, self.registry.locate(first["name"]) if name is None else name)
        for target in targets:
            self._check_base(target.name, target.adapter, base)
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


def _first(rows: Iterator[tuple[int, Row | BadRow]], source: InputRows) -> list[tuple[int, Row | BadRow]]:
    """Return the first rows, of a stream those that arrive within `FIRST_SECONDS`."""
    first: list[tuple[int, Row | BadRow]] = []
    until = time.monotonic() + FIRST_SECONDS
    for numbered in itertools.islice(rows, REQUESTS):
        first.append(numbered)
        if not source.ready(max(0.0, until - time.monotonic())):
            break
    return first


def _text_column(rows: list[Row], columns: list[str]) -> str | None:
    """Return the only column of texts or, of several, the only one with a usual name; None where neither exists."""
    filled = {c for row in rows for c, value in row.items() if isinstance(value, str) and not is_blank(value)}
    texts = [column for column in columns if column in filled - {ROUTE, *LABELS}]
    named = [column for column in texts if column.lower() in TEXTS]
    return next((names[0] for names in (texts, named) if len(names) == 1), None)
