"""Runs that died go on where they were, and end as if nothing had happened; damage is never met in silence."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import safetensors.torch
import torch

from adapterkit import Base, Plan, Registry, Replace, Strategy, Watch, run
from adapterkit.errors import TrainingError
from adapterkit.io import bitplanes
from adapterkit.io import tensors as tensorfile
from adapterkit.settings import SavingOptions
from adapterkit.testing import bench
from adapterkit.training import checkpoints
from adapterkit.training.checkpoints import ABOUT, STATE, CheckpointError, committed, read
from tests.helpers import forked
from tests.helpers.cli import Adapt
from tests.helpers.families import slow
from tests.helpers.files import ROOT
from tests.helpers.resumable import Dies, plan


@pytest.fixture
def dead(tiny_folder: Callable[..., Path], small_csv: Path, registry: Registry) -> Path:
    """Return the folder of a run that died after eight steps, with its two newest checkpoints."""
    values = plan(small_csv, base=str(tiny_folder()))
    with pytest.raises(KeyboardInterrupt):
        run(values, registry, watch=Dies(9))
    (folder,) = (registry.path.parent / "runs" / "dies").iterdir()
    assert [step for _, step, _ in committed(folder)] == [7, 8]
    assert not registry.path.exists()
    return folder


@pytest.mark.slow
def test_killed_after_steps_and_resumed_a_run_is_the_run() -> None:
    """A cut; `python -m tests.killing` is the whole of it."""
    strategies = "settling"
    cut = ["--every", "11", "--most", "1", "--at-once", "4", "--strategies", strategies]
    command = [sys.executable, "-m", "tests.killing", *cut]
    said = forked.run(command, cwd=ROOT)
    assert said.returncode == 0, said.stderr[-3000:]
    assert said.stdout.count("byte-identical") == 2
    assert "4 runs that end at once: all of them are registered" in said.stdout


@pytest.mark.parametrize(
    ("options", "dies"),
    [
        ({"gradient_accumulation_steps": 2}, 5),
        ({"task": "fill-mask", "strategy": "full", "max_seq_length": 16}, 5),
        ({"strategy": "head-only"}, None),
        ({"keep_features": True, "strategy": "layerwise", "top": 1}, 5),
        *slow(
            ({"early_stopping_patience": 1, "lr_scheduler_type": "cosine"}, 5),
            ({"learning_rate": "auto", "num_train_epochs": 9}, 40),
            ({"layer_lr_decay": 0.5, "strategy": "full", "max_tokens_per_batch": 24}, 5),
            ({"learning_rate": 3.0, "head_init": "probe"}, 5),
        ),
    ],
    ids=["accumulated", "masks", "probe", "features kept", "stopped early", "rate found", "two rates", "start best"],
)
def test_a_resumed_run_is_the_run(
    options: dict[str, Any],
    dies: int | None,
    tiny_folder: Callable[..., Path],
    small_csv: Path,
    tmp_path: Path,
    registry: Registry,
) -> None:
    if options.get("task") == "fill-mask":
        from adapterkit.testing import tiny

        base = Base.load(str(tiny.make("bert", tmp_path / "masks", head="AutoModelForMaskedLM")))
        options = {**options, "text_column_name": "text"}
    else:
        base = Base.load(str(tiny_folder()))
    wanted = run(plan(small_csv, **options), Registry(tmp_path / "whole" / "registry.json"), base=base)
    with pytest.raises(KeyboardInterrupt) if dies else contextlib.nullcontext():
        run(plan(small_csv, **options), registry, base=base, watch=Dies(dies))
    watch = Dies()
    found = run(plan(small_csv, **options), registry, base=base, resume=True, watch=watch)
    if dies:
        assert any(line.startswith("resumed") for line in watch.said)
    assert (found.version, found.history) == (wanted.version, wanted.history)
    assert not (registry.path.parent / "runs").exists()


def test_without_resume_a_run_begins_anew(dead: Path, tiny_base: Base, small_csv: Path, registry: Registry) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(plan(small_csv, base=tiny_base.path), registry, base=tiny_base, watch=Dies(3))
    assert [(number, step) for number, step, _ in committed(dead)] == [(2, 1), (2, 2)]


def test_another_run_is_not_gone_on_with(dead: Path, tiny_base: Base, small_csv: Path, registry: Registry) -> None:
    watch = Dies()
    run(plan(small_csv, base=tiny_base.path, learning_rate=3e-3), registry, base=tiny_base, resume=True, watch=watch)
    (line,) = [line for line in watch.said if line.startswith("resumed")]
    beginning = "resumed: no checkpoint with these options: starts from the beginning"
    assert line == f"{beginning}; unfinished with other options: {dead}"
    assert len(committed(dead)) == 2
    with small_csv.open("a") as file:
        file.write("one more,pos\n")
    with pytest.raises(TrainingError, match="was written with data="):
        run(plan(small_csv, base=tiny_base.path), registry, base=tiny_base, resume=True)


def damages(folder: Path, older: Path, draw: random.Random) -> str:
    """Damage a checkpoint in one of the ways in which disks and people do."""
    file = folder / draw.choice((STATE, STATE, ABOUT))
    data = bytearray(file.read_bytes())
    kind = draw.choice(("cut", "flip", "flip", "flip", "gone", "swapped", "more", "empty", "zeros", "moved"))
    if kind == "cut":
        file.write_bytes(data[: draw.randrange(len(data))])
    elif kind == "flip":
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
    elif kind == "gone":
        file.unlink()
    elif kind == "swapped":
        shutil.copy(older / file.name, file)
    elif kind == "more":
        file.write_bytes(data + bytes(draw.randrange(1, 9)))
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "zeros":
        at = draw.randrange(len(data))
        data[at : at + 512] = bytes(min(512, len(data) - at))
        file.write_bytes(data)
    else:
        shutil.rmtree(folder)
        shutil.copytree(older, folder)
    return kind


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_damage_is_named_and_the_one_before_is_taken(
    seed: int, dead: Path, registry: Registry, tiny_base: Base, small_csv: Path, tmp_path: Path
) -> None:
    """Fifty damages each, two hundred in all."""
    shutil.copytree(dead, tmp_path / "whole")
    wanted = read(committed(dead)[0][2])[0]
    draw = random.Random(seed)
    for _ in range(50):
        shutil.rmtree(dead)
        shutil.copytree(tmp_path / "whole", dead)
        (_, _, older), (_, _, newest) = committed(dead)
        kind = damages(newest, older, draw)
        with pytest.raises(CheckpointError, match=str(newest)):
            read(newest)
        watch = Dies()
        kept = checkpoints.Checkpoints(dead, plan(small_csv, base=tiny_base.path).saving, read(older)[1], b"", watch)
        found = kept.newest()
        kept.close()
        assert found is not None, kind
        assert any(f"{newest} is damaged" in line for line in watch.said), kind
        assert found.progress == wanted.progress
        assert all(torch.equal(found.tensors[name], values) for name, values in wanted.tensors.items())
    shutil.rmtree(dead)
    shutil.copytree(tmp_path / "whole", dead)
    for _, _, path in committed(dead):
        (path / STATE).write_bytes(b"")
    with pytest.raises(
        TrainingError, match=r"every checkpoint in .* is damaged; `adapt run --config .* starts from the beginning"
    ):
        run(plan(small_csv, base=tiny_base.path), registry, base=tiny_base, resume=True)


def test_a_full_disk_leaves_the_older_ones(
    dead: Path, tiny_base: Base, small_csv: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.fsync

    def full(handle: int) -> None:
        if "state.safetensors" in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(28, "No space left on device")
        write(handle)

    monkeypatch.setattr(os, "fsync", full)
    watch = Dies(2)
    with pytest.raises(KeyboardInterrupt):
        run(plan(small_csv, base=tiny_base.path), registry, base=tiny_base, resume=True, watch=watch)
    assert any("not written" in line and "No space left" in line for line in watch.said)
    assert [step for _, step, _ in committed(dead)] == [7, 8]


def test_a_run_that_is_under_way_is_not_taken_up(
    dead: Path, tiny_base: Base, small_csv: Path, registry: Registry
) -> None:
    import filelock

    with (
        filelock.FileLock(dead / ".lock"),
        pytest.raises(TrainingError, match="another process is running this already"),
    ):
        run(plan(small_csv, base=tiny_base.path), registry, base=tiny_base, resume=True)


@pytest.mark.slow
def test_a_checkpoint_of_lora_is_less_than_four_adapters(minilm: Base, registry: Registry) -> None:
    values = {
        "max_train_samples": 40,
        "max_seq_length": 16,
        "num_train_epochs": 3,
        "save_steps": 1,
        "name": "size",
        "max_eval_samples": 20,
    }
    with pytest.raises(KeyboardInterrupt):
        run(Plan.resolve(values), registry, base=minilm, watch=Dies(7))
    (folder,) = (registry.path.parent / "runs" / "size").iterdir()
    newest = committed(folder)[-1][2]
    assert read(newest)[0].named(checkpoints.BEST)  # which is not what learns, in the middle of an epoch
    size = sum(file.stat().st_size for file in newest.iterdir())
    report = run(Plan.resolve(values), registry, base=minilm, resume=True)
    assert 3 < size / report.adapter_bytes < 4


def test_resume_lists_runs_and_goes_on_with_one(adapt: Adapt, dead: Path, registry: Registry) -> None:
    where = ("--registry", registry.path)
    listed = adapt("resume", *where)
    assert "dies" in listed.stdout
    (told,) = json.loads(adapt("resume", "--json", *where).stdout)
    assert (told["name"], told["folder"], told["step"]) == ("dies", str(dead), 8)
    assert "is not the folder of a run" in adapt("resume", dead.parent, *where).stderr
    assert "no interrupted run named 'dyes'; did you mean 'dies'?" in adapt("resume", "dyes", *where).stderr
    found = adapt("resume", "dies", *where)
    assert found.exit_code == 0, found.stderr
    assert "at step 8" in found.stderr
    assert list(registry.adapters()) == ["dies"]
    assert "no interrupted runs" in adapt("resume", *where).stdout


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, np.uint8])
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_packed_numbers_come_back(dtype: Any, size: int) -> None:
    draw = np.random.default_rng(size)
    like = draw.normal(size=size).astype(dtype)
    values = (like * 1.001).astype(dtype)
    packed = bitplanes.pack(values, like)
    assert bitplanes.unpack(packed, like).tobytes() == values.tobytes()
    if size == 5000:
        assert len(packed) < values.nbytes
        for wrong in (packed[:-1], np.append(packed, np.uint8(0)), packed[: len(packed) // 2]):
            with pytest.raises((ValueError, IndexError)):
                bitplanes.unpack(wrong, like)


def test_a_file_in_parts_is_a_safetensors_file(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5),
        "b": torch.arange(7, dtype=torch.uint8),
        "c": torch.randn(4).bfloat16(),
        "scalar": torch.tensor(2.0),
        "nothing": torch.empty(0, 4),
    }
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"".join(bytes(part) for part in tensorfile.chunks(tensors)))
    found = safetensors.torch.load_file(path)
    assert found.keys() == tensors.keys()
    assert all(
        torch.equal(found[name], values) and found[name].dtype == values.dtype for name, values in tensors.items()
    )


@pytest.mark.parametrize("change", ["more", "less", "other", "none"])
def test_a_checkpoint_whose_identity_has_a_key_more_or_less_is_another_runs(change: str, tmp_path: Path) -> None:
    def checkpoints_of(identity: dict[str, Any]) -> checkpoints.Checkpoints:
        return checkpoints.Checkpoints(tmp_path / "runs" / "a" / "run", SavingOptions(), identity, b"")

    identity = {"options": {"r": 8}, "processes": 1, "threads": None}
    with contextlib.closing(checkpoints_of(identity)) as written:
        assert written.save(checkpoints.Checkpoint({}, {"learns/x": torch.zeros(2)}), 3)
    now = {
        "more": {**identity, "dtype": "bf16"},
        "less": {key: value for key, value in identity.items() if key != "processes"},
        "other": {**identity, "processes": 2},
        "none": identity,
    }[change]
    with contextlib.closing(checkpoints_of(now)) as again:
        if change == "none":
            assert again.newest() is not None
            return
        with pytest.raises(TrainingError, match="dtype" if change == "more" else "processes"):
            again.newest()


@dataclass(frozen=True, kw_only=True)
class Remembers(Strategy):
    """Train the biases after each block, without a gradient in every third step, which only the strategy counts."""

    learning_rate: float = 1e-2
    seen: ClassVar[torch.Tensor]  # of each instance

    def __post_init__(self) -> None:
        object.__setattr__(self, "seen", torch.zeros(1))

    def _biases(self, base: Any) -> dict[str, Any]:
        return {name: p for name, p in base.named_parameters() if name.endswith("output.dense.bias")}

    def apply(self, base: Any) -> list[Any]:
        self.seen.zero_()
        return list(self._biases(base).values())

    def on_step(self, base: Any) -> None:
        self.seen.add_(1)
        if self.seen % 3 == 0:
            for bias in self._biases(base).values():
                bias.grad.zero_()

    def state(self, base: Any) -> dict[str, torch.Tensor]:
        return {"seen": self.seen}

    def patches(self, base: Any) -> dict[str, Replace]:
        return {name.rpartition(".")[0]: Replace({"bias": p}) for name, p in self._biases(base).items()}


def test_a_strategys_own_state_goes_on_after_a_resume(tiny_base: Base, tmp_path: Path) -> None:
    def trained(folder: str, watch: Watch | None = None, *, resume: bool = False) -> Any:
        runs = checkpoints.Checkpoints(tmp_path / folder, SavingOptions(save_steps=1), {}, b"", watch or Watch())
        with contextlib.closing(runs):
            return bench.trained(tiny_base, Remembers(), checkpoints=runs, resume=resume, watch=watch)

    expected = trained("unbroken/a/run")
    with pytest.raises(KeyboardInterrupt):
        trained("broken/a/run", Dies(6))  # at a step that is no third one
    resumed = trained("broken/a/run", resume=True)
    assert resumed.adapter.files() == expected.adapter.files()
