"""The log of rows with answers, and of rows with labels that clients sent back, in files that `adapt run` trains on."""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OptionError, unknown

PATTERNS = {
    "email": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "url": r"(?:https?://|www\.)\S+",
    "number": r"\+?\d(?:[\d ./()-]*\d)?",
}
"""What can be redacted, by name."""
_MOST_BYTES = 100_000_000
_FILES = 5


class RequestLog:
    """Rows with answers in `path`, and rows with labels of NAME in a file beside it; both are rotated."""

    def __init__(self, path: Path, redact: Sequence[str] = ()) -> None:
        """Open the file. `redact` are names of `PATTERNS`. Raises `OptionError`."""
        for name in redact:
            if name not in PATTERNS:
                raise OptionError(unknown("kind of text to redact", name, PATTERNS, known_as="there are"))
        self._redacted = re.compile("|".join(PATTERNS[name] for name in redact)) if redact else None
        self._path, self._files = path, {"": _opened(path)}

    def feedback_path(self, name: str) -> Path:
        """Return the file of the labelled rows of an adapter."""
        return self._path.with_name(f"{self._path.stem}.{name}.feedback.jsonl")

    def write(self, about: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        """Append a row and its answer."""
        self._write("", about, row)

    def write_feedback(self, name: str, about: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        """Append a row of adapter `name` and the label that a client sent."""
        if name not in self._files:
            self._files[name] = _opened(self.feedback_path(name))
        self._write(name, about, row)

    def _write(self, name: str, about: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        line = json.dumps({**about, **self._without(row)}, ensure_ascii=False)
        self._files[name].emit(logging.LogRecord("", logging.INFO, "", 0, line, None, None))

    def _without(self, value: Any) -> Any:
        """Return a value with every match replaced by x of the same length, so that offsets hold."""
        if self._redacted is None:
            return value
        if isinstance(value, str):
            return self._redacted.sub(lambda match: re.sub(r"\S", "x", match[0]), value)
        if isinstance(value, Mapping):
            return {key: self._without(item) for key, item in value.items()}
        return [self._without(item) for item in value] if isinstance(value, list | tuple) else value

    @property
    def failed(self) -> int:
        """The number of rows that couldn't be written, such as on a full disk."""
        return sum(file.failed for file in self._files.values())

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


class _File(logging.handlers.RotatingFileHandler):
    """A rotated file that reports the first row that can't be written, and counts the rest."""

    failed = 0

    def handleError(self, record: logging.LogRecord) -> None:
        self.failed += 1
        if self.failed == 1:
            line = {"error": f"the log of requests can't be written: {sys.exc_info()[1]}; rows are answered unlogged"}
            print(json.dumps(line), file=sys.stderr, flush=True)
        stream, self.stream = self.stream, None  # opened again by the next row, without what couldn't be written
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()


def _opened(path: Path) -> _File:
    try:
        return _File(path, maxBytes=_MOST_BYTES, backupCount=_FILES, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"can't write --log-requests {path}: {error.strerror}") from None
