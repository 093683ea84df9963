"""Changed files of every format are read, or refused in one line; `python -m tests.fuzz_files` tries 200,000."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterkit.data.readers import READERS
from adapterkit.data.readers.compressed import SUFFIXES as COMPRESSED
from tests.fuzz_files import fuzz


@pytest.mark.slow
def test_no_changed_file_ends_in_a_traceback(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, 1200, seed=7)
    assert sum(outcomes.values()) == 1200
    assert {suffix for suffix, _ in outcomes} == {*READERS, *COMPRESSED}
    assert {"read", "cached", "streamed", "refused: DataError", "read, with bad rows"} <= {o for _, o in outcomes}
