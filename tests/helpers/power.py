"""What a disk may hold after its power failed: a model of what was written, synced, and named, from strace's log.

Strict as POSIX is: the bytes of a file last since it was fsynced, names in a folder since the folder was; what was
done later may last or not, each thing by itself.
"""

from __future__ import annotations

import codecs
import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

CALLS = "openat,write,fsync,fdatasync,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,ftruncate"
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)(.*)")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FD = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>")


@dataclass
class File:
    """Bytes that last, and bytes as they were last written."""

    synced: bytes = b""
    now: bytes = b""


@dataclass
class Folder:
    """Names that last, names as they are, and what was done in between: (name, what it names or None)."""

    synced: dict[str, File | Folder] = field(default_factory=dict)
    now: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[tuple[tuple[str, File | Folder | None], ...]] = field(default_factory=list)

    def do(self, *changes: tuple[str, File | Folder | None]) -> None:
        self.pending.append(changes)
        _apply(self.now, changes)


def _apply(names: dict[str, File | Folder], changes: Sequence[tuple[str, File | Folder | None]]) -> None:
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """A folder as strace saw it change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = _load(root)

    def play(self, log: Sequence[str], case: Path) -> Iterator[str]:
        """Do what a log says was done in `case`, and yield after each change what it was."""
        for line in log:
            found = _LINE.match(line)
            if found is None or int(found[3]) < 0:
                continue
            call, given, result = found[1], found[2], found[4]
            texts = [codecs.escape_decode(text.encode())[0] for text in _TEXT.findall(given)]
            fds = _FD.findall(given)
            if self._do(call, given, texts, fds, result, case, int(found[3])):
                yield f"{call}({given[:120]})"

    def _do(
        self, call: str, given: str, texts: list[bytes], fds: list[str], result: str, case: Path, value: int
    ) -> bool:
        paths = [self._inside(Path(fds[0] if fds else "/") / text.decode("utf-8", "replace"), case) for text in texts]
        if call == "openat":
            if not paths or not paths[0] or ("O_CREAT" not in given and "O_TRUNC" not in given):
                return False
            folder, name = self._parent(paths[0])
            if "O_CREAT" in given and name not in folder.now:
                folder.do((name, File()))
                return True
            if "O_TRUNC" in given and isinstance(node := folder.now[name], File):
                node.now = b""
                return True
            return False
        if call in ("write", "fsync", "fdatasync", "ftruncate"):
            path = self._inside(Path(fds[0]), case) if fds else None
            node = self._node(path) if path is not None else None
            if isinstance(node, File) and call == "write":
                node.now += texts[0][:value]
            elif isinstance(node, File):
                node.synced = node.now
            elif isinstance(node, Folder):
                node.synced, node.pending = dict(node.now), []
            return node is not None
        if not paths or paths[0] is None:
            return False
        folder, name = self._parent(paths[0])
        if call.startswith("mkdir"):
            folder.do((name, Folder()))
        elif call.startswith("rename"):
            assert paths[1] is not None
            to, new = self._parent(paths[1])
            if to is folder:
                folder.do((name, None), (new, folder.now[name]))
            else:
                to.do((new, folder.now[name]))
                folder.do((name, None))
        else:
            folder.do((name, None))
        return True

    def _inside(self, path: Path, case: Path) -> tuple[str, ...] | None:
        return path.relative_to(case).parts if path.is_relative_to(case) else None

    def _node(self, parts: tuple[str, ...]) -> File | Folder | None:
        node: File | Folder | None = self.top
        for part in parts:
            node = node.now.get(part) if isinstance(node, Folder) else None
        return node

    def _parent(self, parts: tuple[str, ...]) -> tuple[Folder, str]:
        node = self._node(parts[:-1])
        assert isinstance(node, Folder), parts
        return node, parts[-1]

    def states(self, draw: random.Random, most: int) -> Iterator[dict[str, bytes | None]]:
        """Yield what the disk may hold now: files' bytes by path, folders as None; all of it if at most so much."""
        units = list(self._units(self.top, set()))
        yield from (self._held(set(chosen), units) for chosen in _choices(len(units), draw, most))

    def _units(self, folder: Folder, seen: set[int]) -> Iterator[tuple[int, int]]:
        """Yield what may last or not: (id of a folder, number of a change) and (id of a file, -1)."""
        if id(folder) in seen:
            return
        seen.add(id(folder))
        yield from ((id(folder), number) for number in range(len(folder.pending)))
        reached = [node for changes in folder.pending for _, node in changes if node is not None]
        for node in (*folder.synced.values(), *folder.now.values(), *reached):
            if isinstance(node, Folder):
                yield from self._units(node, seen)
            elif node.now != node.synced and id(node) not in seen:
                seen.add(id(node))
                yield id(node), -1

    def _held(self, chosen: set[int], units: list[tuple[int, int]]) -> dict[str, bytes | None]:
        lasts = {units[number] for number in chosen}
        held: dict[str, bytes | None] = {}

        def walk(folder: Folder, place: str) -> None:
            names = dict(folder.synced)
            for number, changes in enumerate(folder.pending):
                if (id(folder), number) in lasts:
                    _apply(names, changes)
            for name, node in names.items():
                if isinstance(node, Folder):
                    held[f"{place}{name}"] = None
                    walk(node, f"{place}{name}/")
                else:
                    held[f"{place}{name}"] = node.now if (id(node), -1) in lasts else node.synced

        walk(self.top, "")
        return held


def _choices(count: int, draw: random.Random, most: int) -> Iterator[tuple[int, ...]]:
    if 2**count <= most:
        for size in range(count + 1):
            yield from itertools.combinations(range(count), size)
        return
    everything = tuple(range(count))
    yield from ((), everything)
    for one in everything:
        yield (one,)
        yield tuple(other for other in everything if other != one)
    for _ in range(max(0, most - 2 - 2 * count)):
        yield tuple(number for number in everything if draw.random() < 0.5)


def _load(path: Path) -> Folder:
    names: dict[str, File | Folder] = {}
    for child in path.iterdir():
        names[child.name] = _load(child) if child.is_dir() else File(child.read_bytes(), child.read_bytes())
    return Folder(dict(names), names)


def write(state: dict[str, bytes | None], folder: Path) -> None:
    """Make a folder that holds a state."""
    folder.mkdir()
    for place, data in state.items():
        if data is None:
            (folder / place).mkdir()
        else:
            (folder / place).write_bytes(data)
