"""A private copy has the file's bytes, of its expected size, from a regular file."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from adapterkit.io.private_copy import PrivateCopy


def test_later_changes_of_the_file_do_not_reach_the_copy(tmp_path: Path) -> None:
    path, data = tmp_path / "file", bytes(range(256)) * 5000
    path.write_bytes(data)
    copy = PrivateCopy(path, len(data))
    path.write_bytes(b"\0" * len(data))
    assert bytes(copy.data) == data
    if (folder := copy.folder) is not None:
        assert (Path(folder) / PrivateCopy.NAME).read_bytes() == data
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        copy.delete()
        assert not os.path.exists(folder)
        assert (bytes(copy.data), copy.folder) == (data, None), "what is mapped stays"


@pytest.mark.skipif(not hasattr(os, "sendfile"), reason="a system without sendfile has no folder")
def test_a_folder_goes_with_its_copy_and_with_a_process_that_ends(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    copy = PrivateCopy(tmp_path / "file", 3)
    folder = copy.folder
    assert folder is not None
    del copy
    gc.collect()
    assert not os.path.exists(folder)
    code = "import sys; from pathlib import Path; from adapterkit.io.private_copy import PrivateCopy as P\n"
    code += "copy = P(Path(sys.argv[1]), 3); print(copy.folder); raise ValueError"
    ended = subprocess.run([sys.executable, "-c", code, tmp_path / "file"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert not os.path.exists(ended.stdout.strip())


@pytest.mark.parametrize("lacks", ["sendfile", "room", "a folder"])
def test_where_there_is_no_folder_bytes_are_read(lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **named: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    if lacks == "sendfile":
        monkeypatch.delattr(os, "sendfile", raising=False)
    else:
        monkeypatch.setattr(*((os, "sendfile") if lacks == "room" else (tempfile, "mkdtemp")), full)
    (tmp_path / "file").write_bytes(b"abc")
    before = set(os.listdir(tempfile.gettempdir()))
    copy = PrivateCopy(tmp_path / "file", 3)
    assert (bytes(copy.data), copy.folder) == (b"abc", None)
    assert not [name for name in set(os.listdir(tempfile.gettempdir())) - before if name.startswith("adapterkit-")]
    copy.delete()


def test_a_small_memory_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's /dev/shm has 64 MB."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").write_bytes(b"abc")
    copy = PrivateCopy(tmp_path / "file", 3)
    assert copy.folder is None or Path(copy.folder).parent == tmp_path


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
