"""A token-bounded queue, fair by adapter, and the threads that answer its rows in batches of mixed adapters."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .errors import RequestError
from .intra_op import IntraOpThreads
from .limits import Limits
from .metrics import Metrics
from .target import Row, ServedPool

_IN_TIME = 0.3
"""The part of the deadline that a row may be expected to wait: the rest is for its batch, and for rates that vary."""
_LATE = 0.7
"""The part of the deadline after which a row that still waits is refused: its answer would come too late."""


@dataclass(eq=False)
class Entry:
    """Rows that run in the same batch, and the future of their answers; a cancelled one is skipped."""

    pool: ServedPool
    rows: list[Row]
    tokens: int
    all_scores: bool
    future: asyncio.Future[list[Any]]
    since: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> str:
        """The adapter by which the queue is fair."""
        return self.rows[0].adapter.name


class Queue:
    """Entries by adapter; a worker thread takes one of each in turn until a batch has its tokens.

    A batch waits for company only where more requests are `active` than have rows in the queue or in a batch, and at
    most for `wait_ms`. Futures are completed in the event loop that `start` is called from.
    """

    def __init__(
        self,
        name: str,
        limits: Limits,
        metrics: Metrics,
        active: Callable[[], int],
        threads: int = 1,
        intra_op_threads: int = 1,
        use_threads: Callable[[int], object] = lambda count: None,
    ) -> None:
        self.name, self.limits, self.metrics, self._active = name, limits, metrics, active
        self._intra_op_threads = intra_op_threads  # of a batch that is all that is active, at most
        self._use_threads = use_threads  # let this thread compute with that many
        self._entries: OrderedDict[str, deque[Entry]] = OrderedDict()
        self._changed = threading.Condition()
        self._tokens = self._count = 0
        self._computing = 0  # entries of batches that run now
        self._rate = 0.0  # tokens a second of all threads, by the last batches
        self._preparing = 0  # requests that are tokenized now
        self._usual = 0.0  # tokens of a request, of the last ones
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"adapterkit-{name}-{i}", daemon=True) for i in range(threads)
        ]

    def start(self) -> None:
        """Start the worker threads."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """Count a request that is going to submit entries. Raises `RequestError`, 429, where it would come too late.

        Where more arrives than can be answered, it is this that refuses: a row that is tokenized in vain takes the
        time of others.
        """
        self.check_wait()
        self._preparing += 1
        try:
            yield
        finally:
            self._preparing -= 1

    def count_request(self, tokens: int) -> None:
        """Note the tokens of a request, by which those are estimated that aren't tokenized yet."""
        self._usual = tokens if not self._usual else 0.9 * self._usual + 0.1 * tokens

    def has_room(self) -> bool:
        """Return whether a request that begins now would be answered in time."""
        return self._fits(self._waiting, 0)

    def check_wait(self) -> None:
        """Raise `RequestError`, 429, where a request that begins now would come too late."""
        self._check_wait(self._waiting, 0)

    @property
    def _waiting(self) -> int:
        """The tokens that wait, with those of requests that are tokenized now."""
        return self._tokens + round(self._preparing * self._usual)

    def _fits(self, tokens: int, more: int) -> bool:
        in_time = not self._rate or tokens / self._rate <= _IN_TIME * self.limits.deadline
        return in_time and tokens + more <= self.limits.max_queue_tokens

    def _check_wait(self, tokens: int, more: int) -> None:
        """Raise `RequestError`, 429, where `more` tokens don't fit behind `tokens`, or would be answered too late.

        A row that the deadline ends, by the rate of the last batches, would take the time of others.
        """
        if not self._fits(tokens, more):
            raise self._refusal(tokens)

    def refusal(self) -> RequestError:
        """Return the error of a request that begins now and would come too late."""
        return self._refusal(self._waiting)

    def _refusal(self, tokens: int) -> RequestError:
        seconds = max(1, math.ceil(tokens / self._rate if self._rate else 0.0))
        most = self.limits.max_queue_tokens
        return RequestError(
            429,
            f"{tokens:,} tokens wait, of at most {most:,}, for about {seconds} s; try again after that",
            {"Retry-After": str(min(seconds, 60))},
        )

    def submit(self, entry: Entry) -> None:
        """Add an entry. Raises `RequestError`, 413 for one that never fits, 429 where too many wait."""
        most = self.limits.max_queue_tokens
        if entry.tokens > most:
            raise RequestError(413, f"the row has {entry.tokens:,} tokens; at most {most:,} are read at a time")
        with self._changed:
            self._check_wait(self._tokens, entry.tokens)
            self._entries.setdefault(entry.key, deque()).append(entry)
            self._tokens += entry.tokens
            self._count += 1
            self._changed.notify()
        self.metrics.waiting.labels(self.name).set(self._tokens)

    def close(self) -> None:
        """Let the workers end once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # ---- the worker

    def _work(self) -> None:
        several = IntraOpThreads(self._intra_op_threads)
        busy_since: float | None = None  # the end of the last batch, where more waited then
        while batch := self._next():
            alone = self._active() <= len(batch)
            tokens = sum(entry.tokens for entry in batch)
            threads = several.choose(tokens) if alone else 1
            self._use_threads(threads)
            started = time.perf_counter()
            results = self._answers(batch)
            ended = time.perf_counter()
            seconds = ended - started
            if alone:
                several.record(tokens, threads, seconds)
            # what comes between two batches, such as other threads' work on the same core, is a part of the rate
            elapsed = ended - (started if busy_since is None else busy_since)
            rate = len(self._threads) * tokens / elapsed
            with self._changed:
                self._computing -= len(batch)
                self._rate = rate if not self._rate else 0.8 * self._rate + 0.2 * rate
                busy_since = ended if self._count else None
            self.metrics.batch_seconds.observe(seconds)
            self.metrics.batch_rows.observe(sum(len(entry.rows) for entry in batch))
            self._loop.call_soon_threadsafe(_deliver, batch, results)

    def _next(self) -> list[Entry]:
        """Return the entries of the next batch; empty once the queue is closed."""
        with self._changed:
            while True:
                while not self._count:
                    if self._closed:
                        return []
                    self._changed.wait()
                until = time.monotonic() + self.limits.wait_ms / 1000
                while self._tokens < self.limits.batch_tokens and self._count + self._computing < self._active():
                    if not self._changed.wait(max(0.0, until - time.monotonic())):
                        break
                if batch := self._take():  # empty where all clients have gone, or another worker took theirs
                    self._computing += len(batch)
                    return batch

    def _take(self) -> list[Entry]:
        self._refuse_late()
        batch: list[Entry] = []
        tokens = 0
        while self._count and tokens < self.limits.batch_tokens:
            key, entries = self._entries.popitem(last=False)
            entry = entries.popleft()
            if entries:
                self._entries[key] = entries  # at the end: the other adapters come first
            self._count -= 1
            self._tokens -= entry.tokens
            if not entry.future.cancelled():
                batch.append(entry)
                tokens += entry.tokens
        self.metrics.waiting.labels(self.name).set(self._tokens)
        return batch

    def _refuse_late(self) -> None:
        """Answer with 503 those that have waited so long that their answers would be late; the first are the oldest."""
        since = time.monotonic() - _LATE * self.limits.deadline
        for key, entries in list(self._entries.items()):
            while entries and entries[0].since < since:
                late = entries.popleft()
                self._count -= 1
                self._tokens -= late.tokens
                self._loop.call_soon_threadsafe(_refuse, late)
            if not entries:
                del self._entries[key]

    def _answers(self, batch: list[Entry]) -> list[list[Any]]:
        results: list[list[Any]] = [[] for _ in batch]

        def stopped() -> bool:
            return all(entry.future.cancelled() for entry in batch)

        for pool in dict.fromkeys(entry.pool for entry in batch):
            indices = [i for i, entry in enumerate(batch) if entry.pool is pool]
            rows = [row for i in indices for row in batch[i].rows]
            scored = [batch[i].all_scores for i in indices for _ in batch[i].rows]
            try:
                values = iter(pool.answer(rows, all_scores=scored, stopped=stopped))
            except Exception as error:
                values = iter([error] * len(rows))
            for i in indices:
                results[i] = [next(values) for _ in batch[i].rows]
        return results


def _deliver(batch: list[Entry], results: list[list[Any]]) -> None:
    for entry, values in zip(batch, results, strict=True):
        if not entry.future.done():
            entry.future.set_result(values)


def _refuse(entry: Entry) -> None:
    if not entry.future.done():
        waited = time.monotonic() - entry.since
        line = f"the request waited {waited:.1f} s for its turn; try again when there is less to do"
        entry.future.set_exception(RequestError(503, line, {"Retry-After": "1"}))
