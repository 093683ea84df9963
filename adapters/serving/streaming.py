"""A generated text as a stream of pieces, from the thread that generates to the event loop that sends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteriaList, TextStreamer


def stop_where(stopped: Callable[[], bool]) -> StoppingCriteriaList:
    """Return criteria that end the generation of a batch once `stopped` returns true."""

    def criterion(input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        return torch.full((len(input_ids),), stopped(), dtype=torch.bool, device=input_ids.device)

    return StoppingCriteriaList([criterion])


class Stream:
    """Pieces of a text as they are generated; `stop` ends the generation after its next token."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._loop = tokenizer, asyncio.get_running_loop()
        self._queue: asyncio.Queue[str | BaseException | None] = asyncio.Queue()
        self._stopped = threading.Event()
        self._sent = 0
        self.cancelled: Callable[[], Any] = lambda: None
        """Called by `stop`, to leave the queue if generation hasn't begun."""

    def options(self) -> dict[str, Any]:
        """Return the options of generate that send pieces and stop on request."""
        streamer = TextStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        streamer.on_finalized_text = self._send
        return {"streamer": streamer, "stopping_criteria": stop_where(self._stopped.is_set)}

    def _send(self, text: str, stream_end: bool = False) -> None:
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
