"""Failing system calls leave the old state or the new one."""

from __future__ import annotations

import shutil

import pytest

from tests import faults

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace isn't installed")


@pytest.mark.slow
@needs_strace
def test_whatever_fails_there_is_the_old_state_or_the_new_and_weak_writers_are_found_out() -> None:
    """A cut of `python -m tests.faults`."""
    total = faults.run(every=90, states=6, operations=("save", "rollback", "gc"))
    assert all(total[fault] for fault in faults.FAULTS)
