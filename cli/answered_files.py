"""Answer several files into a folder, a file for each, which a later run completes."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterkit.cli.common import TerminalWatch, counted, echo
from adapterkit.cli.writing import WRITERS, new_file, records
from adapterkit.cluster import Executor
from adapterkit.errors import DataError, OptionError, file_errors_as
from adapterkit.io.atomic import json_bytes, write_file
from adapterkit.watch import Watch
from adapterkit.workflows.answer import Answered, Answering, answered_chunks
from adapterkit.workflows.pool_worker import PoolOptions

DESCRIPTION = ".predict.json"
"""What answered the files of a folder, so that another run doesn't mix its answers with theirs."""


def answer_files(
    paths: Sequence[Path],
    folder: Path,
    form: str,
    read: Callable[[Path], Answering],
    options: PoolOptions,
    description: Mapping[str, Any],
    *,
    executor: Executor,
    watch: TerminalWatch,
) -> None:
    """Write the answers of each file to `folder` in a format of `WRITERS`; an output appears when its rows are done.

    Outputs that are newer than their file are left as they are. Raises `OptionError` where two files have one output,
    or the outputs in the folder are answers of other adapters or options than `description`.
    """
    paths = list(dict.fromkeys(Path(os.path.normpath(path)) for path in paths))
    outputs = {path: folder / f"{path.stem}.{form}" for path in paths}
    for output, count in Counter(outputs.values()).items():
        if count > 1:
            raise OptionError(f"{count} files would be written to {output}; give files with different names")
    if overwritten := next((p for p in paths for o in outputs.values() if o.exists() and o.samefile(p)), None):
        raise OptionError(f"--out {folder} would replace {overwritten}, a file of rows")
    _check_same(folder, {**description, "format": form})
    missing = [path for path in paths if not _is_done(path, outputs[path])]
    if done := len(paths) - len(missing):
        watch.note("files", f"{done} of {len(paths)} were answered before, in {folder}")
    answering_of: dict[int, Path] = {}

    def sources() -> Iterator[Answering]:
        for path in missing:
            answering = read(path)
            answering_of[id(answering)] = path
            for note in (*answering.source.notes, *answering.notes):
                watch.note("remark", note)
            yield answering

    chunks = answered_chunks(sources(), options, executor=executor, watch=watch)
    total = 0
    with contextlib.closing(chunks), watch.bar("files", len(missing)) as bar:
        for answering, first in chunks:
            with new_file(outputs[answering_of.pop(id(answering))]) as file:
                for text in WRITERS[form](records(answering, _of_source(answering, first, chunks), form, Watch())):
                    file.write(text.encode("utf-8", "backslashreplace"))
            total += answering.count
            bar.advance()
    echo(f"written    {folder}: {counted(len(missing), 'file')}, {counted(total, 'row')}", err=True)


def _of_source(
    answering: Answering, chunk: list[Answered], chunks: Iterator[tuple[Answering, list[Answered]]]
) -> Iterator[list[Answered]]:
    """Yield a source's first chunk and the others: no further, since an error in the next one isn't its own."""
    yield chunk
    count = len(chunk)
    while count < (answering.total or 0):
        _, chunk = next(chunks)
        count += len(chunk)
        yield chunk


def _is_done(path: Path, output: Path) -> bool:
    """Return whether the output of a file exists and is newer than it."""
    try:
        return output.stat().st_mtime_ns >= path.stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _check_same(folder: Path, description: Mapping[str, Any]) -> None:
    """Write the description of a new folder; raise `OptionError` where an existing one differs."""
    path = folder / DESCRIPTION
    with file_errors_as(DataError):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            before = json.loads(path.read_bytes())
        except FileNotFoundError:
            write_file(path, json_bytes(description))
            return
        except FileExistsError:
            raise OptionError(f"--out {folder} is a file, and a folder was expected for several files") from None
        except (OSError, ValueError) as error:
            raise OptionError(f"{path} can't be read: {error}") from None
    now = json.loads(json_bytes(description))
    for key in now:
        if before.get(key) != now[key]:
            raise OptionError(
                f"--out {folder} has answers with {key} {before.get(key)}, and this run has {now[key]}; choose another"
            )
