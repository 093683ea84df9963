"""Failing system calls leave the old state or the new one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests import faults
from tests.helpers.files import ROOT

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace isn't installed")


@pytest.mark.slow
@needs_strace
def test_whatever_fails_there_is_the_old_state_or_the_new_and_weak_writers_are_found_out() -> None:
    """A cut of `python -m tests.faults`, by a process that is small, and so quickly forked."""
    cut = ["--every", "90", "--states", "6", "--operations", "save,rollback,gc"]
    command = [sys.executable, "-m", "tests.faults", *cut]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    total = json.loads(done.stdout.splitlines()[-1].partition(": ")[2])
    assert all(total[fault] for fault in faults.FAULTS)
