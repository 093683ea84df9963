"""Hide the progress bars of datasets where a Watch reports the same progress."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def bars_hidden() -> Iterator[None]:
    """Hide the progress bars of datasets inside; afterwards they are as the caller set them.

    datasets has no other switch for its bars than one for the whole process.
    """
    import datasets

    hidden = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            datasets.enable_progress_bars()
