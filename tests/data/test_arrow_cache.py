"""What was read is cached by content, in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from adapterkit.data import arrow_cache
from adapterkit.data import splits as data
from adapterkit.errors import DataError
from adapterkit.settings import DataOptions
from tests.helpers.files import write
from tests.helpers.watches import Listening


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nold,x\n")
    assert data.read(path)["text"][:] == ["old"]
    assert data.read(write(Path(path), "text,label\nnew,x\n"))["text"][:] == ["new"]


def test_content_that_was_read_is_not_read_again_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    writes: list[Path] = []
    really = arrow_cache._write
    monkeypatch.setattr(
        arrow_cache, "_write", lambda start, target, *more: writes.append(target) or really(start, target, *more)
    )
    content = "a O\n\nb x O\n"
    bad = DataOptions(skip_bad_rows=True)
    data.read(write(tmp_path / "a.conll", content), bad)
    notes: list[str] = []
    read = data.read(write(tmp_path / "moved.conll", content), bad, notes=notes)
    assert read["tokens"][:] == [["a"]]
    assert notes[0].startswith(f"1 bad row skipped in {tmp_path / 'moved.conll'}, at line 3: 3 columns")
    assert len(writes) == 1
    data.read(write(tmp_path / "a.txt", content), bad)  # the same bytes, of another kind
    assert len(writes) == 2
    monkeypatch.setattr(arrow_cache, "VERSION", arrow_cache.VERSION + 1)
    data.read(str(tmp_path / "a.txt"), bad)
    assert len(writes) == 3
    options = [DataOptions(), DataOptions(tag_column=1)]
    path = write(tmp_path / "b.conll", "a x O\n")
    assert [data.read(path, o)["tags"][0] for o in options] == [["O"], ["x"]]
    each = [sorted(p.name for p in folder.iterdir()) for folder in (cache / "adapterkit").iterdir()]
    assert each == [["rows.arrow", "rows.json"]] * 5  # nothing half done


def test_nothing_is_kept_of_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    path = write(tmp_path / "a.csv", "text,label\nold,x\n")
    really = arrow_cache._write

    def late(*given: Any) -> Any:
        os.utime(write(Path(path), "text,label\nnew,x\n"), ns=(0, 0))
        return really(*given)

    monkeypatch.setattr(arrow_cache, "_write", late)
    with pytest.raises(DataError, match=r"a.csv was changed while it was being read"):
        data.read(path)
    assert list((cache / "adapterkit").iterdir()) == []


def test_a_cache_that_can_not_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/proc/nowhere")
    with pytest.raises(DataError, match=r"a.csv can't be cached in '/proc/nowhere/adapterkit': "):
        data.read(write(tmp_path / "a.csv", "a\n1\n"))


def test_a_bar_is_shown_only_where_reading_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "train.csv", "a,b\n" + "x,y\n" * 5000)
    quick, slow = Listening(), Listening()
    data.load(DataOptions(train_file=path), quick)
    assert quick.bars == []
    monkeypatch.setattr(arrow_cache, "SLOW", 0.0)
    data.load(DataOptions(train_file=write(tmp_path / "train.csv", "a,b\n" + "x,z\n" * 5000)), slow)
    assert slow.bars == [("reading train.csv", 20004)]
    assert 0 < slow.done <= 20004


PEAK = """
import sys
from pathlib import Path
from adapterkit.data import splits as data
rows = len(data.read(sys.argv[1]))
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(rows, int(peak.split()[1]) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc tells the memory of a process")
def test_a_big_file_does_not_need_its_size_in_memory(tmp_path: Path, cache: Path) -> None:
    row = json.dumps({"text": "so it goes " * 180, "labels": ["a", "b"]}) + "\n"
    count = 100_000_000 // len(row)
    write(tmp_path / "small.jsonl", row)
    with open(tmp_path / "big.jsonl", "w") as file:
        for _ in range(count - 1):
            file.write(row)
        file.write(json.dumps({"text": None, "score": 1.5}))  # a new column at the end: it is read twice

    def peak(name: str) -> list[int]:
        env = {**os.environ, "HF_DATASETS_CACHE": str(cache)}
        command = [sys.executable, "-c", PEAK, str(tmp_path / name)]
        return [int(n) for n in subprocess.run(command, env=env, check=True, capture_output=True).stdout.split()]

    (one, small), (many, big) = peak("small.jsonl"), peak("big.jsonl")
    (tmp_path / "big.jsonl").unlink()
    assert (one, many) == (1, count)
    assert big - small < 75
