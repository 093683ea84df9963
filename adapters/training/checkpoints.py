"""Checkpoints of a run, as JSON and safetensors, from which a run that was killed continues.

    runs/<name>/<digest of the options>/
      run.yaml                     the run's options
      checkpoint-<run>-<step>/
        checkpoint.json            position of the run, digests of the state and of this file
        state.safetensors          trained parameters, their best values, state of optimizer and random numbers

A checkpoint is written to a temporary folder, fsynced, and committed by one rename; older ones are deleted after that.
No pickle is written or read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import Tensor

from ..errors import AdapterkitError, FileError, TrainingError
from ..io import bitplanes
from ..io import tensors as tensorfile
from ..io.atomic import json_bytes, remove, sha256, write_file, write_folder
from ..io.untrusted import parse_json, read_file
from ..settings import RUN_FILE, SavingOptions
from ..watch import Watch

FORMAT_VERSION = 2
RUNS = "runs"
STATE, ABOUT = "state.safetensors", "checkpoint.json"
MOST_ABOUT = 64 << 20  # bytes
BEST, LEARNS = "best/", "learns/"
_NAME = re.compile(r"checkpoint-(\d{4,9})-(\d{8,15})")


class CheckpointError(AdapterkitError):
    """A checkpoint is damaged, or of another run."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run: `progress`, JSON values, and tensors by name."""

    progress: dict[str, Any]
    tensors: dict[str, Tensor]

    def named(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `prefix`, by their names without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


@dataclass
class Checkpoints:
    """The checkpoints of one run."""

    folder: Path
    options: SavingOptions
    identity: dict[str, Any]  # what must be equal for a run to continue: options, data, base, processes, ...
    run_file: bytes  # the run's options, for `adapt resume`
    watch: Watch = field(default_factory=Watch)
    number: int | None = None  # of the run among those in this folder, counted from 1
    _saved: float = field(default_factory=time.monotonic)
    _lock: filelock.BaseFileLock | None = None
    _locked_out: bool = False  # another process has the same run

    def due(self, step: int) -> bool:
        """Return whether a checkpoint is due after this many steps of the optimizer."""
        if self.options.save_steps:
            return step % self.options.save_steps == 0
        return time.monotonic() - self._saved >= 60 * self.options.save_minutes

    # ---- writing

    def save(self, checkpoint: Checkpoint, step: int) -> bool:
        """Write a checkpoint and return True; where the disk is full, log it, leave older ones and return False."""
        self._saved = time.monotonic()
        try:
            if not self._lock_folder():
                return False
            if self.number is None:
                self.number = 1 + max((number for number, _, _ in committed(self.folder)), default=0)
            target = self.folder / f"checkpoint-{self.number:04d}-{step:08d}"
            write_folder(target, self._files(checkpoint, step))
        except (FileError, OSError) as error:
            self.watch.note("checkpoint", f"not written: {error}")
            return False
        self._delete_older()
        return True

    def _files(self, checkpoint: Checkpoint, step: int) -> dict[str, Iterator[Any]]:
        tensors = dict(checkpoint.tensors)
        trained, best = checkpoint.named(LEARNS), checkpoint.named(BEST)
        for name, values in best.items():
            del tensors[BEST + name]
            if not torch.equal(trained[name], values):  # packed as the difference, exact to the bit
                difference = bitplanes.pack(bitplanes.bits(values), bitplanes.bits(trained[name]))
                tensors[BEST + name] = torch.from_numpy(difference.copy())
        progress = {**checkpoint.progress, "best": sorted(best)}
        digest, size = hashlib.sha256(), 0

        def state() -> Iterator[Any]:
            nonlocal size
            for chunk in tensorfile.chunks(tensors):
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        def about() -> Iterator[bytes]:  # consumed after the state, whose digest it records
            body = {
                "format_version": FORMAT_VERSION,
                "run": [self.number, step],
                "state": {"sha256": digest.hexdigest(), "bytes": size},
                "identity": self.identity,
                "progress": progress,
            }
            yield json_bytes({"sha256": sha256(json_bytes(body)), "checkpoint": body})

        return {STATE: state(), ABOUT: about()}

    def _lock_folder(self) -> bool:
        """Lock the run's folder for this process and write run.yaml; return whether it could be locked."""
        if self._lock is None and not self._locked_out:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / ".lock", blocking=False)
            try:
                lock.acquire()
            except filelock.Timeout:
                self._locked_out = True
                self.watch.note(
                    "checkpoint", f"none is written: another process is running this already ({self.folder})"
                )
                return False
            self._lock = lock
            for left in [*self.folder.glob(".checkpoint-*"), *self.folder.glob(".deleted-*")]:
                shutil.rmtree(left, ignore_errors=True)
            write_file(self.folder / RUN_FILE, self.run_file)
        return not self._locked_out

    def _delete_older(self) -> None:
        """Delete all checkpoints but the newest of this run."""
        checkpoints = committed(self.folder)
        current = [path for number, _, path in checkpoints if number == self.number]
        earlier = [path for number, _, path in checkpoints if number != self.number]
        for path in earlier + current[: -self.options.save_total_limit]:
            with contextlib.suppress(FileError):
                remove(path)

    def close(self) -> None:
        """Unlock the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def finish(self) -> None:
        """Delete the run's folder, once its adapter is saved."""
        if self._lock is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.close()
        for folder in (self.folder, self.folder.parent, self.folder.parent.parent):
            with contextlib.suppress(OSError):
                (folder / ".lock").unlink(missing_ok=True)
                folder.rmdir()

    # ---- reading

    def newest(self) -> Checkpoint | None:
        """Return the newest undamaged checkpoint and continue its run; None where the folder has no checkpoint.

        Damaged ones are logged. Raises `TrainingError` where all of them are damaged, where one is of another run, or
        where another process is running the same.
        """
        checkpoints = committed(self.folder)
        if not checkpoints:
            others = [run for run in unfinished(self.folder.parents[2]) if run.parent == self.folder.parent]
            hint = f"; unfinished with other options: {', '.join(map(str, others))}" if others else ""
            self.watch.note("resumed", f"no checkpoint with these options: starts from the beginning{hint}")
            return None
        if not self._lock_folder():
            raise TrainingError(f"another process is running this already ({self.folder})")
        for number, step, path in reversed(checkpoints):
            try:
                checkpoint, identity = read(path)
            except CheckpointError as error:
                self.watch.note("checkpoint", str(error))
                continue
            self._check_identity(identity, path)
            self.number = number
            self.watch.note("resumed", f"at step {step} ({path})")
            for _, later, damaged in checkpoints:
                if later > step:  # a checkpoint at that step will be written again
                    shutil.rmtree(damaged, ignore_errors=True)
            return checkpoint
        again = f"`adapt run --config {self.folder / RUN_FILE}` starts from the beginning"
        raise TrainingError(f"every checkpoint in {self.folder} is damaged; {again}")

    def _check_identity(self, identity: Mapping[str, Any], path: Path) -> None:
        for key in {**identity, **self.identity}:
            before, now = identity.get(key), self.identity.get(key)
            if before != now:
                raise TrainingError(f"{path} was written with {key}={_short(before)}, but this run has {_short(now)}")


def unfinished(folder: Path) -> dict[Path, int]:
    """Return the folders of unfinished runs beside a registry, each with the step of its newest checkpoint."""
    return {
        run: checkpoints[-1][1]
        for run in sorted((folder / RUNS).glob("*/*"))
        if (run / RUN_FILE).is_file() and (checkpoints := committed(run))
    }


def processes_of(folder: Path) -> int:
    """Return how many processes a run had, 1 where no checkpoint records it."""
    for _, _, path in reversed(committed(folder)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return int(parse_json(read_file(path / ABOUT, most=MOST_ABOUT))["checkpoint"]["identity"]["processes"])
    return 1


def committed(folder: Path) -> list[tuple[int, int, Path]]:
    """Return the checkpoints in a run's folder, the newest last: run, step and path."""
    names = [(_NAME.fullmatch(path.name), path) for path in folder.glob("checkpoint-*")]
    return sorted((int(match[1]), int(match[2]), path) for match, path in names if match)


def read(path: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """Return a checkpoint and the identity of its run; raises `CheckpointError` where a bit of it was changed."""
    try:
        if path.is_symlink():
            raise ValueError("expected a folder, got a symbolic link")
        body = _read_body(path)
        data = read_file(path / STATE, size=int(body["state"]["bytes"]))
        if sha256(data) != body["state"]["sha256"]:
            raise ValueError(f"{STATE} was truncated or changed")
        tensors = _with_best(tensorfile.tensors(data), body["progress"]["best"])
        if not isinstance(body["progress"], dict) or not isinstance(body["identity"], dict):
            raise ValueError("'progress' and 'identity' must be JSON objects")
        return Checkpoint(body["progress"], tensors), body["identity"]
    except OSError as error:
        raise CheckpointError(f"{path} is damaged: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _read_body(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's JSON file; raises `ValueError` where it isn't as it was written."""
    data = read_file(path / ABOUT, most=MOST_ABOUT)
    document = parse_json(data)
    body: dict[str, Any] = document["checkpoint"]
    if sha256(json_bytes(body)) != document["sha256"] or data != json_bytes(document):
        raise ValueError(f"{ABOUT} was changed")
    if body["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format version {body['format_version']}; this adapterkit reads {FORMAT_VERSION}")
    match = _NAME.fullmatch(path.name)
    if match is None or body["run"] != [int(match[1]), int(match[2])]:
        raise ValueError(f"it was written as checkpoint {body['run']} and then renamed")
    return body


def _with_best(tensors: dict[str, Tensor], best: list[str]) -> dict[str, Tensor]:
    """Return tensors with the best values decoded; raises `ValueError` where parameters aren't finite numbers."""
    trained = Checkpoint({}, tensors).named(LEARNS)
    for name in best:
        values, packed = trained[name], tensors.get(BEST + name)
        if packed is not None:
            values = bitplanes.from_bits(bitplanes.unpack(packed.numpy(), bitplanes.bits(values)), values)
        tensors[BEST + name] = values
    for name, values in tensors.items():
        if name.startswith((LEARNS, BEST)) and not (values.is_floating_point() and tensorfile.is_finite(values)):
            raise ValueError(f"'{name}' contains numbers that aren't finite")
    return tensors


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
