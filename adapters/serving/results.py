"""Results of rows, and the answered rows that feedback may still be about."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from ..tasks import Task
from .errors import RequestError

MOST_ROWS = 20_000
MOST_CHARACTERS = 32_000_000


@dataclass(frozen=True)
class Result:
    """The answer to a row, or its error; the version that answered, and the tokens that were read."""

    reference: str
    value: Any
    tokens: int = 0
    task: Task | None = None
    """The task of a row that was read."""
    candidate: Result | None = None
    """The result of the canary, where one read the row too."""

    @property
    def error(self) -> BaseException | None:
        """The error of the row, if it failed."""
        return self.value if isinstance(self.value, BaseException) else None

    def answer(self) -> Any:
        """Return the answer, or raise the row's error."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(eq=False)
class Answered:
    """A row of a request with its result, and whether its label came back."""

    number: int
    row: Any
    result: Result
    labelled: bool = False

    @property
    def name(self) -> str:
        """The adapter's name."""
        return self.result.reference.partition("@")[0]


class Recent:
    """The rows that were answered last, by request, in a bounded memory."""

    def __init__(self) -> None:
        self._requests: OrderedDict[str, list[Answered]] = OrderedDict()
        self._rows = self._characters = 0

    def remember(self, request_id: str, rows: list[Answered]) -> None:
        """Add the rows of a request; the oldest requests are forgotten."""
        self._forget(self._requests.pop(request_id, []))
        self._requests[request_id] = rows
        self._rows += len(rows)
        self._characters += sum(_size(answered.row) for answered in rows)
        while len(self._requests) > 1 and (self._rows > MOST_ROWS or self._characters > MOST_CHARACTERS):
            self._forget(self._requests.popitem(last=False)[1])

    def _forget(self, rows: list[Answered]) -> None:
        self._rows -= len(rows)
        self._characters -= sum(_size(answered.row) for answered in rows)

    def answered(self, request_id: str, number: int, adapter: str | None) -> Answered:
        """Return one row of a request. Raises `RequestError`, 404 or, where it is of several adapters, 400."""
        rows = self._requests.get(request_id)
        if rows is None:
            raise RequestError(404, f"no answers of request '{request_id[:64]}' in memory; ids are in x-request-id")
        if adapter is not None:
            rows = [r for r in rows if adapter in (r.name, r.result.reference)]
        names = list(dict.fromkeys(r.name for r in rows))
        if len(names) > 1:
            raise RequestError(400, f"the request was answered by {', '.join(names[:40])}; name the adapter")
        rows = [r for r in rows if r.number == number or (adapter and len(rows) == 1)]
        if not rows:
            raise RequestError(404, f"request '{request_id[:64]}' has no answered row {number} of that adapter")
        return rows[0]


def _size(row: Any) -> int:
    return len(row) if isinstance(row, str) else len(str(row))
