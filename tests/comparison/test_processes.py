"""A comparison over several processes: the table of one process, and a strategy that ends its process is a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapterkit import Registry
from adapterkit.cluster import Executor, Local
from adapterkit.cluster.local_processes import LocalProcesses
from adapterkit.comparison import Options, compare
from adapterkit.report import Results
from adapterkit.watch import Watch
from tests.helpers.results import without_times

pytestmark = pytest.mark.usefixtures("no_speed")

DIES = '''
import os
from adapterkit.plugins.bitfit import BitFit

class Dies(BitFit):
    """Ends its process, as the system does where memory is short."""

    def apply(self, model):
        os.kill(os.getpid(), 9)
'''


class Notes(Watch):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, topic: str, text: str) -> None:
        self.notes.append(f"{topic} {text}")


@pytest.fixture
def dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install a strategy whose training kills its process; return its name."""
    info = tmp_path / "dies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dies\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[adapterkit.strategies]\ndies = dies:Dies\n")
    (tmp_path / "dies.py").write_text(DIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "dies"


@pytest.mark.slow
def test_processes_end_with_the_table_of_one(
    small_csv: Path, tmp_path: Path, tiny_folder: Callable[..., Path], dies: str
) -> None:
    strategies, watch = ("head-only", "bitfit"), Notes()

    def compared(name: str, executor: Executor, *more: str, trials: int = 2) -> Results:
        values: dict[str, Any] = dict.fromkeys(("train_file", "validation_file", "test_file"), str(small_csv))
        values |= {"name": name, "num_train_epochs": 2, "head": "model", "base": str(tiny_folder())}
        options = Options(strategies=(*strategies, *more), trials=trials, keep="none", command="")
        with executor:
            registry = Registry(tmp_path / "registry.json")
            return compare(values, registry, tmp_path / "studies", options, watch=watch, executor=executor)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        compared("one", Local())
        results = compared("two", LocalProcesses(2), dies)
    finally:
        torch.set_num_threads(threads)
    errors = {c.name: c.error for c in results.candidates if c.error}
    assert errors == {dies: "its process was ended by SIGKILL, as the system does where memory is short"}
    assert any(note.startswith("bitfit accuracy") for note in watch.notes)
    assert "Strategies were trained 2 at a time, in processes of 1 thread each" in " ".join(results.answer)
    one = without_times(tmp_path / "studies" / "one" / "results.json")
    two = without_times(tmp_path / "studies" / "two" / "results.json")
    assert one["candidates"] == [c for c in two["candidates"] if c["name"] != dies]
    assert len(next(c for c in one["candidates"] if c["name"] == "bitfit")["trials"]) == 2
