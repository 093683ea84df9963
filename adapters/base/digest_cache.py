"""Cache digests of files on disk, keyed by the files' paths, sizes and times of change."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import FileError
from ..io.atomic import json_bytes, sha256, write_file

SCHEME = "v2"
"""The prefix of fingerprints; a change in how they are computed gets a new one, so that old ones are recognised."""

SETTLE_NS = 2_000_000_000
"""Nanoseconds after a file's last change before its digest is cached: it may change again within one clock tick."""

FileStates = Sequence[Sequence[str | int]]
"""For each file its path, device, inode, size, and the times in ns of the last change of content and inode."""


def file_states(files: Iterable[str | Path]) -> FileStates:
    """Return the current states of files, or an empty list where one doesn't exist."""
    try:
        stats = [(path, os.stat(path)) for path in sorted(map(os.path.realpath, files))]
    except OSError:
        return []
    return [[path, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for path, s in stats]


def cache_folder() -> Path:
    """Return the folder of the cache, created where it is missing. Raises `OSError`."""
    from huggingface_hub import cached_assets_path

    return Path(cached_assets_path("adapterkit", "digests"))


def cached_digests(
    states: FileStates, what: Any, compute: Callable[[], dict[str, str]], is_valid: Callable[[dict[str, str]], bool]
) -> dict[str, str]:
    """Return `compute()`, or its cached result where the files are in the same `states` as then and now.

    `what` describes the computation, in JSON values. A cached result is used only if `is_valid` returns True for it.
    """
    key = sha256(json_bytes([SCHEME, [file[0] for file in states], what]))
    unchanged = bool(states) and file_states([str(file[0]) for file in states]) == states
    cached = _read(f"{key}.json", states) if unchanged else None
    if cached is not None and is_valid(cached):
        return cached
    digests = compute()
    last_change = max((int(at) for file in states for at in file[-2:]), default=0)
    settled = last_change + SETTLE_NS < time.time_ns()
    if unchanged and settled and file_states([str(file[0]) for file in states]) == states:
        content = [states, digests]
        with contextlib.suppress(FileError, OSError):  # without a cache, the next call computes again
            write_file(cache_folder() / f"{key}.json", json_bytes([*content, sha256(json_bytes(content))]))
    return digests


def _read(name: str, states: FileStates) -> dict[str, str] | None:
    """Return a cache file's digests, or None where it is missing, damaged or of other states."""
    try:
        before, digests, checksum = json.loads((cache_folder() / name).read_bytes())
        intact = checksum == sha256(json_bytes([before, digests]))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return digests if intact and before == states and isinstance(digests, dict) else None
