"""A generated text as a stream of pieces, from the thread that generates to the event loop that sends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from .target import Row


class Stream:
    """Pieces of a text as they are generated; `stop` ends the generation after its next token."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | BaseException | None] = asyncio.Queue()
        self._stopped = threading.Event()
        self._sent = 0
        self.cancelled: Callable[[], Any] = lambda: None
        """Called by `stop`, to leave the queue if generation hasn't begun."""

    def of(self, row: Row) -> Row:
        """Return a row with a generation that sends pieces here, and stops on request."""
        return row.streamed(self._send, self._stopped.is_set)

    def _send(self, text: str) -> None:
        if text:
            self._sent += len(text)
            self._loop.call_soon_threadsafe(self._queue.put_nowait, text)

    def finished(self, future: asyncio.Future[list[Any]]) -> None:
        """End the stream with the result of its generation: an error, or the text where no piece was sent."""
        if future.cancelled():
            self._queue.put_nowait(None)
            return
        value = future.exception() or future.result()[0]
        if isinstance(value, BaseException):
            self._queue.put_nowait(value)
        elif not self._sent:
            self._queue.put_nowait(value["generated_text"])
        self._queue.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            while (piece := await self._queue.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop generating: the client has gone, or has enough."""
        self._stopped.set()
        self.cancelled()
