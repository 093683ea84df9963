"""A private copy has the file's bytes, of its expected size, from a regular file."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from adapterkit.io.private_copy import PrivateCopy


def test_later_changes_of_the_file_do_not_reach_the_copy(tmp_path: Path) -> None:
    path, data = tmp_path / "file", bytes(range(256)) * 5000
    path.write_bytes(data)
    copy = PrivateCopy(path, len(data))
    path.write_bytes(b"\0" * len(data))
    assert bytes(copy.data) == data
    if copy.path is not None:
        assert Path(copy.path).read_bytes() == data
        before = len(os.listdir("/proc/self/fd"))
        del copy
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) < before


def test_where_there_is_no_file_in_memory_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    (tmp_path / "file").write_bytes(b"abc")
    copy = PrivateCopy(tmp_path / "file", 3)
    assert (bytes(copy.data), copy.path) == (b"abc", None)


@pytest.mark.parametrize("size", [0, 2, 4])
def test_another_size_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    with pytest.raises(ValueError, match=f"3 bytes, expected {size}"):
        PrivateCopy(tmp_path / "file", size)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    messages = {"link": "it is a link", "pipe": "it is no regular file", "missing": "No such file"}
    for name, message in messages.items():
        with pytest.raises(OSError, match=message):
            PrivateCopy(tmp_path / name, 3)
