"""Read and write registry.json: one line of JSON per adapter, so that one can be changed without parsing the rest."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..display import best_metric
from ..errors import RegistryError
from ..io.atomic import json_bytes
from ..io.untrusted import parse_json, read_file
from .schema import SCHEMA, check_adapter

MOST = 256 << 20  # bytes of registry.json: 400,000 versions
_LONG = re.compile(rb'"[^"]{65536}')
_SHORT = 1 << 16  # bytes of one adapter: a hundred versions
_END = b"\n}}\n"
_AGAIN = "`adapt registry rebuild` makes it again"


@dataclass(eq=False)
class Index(Mapping[str, dict[str, Any]]):
    """The adapters of a registry.json: name -> {"current": version, "versions": {version: entry}, "tags": {...}}.

    The text of an adapter is parsed and checked on access, and written back unchanged unless it is replaced.
    """

    path: Path
    head: bytes  # the first line: all other keys
    lines: dict[str, bytes]  # name -> "name": JSON
    parsed: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)  # by `cached`

    @classmethod
    def read(cls, path: Path, *, damaged: bool = False) -> Index:
        """Read a registry.json; a missing file is an empty index.

        Raises `RegistryError`; with `damaged`, unreadable content is an empty index.
        """
        try:
            data = bytes(read_file(path, most=MOST))
            head, lines = _split(data, path, damaged) or _parsed(data, path, damaged)
        except FileNotFoundError:
            return cls.new(path)
        except OSError as error:
            raise RegistryError(f"can't read '{path}': {error.strerror or error}") from error
        except (ValueError, TypeError) as error:
            if damaged:
                return cls.new(path)
            if isinstance(error, TypeError):
                raise RegistryError(f"'{path}' is JSON, but no registry: it has no object 'adapters'") from None
            # without frames that would hold the text in memory
            raise RegistryError(f"'{path}' is not JSON ({error}); {_AGAIN}") from error.with_traceback(None)
        return cls(path, head, lines)

    @classmethod
    def new(cls, path: Path) -> Index:
        """Return an empty index."""
        return cls(path, _head({}, _dotted(SCHEMA)), {})

    def __getitem__(self, name: str) -> dict[str, Any]:
        try:
            adapter = _value(self.lines[name][len(name) + 4 :])
            check_adapter(name, adapter)
        except ValueError as error:
            raise RegistryError(f"'{self.path}': '{name}' is no entry: {error}; {_AGAIN}") from None
        return dict(adapter)

    def cached(self, name: str) -> dict[str, Any]:
        """Return an adapter, parsed only once; callers must not change it."""
        if name not in self.parsed:
            self.parsed[name] = self[name]
        return self.parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __contains__(self, name: object) -> bool:
        return name in self.lines  # a Mapping's own would parse it

    def readable(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield name and value of each adapter that isn't damaged."""
        for name in self:
            with contextlib.suppress(RegistryError):
                yield name, self[name]

    def put(self, name: str, adapter: Mapping[str, Any] | None) -> None:
        """Set an adapter, or delete it where `adapter` is None."""
        if adapter is None:
            self.lines.pop(name, None)
        else:
            self.lines[name] = _line(name, adapter)

    def other(self, key: str) -> Any:
        """Return the value of a key of the file other than the adapters, or None."""
        return parse_json(self.head + b"}}").get(key)

    def put_other(self, key: str, value: Any, version: tuple[int, int]) -> None:
        """Set such a key, which came with a minor `version` of the schema, or delete it where `value` is empty."""
        keys = parse_json(self.head + b"}}")
        keys.pop(key, None)
        if value:
            keys |= {key: value, "schema_version": _dotted(max(version, _schema(keys["schema_version"])))}
        self.head = _head(keys, keys["schema_version"])

    def to_bytes(self) -> bytes:
        """Return the content of the file; other keys and a later minor version are preserved."""
        return self.head + b"\n" + b",\n".join([self.lines[name] for name in sorted(self.lines)]) + _END


def _checked(path: Path, written: Any, damaged: bool) -> str:
    """Return the schema version to write: ours, or the one of the file where that is a later minor version."""
    version = _schema(written)
    if version[0] != SCHEMA[0] and not (damaged and version < SCHEMA):
        raise RegistryError(f"'{path}' has schema version {written}; this adapterkit reads {SCHEMA[0]}")
    return _dotted(max(SCHEMA, version))


def _head(keys: Mapping[str, Any], version: str) -> bytes:
    others = {key: value for key, value in keys.items() if key != "adapters"}
    return json.dumps({**others, "schema_version": version, "adapters": {}}, ensure_ascii=False).encode()[:-2]


def _split(data: bytes, path: Path, damaged: bool) -> tuple[bytes, dict[str, bytes]] | None:
    """Return head and lines of a file with one line per adapter, or None for another layout.

    Ten thousand adapters take 0.2 s to parse and 0.01 s to split.
    """
    first, _, rest = data.partition(b"\n")
    if not first.endswith(b'"adapters": {') or not rest.endswith(_END) or _LONG.search(first):
        return None
    split = rest[: -len(_END)].split(b",\n")
    if not all(line[:1] == b'"' and line[-1:] == b"}" for line in split):
        return None
    lines = {line[1 : line.index(b'"', 1)].decode(): line for line in split}
    if len(lines) != len(split):
        return None
    keys = parse_json(first + b"}}")
    version = _checked(path, keys.get("schema_version"), damaged)
    return first if keys.get("schema_version") == version else _head(keys, version), lines


def _parsed(data: bytes, path: Path, damaged: bool) -> tuple[bytes, dict[str, bytes]]:
    if _LONG.search(data):
        raise ValueError("it holds a text of more than 64 kB")  # parsed, it may take twelve times its size
    index = parse_json(data)
    if not isinstance(index, dict) or not isinstance(index.get("adapters"), dict):
        raise TypeError
    adapters = index.pop("adapters")
    version = _checked(path, index.get("schema_version"), damaged)
    return _head(index, version), {name: _line(name, adapter) for name, adapter in adapters.items()}


def _line(name: str, adapter: Any) -> bytes:
    try:
        text = json.dumps(adapter, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(json.loads(json_bytes(adapter)), ensure_ascii=False)  # NaN and infinity become null
    return f'"{name}": {text}'.encode()


def _value(text: bytes) -> Any:
    """Return the value of an adapter's JSON, for a line as we write it without the checks that make `parse_json` slow.

    A short line can't be large or deep, and one without escapes and constants has no invalid character or number.
    """
    if len(text) > _SHORT or b"\\u" in text or b"NaN" in text or b"Infinity" in text:
        return parse_json(text)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _schema(version: Any) -> tuple[int, int]:
    """Return major and minor of "1.0" (or of 1, as the first release wrote it); (0, 0) for anything else."""
    match = re.fullmatch(r"(\d{1,6})(?:\.(\d{1,6}))?", str(version))
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def row_of(name: str, adapter: Mapping[str, Any]) -> list[Any]:
    """Return an adapter as a row of a table for people."""
    entry = adapter["versions"][adapter["current"]]
    best = best_metric(entry.get("metrics", {}), entry.get("best"))
    return [name, adapter["current"], len(adapter["versions"]), entry["task"], entry["strategy"], best]
