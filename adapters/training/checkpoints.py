"""Checkpoints: what learns and where a run is, as JSON and safetensors, so that it can go on where it died.

    runs/<name>/<digest of the options>/
      run.yaml                     the run's options
      checkpoint-<run>-<step>/
        checkpoint.json            where the run is, the digest of the state, and its own
        state.safetensors          what learns, its best values so far, the optimizer's and the random numbers' state

A checkpoint is written beside, files and folders fsynced, and committed by one rename; older ones are deleted after
that. No pickle is written or read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
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
    """A checkpoint is damaged, or another run's."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a run was: `progress` in JSON values, and tensors by name."""

    progress: dict[str, Any]
    tensors: dict[str, Tensor]

    def named(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `prefix`, which is left out."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}


@dataclass
class Checkpoints:
    """The checkpoints of one run."""

    folder: Path
    options: SavingOptions
    identity: dict[str, Any]  # what must be the same for a run to go on: options, data, base, processes, ...
    run_file: bytes  # the run's options, for `adapt resume`
    watch: Watch = field(default_factory=Watch)
    number: int | None = None  # of the run in this folder, counted from 1
    _saved: float = field(default_factory=time.monotonic)
    _lock: filelock.BaseFileLock | None = None
    _elsewhere: bool = False  # whether another process runs just this

    def due(self, step: int) -> bool:
        """Tell whether after so many steps of the optimizer it is time for a checkpoint."""
        if self.options.save_steps:
            return step % self.options.save_steps == 0
        return time.monotonic() - self._saved >= 60 * self.options.save_minutes

    # ---- writing

    def save(self, checkpoint: Checkpoint, step: int) -> bool:
        """Write a checkpoint; where there is no room for it, say so, keep the older ones and return False."""
        self._saved = time.monotonic()
        try:
            if not self._held():
                return False
            if self.number is None:
                self.number = 1 + max((number for number, _, _ in committed(self.folder)), default=0)
            target = self.folder / f"checkpoint-{self.number:04d}-{step:08d}"
            write_folder(target, self._files(checkpoint, step))
        except (FileError, OSError) as error:
            self.watch.note("checkpoint", f"not written: {error}")
            return False
        self._clear()
        return True

    def _files(self, checkpoint: Checkpoint, step: int) -> dict[str, Iterator[Any]]:
        tensors = dict(checkpoint.tensors)
        learns, best = checkpoint.named(LEARNS), checkpoint.named(BEST)
        for name, values in best.items():
            own = learns[name]
            del tensors[BEST + name]
            if not torch.equal(own, values):  # told by its difference, exact to the bit
                tensors[BEST + name] = torch.from_numpy(
                    bitplanes.pack(bitplanes.bits(values), bitplanes.bits(own)).copy()
                )
        progress = {**checkpoint.progress, "best": sorted(best)}
        digest, size = hashlib.sha256(), 0

        def state() -> Iterator[Any]:
            nonlocal size
            for chunk in tensorfile.chunks(tensors):
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        def about() -> Iterator[bytes]:  # asked for once the state is written
            body = {
                "format_version": FORMAT_VERSION,
                "run": [self.number, step],
                "state": {"sha256": digest.hexdigest(), "bytes": size},
                "identity": self.identity,
                "progress": progress,
            }
            yield json_bytes({"sha256": sha256(json_bytes(body)), "checkpoint": body})

        return {STATE: state(), ABOUT: about()}

    def _held(self) -> bool:
        """Take the run's folder for this process, with its options in it; tell whether that could be had."""
        if self._lock is None and not self._elsewhere:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / ".lock", blocking=False)
            try:
                lock.acquire()
            except filelock.Timeout:
                self._elsewhere = True
                self.watch.note("checkpoint", f"none is written: another process runs just this ({self.folder})")
                return False
            self._lock = lock
            for left in [*self.folder.glob(".checkpoint-*"), *self.folder.glob(".deleted-*")]:
                shutil.rmtree(left, ignore_errors=True)
            write_file(self.folder / RUN_FILE, self.run_file)
        return not self._elsewhere

    def _clear(self) -> None:
        """Delete all but the newest checkpoints of this run."""
        found = committed(self.folder)
        own = [path for number, _, path in found if number == self.number]
        for path in [p for n, _, p in found if n != self.number] + own[: -self.options.save_total_limit]:
            with contextlib.suppress(FileError):
                remove(path)

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def finish(self) -> None:
        """Delete the run's folder: its adapter is saved."""
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
        """Return the newest checkpoint that is whole, and take the run up from there; None where there is none.

        A damaged one is named, and the one before is taken. Raises `TrainingError` where all of them are damaged, where
        it is of another run, or where another process goes on with it.
        """
        found = committed(self.folder)
        if not found:
            others = [run for run in unfinished(self.folder.parents[2]) if run.parent == self.folder.parent]
            known = f"; with other options, {', '.join(map(str, others))} didn't end" if others else ""
            self.watch.note("resumed", f"nothing to go on with: begins anew{known}")
            return None
        if not self._held():
            raise TrainingError(f"another process runs this already ({self.folder})")
        for number, step, path in reversed(found):
            try:
                checkpoint, identity = read(path)
            except CheckpointError as error:
                self.watch.note("checkpoint", str(error))
                continue
            for key in {**identity, **self.identity}:
                if identity.get(key) != self.identity.get(key):
                    was, now = identity.get(key), self.identity.get(key)
                    raise TrainingError(f"{path} was written with {key}={_short(was)}, and now it is {_short(now)}")
            self.number = number
            self.watch.note("resumed", f"at step {step} ({path})")
            for _, later, damaged in found:
                if later > step:  # what is saved at that step again takes its place
                    shutil.rmtree(damaged, ignore_errors=True)
            return checkpoint
        raise TrainingError(
            f"every checkpoint in {self.folder} is damaged; `adapt run --config {self.folder / RUN_FILE}` begins anew"
        )


def unfinished(folder: Path) -> dict[Path, int]:
    """Return the folders of runs beside a registry that didn't end, each with the step of its newest checkpoint."""
    return {
        run: found[-1][1]
        for run in sorted((folder / RUNS).glob("*/*"))
        if (run / RUN_FILE).is_file() and (found := committed(run))
    }


def processes_of(folder: Path) -> int:
    """Return how many processes a run had, 1 where no checkpoint says it."""
    for _, _, path in reversed(committed(folder)):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return int(parse_json(read_file(path / ABOUT, most=MOST_ABOUT))["checkpoint"]["identity"]["processes"])
    return 1


def committed(folder: Path) -> list[tuple[int, int, Path]]:
    """Return the checkpoints in a run's folder, the newest last: run, step and path."""
    names = [(_NAME.fullmatch(path.name), path) for path in folder.glob("checkpoint-*")]
    return sorted((int(match[1]), int(match[2]), path) for match, path in names if match)


def read(path: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """Return a checkpoint and what run it belongs to; raises `CheckpointError` where a bit of it isn't as written."""
    try:
        if path.is_symlink():
            raise ValueError("it is a link, and a folder was expected")
        about = read_file(path / ABOUT, most=MOST_ABOUT)
        whole = parse_json(about)
        body = whole["checkpoint"]
        if sha256(json_bytes(body)) != whole["sha256"] or about != json_bytes(whole):
            raise ValueError(f"{ABOUT} was changed")
        if body["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {body['format_version']}, and this adapterkit reads {FORMAT_VERSION}")
        match = _NAME.fullmatch(path.name)
        if match is None or body["run"] != [int(match[1]), int(match[2])]:
            raise ValueError(f"it is the checkpoint of {body['run']}, moved here")
        data = read_file(path / STATE, size=int(body["state"]["bytes"]))
        if sha256(data) != body["state"]["sha256"]:
            raise ValueError(f"{STATE} was cut or changed")
        tensors = tensorfile.tensors(data)
        learns = Checkpoint({}, tensors).named(LEARNS)
        for name in body["progress"]["best"]:
            own, packed = learns[name], tensors.get(BEST + name)
            values = (
                own
                if packed is None
                else bitplanes.from_bits(bitplanes.unpack(packed.numpy(), bitplanes.bits(own)), own)
            )
            tensors[BEST + name] = values
        for name, values in tensors.items():
            if name.startswith((LEARNS, BEST)) and not (values.is_floating_point() and tensorfile.is_finite(values)):
                raise ValueError(f"'{name}' holds what is no finite number")
        if not isinstance(body["progress"], dict) or not isinstance(body["identity"], dict):
            raise ValueError("where the run was, or which it was, is no JSON object")
        return Checkpoint(body["progress"], tensors), body["identity"]
    except OSError as error:
        raise CheckpointError(f"{path} is damaged: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
