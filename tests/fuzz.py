"""Change adapters and registries in every way that harms, and see that each is refused in one line or read right.

    python -m tests.fuzz --cases 200000 --seed 0

An adapter that loads must hold, to the bit, what the safetensors library reads from the same file, and is put on its
base. A change is made with the digests as they were, and with the digests made right again, so that the checks behind
them are reached.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from adapterkit import Adapter, AdapterkitError, Base, Registry
from adapterkit.adapter.manifest import MANIFEST, PEFT_CONFIG, TENSORS
from adapterkit.io.atomic import json_bytes, sha256, version_of
from adapterkit.store.version_files import entry_of
from adapterkit.testing import tiny
from tests.helpers.audit import changes_outside, heard
from tests.helpers.mutations import (
    BYTES,
    INDEX,
    JSON,
    JSON_WEIGHTS,
    MORE_MEMORY,
    TENSOR_FILE,
    Field,
    Files,
    json_change,
    not_a_file,
)

os.environ.setdefault("HF_HUB_OFFLINE", "1")


class Wrong(AssertionError):
    """Something happened that must not happen."""


# ---- one case


KINDS = {"bytes": 20, "manifest": 30, "header text": 6, "header": 18, "length": 3, "numbers": 10, "file": 3}


KINDS |= {"swapped": 3, "linked": 1, "index": 4, "entry": 2}  # so often each


@dataclass
class Case:
    """One changed adapter, or registry, in a store."""

    kind: str
    files: Files
    index: Any = None  # registry.json, bytes or a function; None: as it should be
    entry: Any = None  # entry.json
    linked: str = ""  # "version" or "name": that folder is a link
    version: str | None = None  # the folder's name, where it isn't the manifest's digest


def repaired(files: Files) -> None:
    """State the digests of the files as they are now."""
    try:
        manifest = json.loads(files[MANIFEST])
        for name, stated in manifest["files"].items():
            if isinstance(files.get(name), bytes) and isinstance(stated, dict):
                stated |= {"sha256": sha256(files[name]), "bytes": len(files[name])}
        files[MANIFEST] = json_bytes(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # nothing is left to be right


def drawn(field: Field, draw: random.Random) -> Case:
    """Return a case of a kind."""
    original = draw.choice(field.adapters)
    files: Files = dict(original)
    repair = draw.random() < 0.6
    case = Case("", files)
    name = draw.choice((MANIFEST, TENSORS, TENSORS, PEFT_CONFIG if PEFT_CONFIG in files else TENSORS))
    kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "bytes":
        how = draw.choice(list(BYTES))
        files[name], kind = BYTES[how](files[name], draw), f"{how} in {name}"
    elif kind == "manifest":
        how = draw.choices(list(JSON), JSON_WEIGHTS)[0]
        if repair and draw.random() < 0.5:
            repaired(files)
        files[MANIFEST], kind = JSON[how](files[MANIFEST], draw), f"manifest: {how}"
    elif kind in TENSOR_FILE:
        files[TENSORS] = TENSOR_FILE[kind](files[TENSORS], draw)
    elif kind == "file":
        way, files[name] = not_a_file(field, draw, files[name])
        kind = f"{name} is {way}"
    elif kind == "swapped":
        other = draw.choice(field.adapters)
        one, two = draw.choice(((TENSORS, TENSORS), (MANIFEST, TENSORS), (TENSORS, MANIFEST), (MANIFEST, MANIFEST)))
        files[one] = other[two]
    elif kind == "linked":
        case.linked = draw.choice(("version", "name"))
        kind = f"{case.linked}'s folder is a link"
    elif kind == "entry":
        how = draw.choice((*BYTES, "file", "json"))
        entry = json_bytes({"number": 1, **entry_of(json.loads(files[MANIFEST]), 1)})
        if how == "file":
            case.entry = not_a_file(field, draw, entry)[1] or b""
        else:
            case.entry = BYTES[how](entry, draw) if how in BYTES else json_change(entry, draw)
    else:
        case.index = draw.choice((*BYTES, "file", "json", "json", "json", "json", "deep", "many", "text", "away"))
    if repair and kind not in ("linked", "index", "entry"):
        if not kind.startswith("manifest"):
            repaired(files)
        kind += ", digests repaired"
    elif kind not in ("index", "entry") and not case.linked:
        case.version = version_of(original[MANIFEST])
    case.kind = kind
    return case


def put(case: Case, field: Field, root: Path, draw: random.Random) -> str:
    """Write a case's store and registry; return the version that the registry names."""
    whole = case.files.get(MANIFEST)
    version = case.version or version_of(whole if isinstance(whole, bytes) else b"")
    folder = root / "store" / "a" / version
    if case.linked:
        away = field.folder / "outside" / "linked"
        shutil.rmtree(away, ignore_errors=True)
        target = away / (version if case.linked == "name" else "")
        target.mkdir(parents=True)
        place = folder if case.linked == "version" else folder.parent
        place.parent.mkdir(parents=True)
        place.symlink_to(away)
    else:
        folder.mkdir(parents=True)
    for name, content in case.files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif content is not None:
            content(folder / name)
    if isinstance(case.entry, bytes):
        (folder / "entry.json").write_bytes(case.entry)
    elif case.entry is not None:
        case.entry(folder / "entry.json")
    entry = {"number": 1, "task": "t", "strategy": "s", "base": {}, "bytes": 1, "metrics": {}}
    index = json_bytes({"schema_version": 1, "adapters": {"a": {"current": version, "versions": {version: entry}}}})
    how = case.index
    if how == "file":
        content = not_a_file(field, draw, index)[1]
        if content is not None:
            content(root / INDEX)
        return version
    if how == "away":  # versions and names that lead out of the store
        wrong = draw.choice(("../../outside", "/etc", "..", ".", f"{version}/..", "a/../../..", f"{version}\0"))
        text = index.decode().replace('"a":' if draw.random() < 0.5 else version, json.dumps(wrong).strip('"'))
        index = text.encode()
    elif how is not None:
        index = (BYTES | JSON)[how](index, draw)
    (root / INDEX).write_bytes(index)
    return version


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Raise `Wrong` where what is inside computes for so long, or waits for ten times as long."""

    def late(*_: Any) -> None:
        raise Wrong("it takes too long")

    timers = {signal.ITIMER_PROF: signal.SIGPROF, signal.ITIMER_REAL: signal.SIGALRM}
    before = {number: signal.signal(number, late) for number in timers.values()}
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    try:
        yield
    finally:
        for timer, number in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def one_line(error: AdapterkitError) -> str:
    """Return the class of an error that is said as it should be."""
    if not str(error).isprintable() or not 10 < len(str(error)) < 4000:
        raise Wrong(f"an error that isn't one line: {str(error)[:300]!r}")
    return f"refused: {type(error).__name__}"


def read(case: Case, field: Field, root: Path, version: str, attach: bool) -> str:
    """Load a case through the registry or by its folder, and go on with what loads; return what came of it."""
    registry = Registry(root / INDEX)
    folder = root / "store" / "a" / version
    try:
        through = case.version is not None or case.index is not None or case.linked or case.entry is not None
        if case.index is not None or case.entry is not None:
            registry.adapters()
            registry.resolve("a")
        adapter = registry.load("a") if through else Adapter.load(folder)
    except AdapterkitError as error:
        told = one_line(error)
        if case.index is not None or case.entry is not None:
            told += rebuilt(registry)
        return told
    told = rebuilt(registry) if case.index is not None or case.entry is not None else ""
    reference = safetensors.torch.load((folder / TENSORS).read_bytes())
    if adapter.tensors.keys() != reference.keys() or not all(
        a.dtype == reference[n].dtype and torch.equal(a, reference[n]) and bool(torch.isfinite(a).all())
        for n, a in adapter.tensors.items()
    ):
        raise Wrong("it loads otherwise than safetensors reads it")
    if case.version is not None and any(case.files[name] != data for name, data in original(case, field).items()):
        raise Wrong("the digests didn't tell that it was changed")
    try:
        adapter.patches(field.base)
        if not attach:
            return "loaded, patches" + told
        with adapter.attached(field.base):
            return "loaded, attached" + told
    except AdapterkitError as error:
        return f"loaded, then {one_line(error)}" + told


def original(case: Case, field: Field) -> dict[str, bytes]:
    return next(one for one in field.adapters if version_of(one[MANIFEST]) == case.version)


def rebuilt(registry: Registry) -> str:
    """Make the index again; what it makes must be one, and lead to nothing that isn't right."""
    try:
        index, left_out = registry.rebuild()
        if registry.adapters() != index:
            raise Wrong("the index that was made again isn't the one that is read")
        for name in index:
            try:
                registry.load(name)
            except AdapterkitError as error:
                one_line(error)
        return f", rebuilt with {len(index)}, {len(left_out)} left out"
    except AdapterkitError as error:
        return f", rebuild {one_line(error)}"


def peak(*, again: bool = False) -> int:
    """Return the most bytes of memory that this process has had since it was asked to begin again."""
    if again:
        Path("/proc/self/clear_refs").write_text("5")
    stated = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(stated.split()[1]) * 1024


def fuzz(field: Field, cases: int, seed: int) -> Counter[tuple[str, str]]:
    """Try so many cases; return how often which change had which outcome. Raises `Wrong` that says which case."""
    found: Counter[tuple[str, str]] = Counter()
    names = {name: id(p) for name, p in field.base.model.named_parameters()}
    before = {name: p.detach().clone() for name, p in field.base.model.named_parameters()}
    mine = sorted((field.folder / "outside").rglob("*.txt"))
    root = field.folder / "case"
    wrong = list[str]()
    for number in range(-20, cases):  # the first to warm up
        draw = random.Random(f"{seed} {number}")
        case = drawn(field, draw)
        root.mkdir()
        version = put(case, field, root, draw)
        memory = peak(again=True)
        try:
            with heard() as events, in_time(1):
                outcome = read(
                    case,
                    field,
                    root,
                    version,
                    attach=draw.random() < (0.5 if case.kind.startswith("manifest") else 0.1),
                )
            if outside := changes_outside(events, str(root)):
                raise Wrong(f"outside the store: {outside[:3]}")
            if number >= 0 and (more := peak() - memory) > MORE_MEMORY:
                raise Wrong(f"{more >> 20} MB of memory more than before")
        except Exception as error:
            wrong.append(f"case {number} of seed {seed}, {case.kind}: {type(error).__name__}: {error}")
            if len(wrong) == 20:
                break
            outcome = "WRONG"
        if number >= 0:
            found[case.kind, outcome.partition(", rebuil")[0]] += 1
        shutil.rmtree(root)
    assert sorted((field.folder / "outside").rglob("*.txt")) == mine
    for name, p in field.base.model.named_parameters():
        if names[name] != id(p) or not torch.equal(p, before[name]):
            wrong.append(f"the base's '{name}' is not as it was")
    if wrong:
        raise Wrong("\n".join(wrong))
    return found


@contextmanager
def in_memory() -> Iterator[Path]:
    """Yield a new folder in memory where there is such a place: on a disk it takes several times as long."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    with in_memory() as folder:
        base = Base.load(str(tiny.make("bert", folder / "base")))
        found = fuzz(Field.make(folder, base), args.cases, args.seed)
    kinds = sorted({kind for kind, _ in found})
    for kind in kinds:
        outcomes = ", ".join(f"{outcome} {n}" for (k, outcome), n in sorted(found.items()) if k == kind)
        print(f"{kind}: {outcomes}")
    total: Counter[str] = Counter()
    for (_, outcome), n in found.items():
        total[outcome.partition(":")[0]] += n
    print(f"{sum(total.values())} cases of seed {args.seed} in {time.monotonic() - began:.0f} s: {dict(total)}")


if __name__ == "__main__":
    main()
