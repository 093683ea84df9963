"""The folder of a run's checkpoints: when one is due, which are deleted, and what is read again."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import filelock
import pytest
import torch

from adapterkit.errors import TrainingError
from adapterkit.io.atomic import json_bytes, sha256
from adapterkit.settings import RUN_FILE, SavingOptions
from adapterkit.training.checkpoints import (
    ABOUT,
    STATE,
    Checkpoint,
    CheckpointError,
    Checkpoints,
    committed,
    read,
    unfinished,
)
from tests.helpers.resumable import Dies

TENSORS = {"learns/a": torch.arange(3.0), "learns/b": torch.ones(2), "optimizer/x/a": torch.zeros(3)}
BEST = {"best/a": torch.arange(3.0) + 1e-3, "best/b": torch.ones(2)}


def runs(folder: Path, watch: Any = None, identity: Any = None, **options: Any) -> Checkpoints:
    saving = SavingOptions(**options)
    return Checkpoints(folder / "runs" / "a" / "digest", saving, identity or {}, b"name: a\n", watch or Dies())


def written(folder: Path, *steps: int, **options: Any) -> Checkpoints:
    checkpoints = runs(folder, **options)
    for step in steps:
        assert checkpoints.save(Checkpoint({"step": step, "best": []}, {**TENSORS, **BEST}), step)
    checkpoints.close()
    return checkpoints


def test_one_is_due_after_steps_or_after_minutes(tmp_path: Path) -> None:
    by_steps = runs(tmp_path, save_steps=3)
    assert [step for step in range(1, 10) if by_steps.due(step)] == [3, 6, 9]
    by_minutes = runs(tmp_path, save_minutes=2.0)
    by_minutes._saved = time.monotonic() - 119
    assert not by_minutes.due(3)
    by_minutes._saved = time.monotonic() - 120
    assert by_minutes.due(3)
    with contextlib.closing(by_minutes):
        by_minutes.save(Checkpoint({}, TENSORS), 3)
    assert not by_minutes.due(6)


def test_it_is_read_as_it_was_written_and_unchanged_best_values_are_stored_once(tmp_path: Path) -> None:
    folder = written(tmp_path, 5, identity={"r": 8}).folder
    ((number, step, path),) = committed(folder)
    assert (number, step, path.name) == (1, 5, "checkpoint-0001-00000005")
    assert (folder / RUN_FILE).read_bytes() == b"name: a\n"
    checkpoint, identity = read(path)
    assert (checkpoint.progress, identity) == ({"step": 5, "best": ["a", "b"]}, {"r": 8})
    assert checkpoint.tensors.keys() == {*TENSORS, *BEST}
    for name, tensor in {**TENSORS, **BEST}.items():
        assert torch.equal(checkpoint.tensors[name], tensor), name
    assert checkpoint.named("learns/").keys() == checkpoint.named("best/").keys() == {"a", "b"}
    document = json.loads((path / ABOUT).read_bytes())
    body = document["checkpoint"]
    assert document["sha256"] == sha256(json_bytes(body))
    assert body["state"] == {"sha256": sha256((path / STATE).read_bytes()), "bytes": (path / STATE).stat().st_size}
    assert body["run"] == [1, 5]


@pytest.mark.parametrize("limit", [1, 2])
def test_only_the_newest_of_this_run_are_left(limit: int, tmp_path: Path) -> None:
    folder = written(tmp_path, 1, 2, 3, 4, save_total_limit=limit).folder
    assert [step for _, step, _ in committed(folder)] == [3, 4][-limit:]
    again = written(tmp_path, 2, save_total_limit=limit)
    assert [(number, step) for number, step, _ in committed(folder)] == [(2, 2)]
    assert again.number == 2


def test_what_an_interrupted_write_left_is_deleted(tmp_path: Path) -> None:
    folder = written(tmp_path, 1).folder
    for name in (".checkpoint-0001-00000002.x", ".deleted-1"):
        (folder / name).mkdir()
        (folder / name / "half").touch()
    (folder / "other").mkdir()
    with contextlib.closing(runs(tmp_path)) as checkpoints:
        assert checkpoints.newest() is not None
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["checkpoint-0001-00000001", "other"]


def test_a_resumed_run_continues_its_number_and_deletes_damaged_ones_after_it(tmp_path: Path) -> None:
    folder = written(tmp_path, 1, 2).folder
    (committed(folder)[-1][2] / STATE).write_bytes(b"")
    watch = Dies()
    with contextlib.closing(runs(tmp_path, watch)) as checkpoints:
        found = checkpoints.newest()
    assert found is not None
    assert (found.progress["step"], checkpoints.number) == (1, 1)
    assert [step for _, step, _ in committed(folder)] == [1]
    assert watch.said[-1] == f"resumed: at step 1 ({committed(folder)[0][2]})"
    assert any(line.startswith("checkpoint: ") and "00000002 is damaged" in line for line in watch.said)


def test_another_process_with_the_same_run_writes_nothing(tmp_path: Path) -> None:
    folder, watch = written(tmp_path, 1).folder, Dies()
    with filelock.FileLock(folder / ".lock"):
        checkpoints = runs(tmp_path, watch)
        assert [checkpoints.save(Checkpoint({}, TENSORS), step) for step in (2, 3)] == [False, False]
        with pytest.raises(TrainingError, match="another process is running this already"):
            runs(tmp_path).newest()
    assert len(watch.said) == 1
    assert str(folder) in watch.said[0]
    assert [step for _, step, _ in committed(folder)] == [1]


def test_a_finished_run_leaves_no_folder_and_another_runs_stay(tmp_path: Path) -> None:
    other = written(tmp_path / "x", 1).folder
    assert unfinished(tmp_path / "x") == {other: 1}
    with contextlib.closing(runs(tmp_path / "x")) as checkpoints:
        assert checkpoints.newest() is not None
        beside = other.parent / "another"
        beside.mkdir()
        checkpoints.finish()
    assert not other.exists()
    assert beside.is_dir()
    beside.rmdir()
    written(tmp_path / "x", 1)
    with contextlib.closing(runs(tmp_path / "x")) as checkpoints:
        checkpoints.newest()
        checkpoints.finish()
    assert list((tmp_path / "x").iterdir()) == []
    assert unfinished(tmp_path / "x") == {}


def test_unfinished_runs_are_those_with_options_and_a_checkpoint(tmp_path: Path) -> None:
    folder = written(tmp_path, 3, 7).folder
    empty = folder.parent / "empty"
    empty.mkdir()
    (empty / RUN_FILE).touch()
    assert unfinished(tmp_path) == {folder: 7}
    (folder / RUN_FILE).unlink()
    assert unfinished(tmp_path) == {}


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({"r": 8}, {"r": 4}, "was written with r=8, but this run has 4"),
        ({"r": 8}, {}, "was written with r=8, but this run has null"),
        ({}, {"r": 8}, "was written with r=null, but this run has 8"),
        ({"r": "x" * 99}, {"r": 8}, 'r="x{56}\\.\\.\\., but'),
    ],
)
def test_a_checkpoint_of_other_options_is_an_error_with_both(
    before: dict[str, Any], now: dict[str, Any], message: str, tmp_path: Path
) -> None:
    written(tmp_path, 1, identity=before)
    with (
        contextlib.closing(runs(tmp_path, identity=now)) as checkpoints,
        pytest.raises(TrainingError, match=message),
    ):
        checkpoints.newest()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: body.update(format_version=9), "format version 9; this adapterkit reads 2"),
        (lambda body: body.update(run=[1, 2]), r"written as checkpoint \[1, 2\] and then renamed"),
        (lambda body: body.update(identity=[]), "must be JSON objects"),
        (lambda body: body["progress"].update(best=["a", "c"]), "'c'"),
        (lambda body: body["state"].update(bytes=7), "7"),
        (lambda body: body["state"].update(sha256="0"), "was truncated or changed"),
        (lambda body: body.pop("state"), "'state'"),
    ],
)
def test_a_changed_part_is_named_even_with_its_digest_made_anew(change: Any, message: str, tmp_path: Path) -> None:
    path = committed(written(tmp_path, 1).folder)[0][2]
    body = json.loads((path / ABOUT).read_bytes())["checkpoint"]
    change(body)
    (path / ABOUT).write_bytes(json_bytes({"sha256": sha256(json_bytes(body)), "checkpoint": body}))
    with pytest.raises(CheckpointError, match=f"{path} is damaged: .*{message}"):
        read(path)


def test_values_that_are_not_finite_numbers_are_an_error(tmp_path: Path) -> None:
    for name, wrong in (("learns/a", torch.tensor([1.0, float("nan"), 0.0])), ("learns/b", torch.ones(2).int())):
        checkpoints = runs(tmp_path / name.replace("/", "-"))
        with contextlib.closing(checkpoints):
            checkpoints.save(Checkpoint({"best": []}, {**TENSORS, name: wrong}), 1)
        with pytest.raises(CheckpointError, match=f"'{name}' contains numbers that aren't finite"):
            read(committed(checkpoints.folder)[0][2])
