"""Remember digests of files by their place, size and time."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import RegistryError
from ..io.atomic import json_bytes, sha256, write_file

SCHEME = "v2"
"""What a fingerprint begins with: another way of making it gets another name, so that the two are told apart."""


SETTLED = 2_000_000_000  # ns: a file that changed later may change again within one tick of the clock


Seen = Sequence[Sequence[str | int]]
"""What files looked like: path, device, inode, size, and when the content and the inode changed, in ns."""


def seen(files: Iterable[str | Path]) -> Seen:
    """Return what files look like now, or nothing where one of them isn't there."""
    try:
        found = [(path, os.stat(path)) for path in sorted(map(os.path.realpath, files))]
    except OSError:
        return []
    return [[path, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for path, s in found]


def place() -> Path:
    """Return the folder of what is remembered; it is made where it isn't there. Raises `OSError`."""
    from huggingface_hub import cached_assets_path

    return Path(cached_assets_path("adapterkit", "digests"))


def remembered(
    before: Seen, what: Any, make: Callable[[], dict[str, str]], check: Callable[[dict[str, str]], bool]
) -> dict[str, str]:
    """Return what `make` says of files, from the cache where it has that for files that look as `before` and now.

    `what` says in JSON values what is made of them. `check` is asked whether what was found can be right.
    """
    key = sha256(json_bytes([SCHEME, [file[0] for file in before], what]))
    unchanged = bool(before) and seen([str(file[0]) for file in before]) == before
    found = _recall(f"{key}.json", before) if unchanged else None
    if found is not None and check(found):
        return found
    made = make()
    changed = max((int(at) for file in before for at in file[-2:]), default=0)
    if unchanged and changed + SETTLED < time.time_ns() and seen([str(file[0]) for file in before]) == before:
        content = [before, made]
        with contextlib.suppress(RegistryError, OSError):  # without a cache, it is made again next time
            write_file(place() / f"{key}.json", json_bytes([*content, sha256(json_bytes(content))]))
    return made


def _recall(name: str, now: Seen) -> dict[str, str] | None:
    try:
        before, digests, stated = json.loads((place() / name).read_bytes())
        whole = stated == sha256(json_bytes([before, digests]))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return digests if whole and before == now and isinstance(digests, dict) else None
