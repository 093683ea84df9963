"""adapt predict: errors, interrupted streams, and memory."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Pool
from adapterkit.data import streams
from adapterkit.errors import DataError
from adapterkit.workflows import answer as answering
from tests.helpers import forked
from tests.helpers.cli import Adapt
from tests.helpers.shop import ADAPT, TEXTS, Shop, close, lines

FILES = {
    "rows.jsonl": '{"text": "a", "id": 1}\n{"text": "b", "id": 2}\n',
    "two.csv": "body,remark\na,b\n",
    "gap.txt": "a\n\nb\n",
    "hole.csv": "text,id\na,1\n ,2\n",
    "none.jsonl": "",
    "bad.jsonl": '{"text": "a"}\n{"text"\n',
    "routed.jsonl": '{"adapter": "mood", "text": "a"}\n\n{"adapter": "mod", "text": "b"}\n',
    "unrouted.jsonl": '{"adapter": "mood", "text": "a"}\n{"text": "b"}\n',
    "apart.jsonl": '{"adapter": "mood", "text": "a"}\n{"adapter": "far", "text": "b"}\n',
    "lacking.jsonl": '{"adapter": "mood", "text": "a"}\n{"adapter": "answers", "text": "b"}\n',
}


MISTAKES: dict[str, tuple[list[str], str | None, str]] = {
    "adapter": (["mod", "a text"], None, "no adapter named 'mod'; did you mean 'mood'? registered: answers"),
    "no name": (["a text"], None, "'a text' is no adapter's name"),
    "no version": (["mood@", "a"], None, "'mood@' is no adapter's name: letters, digits, - and _, at most 96, a"),
    "second": (["mood", "topic,nmes", "a"], None, "no adapter named 'nmes'; did you mean 'names'?"),
    "version": (["mood", "topic@00", "a"], None, "no version of topic named '00'"),
    "no adapter": (["--", "a"], None, "which adapter? name one before the texts; registered: answers, chat"),
    "no adapter for rows": (
        ["--file", "rows.jsonl"],
        None,
        "rows.jsonl: which adapter? name one before the texts, or in a column 'adapter', and there are text, id; reg",
    ),
    "file": (["mood", "--file", "no.csv"], None, "no file 'no.csv'; '.' holds folder.csv, hole.csv, two.csv"),
    "kind of file": (["mood", "--file", "rows.doc"], None, "rows.doc: files that can be read end in .csv"),
    "both": (
        ["mood", "a", "--file", "rows.jsonl"],
        None,
        "'a' is not a registered adapter, and a text",
    ),
    "empty file": (["mood", "--file", "none.jsonl"], None, "none.jsonl: no rows"),
    "empty input": (["mood"], "", "standard input: no rows"),
    "empty text": (["mood", "a", " "], None, "text 2: text is empty"),
    "empty line": (["mood"], "a\n\nb\n", "standard input:2: the line is empty"),
    "empty line of a file": (["mood", "--file", "gap.txt"], None, "gap.txt:2: the line is empty"),
    "empty cell": (["mood", "--file", "hole.csv"], None, "hole.csv:3: text is empty"),
    "bad line": (["mood", "--file", "bad.jsonl"], None, "bad.jsonl:2: not JSON"),
    "bad line of a stream": (["mood"], FILES["bad.jsonl"], "standard input:2: not JSON"),
    "no object": (["mood"], '{"text": "a"}\n[1]\n', "standard input:2: a JSON object was expected, not a list"),
    "column": (
        ["pair", "--file", "rows.jsonl"],
        None,
        "rows.jsonl: adapter 'pair' reads premise + hypothesis; there are text, id; give --text-column-name",
    ),
    "column of several": (["mood", "pair", "--file", "rows.jsonl"], None, "adapter 'pair' reads premise + hypothesis"),
    "two texts": (
        ["mood", "--file", "two.csv"],
        None,
        "adapter 'mood' reads text; there are body, remark; give --text",
    ),
    "text column": (
        ["mood", "--file", "rows.jsonl", "--text-column-name", "txt"],
        None,
        "rows.jsonl: no column named 'txt'; did you mean 'text'? there are: id, text",
    ),
    "text columns": (
        ["pair", "--file", "rows.jsonl", "--text-column-name", "text"],
        None,
        "--text-column-name=text, but adapter 'pair' reads premise + hypothesis: 2 expected",
    ),
    "text column of texts": (
        ["mood", "a", "--text-column", "a"],
        None,
        "--text-column-name=a, but these are texts wit",
    ),
    "fields": (["pair", "a"], None, "text 1: 'a': premise and hypothesis were expected, separated by a tab"),
    "few endings": (["swag", "a\tb\tc"], None, "text 1: 'a\\tb\\tc': a context and its endings, at least two, were"),
    "route": (["--file", "routed.jsonl"], None, "Error: routed.jsonl:3: "),
    "route's spelling": (["--file", "routed.jsonl"], None, "no adapter named 'mod'; did you mean 'mood'?"),
    "route of a stream": (["--json"], FILES["routed.jsonl"], "standard input:3: "),
    "no route": (["--file", "unrouted.jsonl"], None, "unrouted.jsonl:2: adapter is empty"),
    "odd route": ([], '{"adapter": 3, "text": "a"}', "standard input:1: adapter is no name"),
    "a route's column": (
        ["--file", "lacking.jsonl"],
        None,
        "adapter 'answers' reads question + context; there are ada",
    ),
    "bases": (["mood", "far", "a"], None, "adapters that answer together need one base, got 2: "),
    "bases of routes": (["--file", "apart.jsonl"], None, "far"),
    "another base": (["mood", "far", "a", "--base", "BASE"], None, "adapter 'far': the adapter was trained on base"),
    "object": (["mood"], '{"text": {"a": 1}}', "standard input:1: text is {'a': 1}, but a text was expected"),
    "words": (["names"], '{"tokens": [1]}', "tokens is [1], but a text or a list of words was expected"),
    "no words": (["names"], '{"tokens": []}', "standard input:1: tokens is empty"),
    "mixed": (
        ["names"],
        '{"tokens": ["a"]}\n{"tokens": "a"}',
        "standard input:2: tokens is a text, unlike in the rows",
    ),
    "endings": (["choice"], '{"context": "a", "endings": ["b"]}', "but a list of at least 2 endings was expected"),
    "language": (["german"], '{"translation": {"fr": "b"}}', "but a text or an object with 'en' was expected"),
    "messages": (["chat"], '{"messages": [{"role": "user"}]}', "but a text or a list of messages was expected"),
    "surrogate": (["mood"], '{"text": "\\ud83d"}', "standard input:1: text holds half of a surrogate pair"),
    "mask": (["words", "nothing to guess"], None, "'nothing to guess' has no <mask>, the word to predict"),
    "ending": (
        ["mood", "a", "--out", "o.json"],
        None,
        "--out o.json: a name that ends in .jsonl, .csv, .tsv, .npy, .parquet was expec",
    ),
    "two outputs": (["mood", "a", "--out", "o.csv", "--json"], None, "give --out o.csv or --json, not both"),
    "two formats": (["mood", "a", "--format", "csv", "--json"], None, "give --format csv or --json, not both"),
    "no folder": (["mood", "a", "--out", "no/o.csv"], None, "can't write 'no/o.csv': No such file or directory"),
    "folder": (["mood", "a", "--out", "folder.csv"], None, "--out folder.csv is a folder, and a file was expected"),
    "format of a file": (["mood", "-f", "rows.jsonl", "--input-format", "csv"], None, "is for the standard input, got"),
    "bytes": (
        ["mood", "a", "--max-bytes", "lots"],
        None,
        "expected a number of bytes such as 256MB, 1GB or 1000000, got 'lots'",
    ),
    "no bytes": (
        ["mood", "a", "--max-bytes", "0MB"],
        None,
        "expected a number of bytes such as 256MB, 1GB or 1000000, got '0MB'",
    ),
    "few bytes": (["mood", "a", "--max-bytes", "10"], None, "bytes, but max_bytes=10"),
    "batch": (["mood", "a", "--batch-size", "0"], None, "0 is not in the range x>=1"),
}


@pytest.mark.parametrize(("args", "given", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(
    args: list[str], given: str | None, message: str, adapt: Adapt, shop: Shop, tmp_path: Path
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "folder.csv").mkdir()
    before = sorted(tmp_path.iterdir())
    done = adapt("predict", *(str(shop.folder / "base") if a == "BASE" else a for a in args), input=given)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.startswith("Error: ")
    assert [line for line in done.stderr.splitlines()[1:] if not line.startswith("try: adapt predict ")] == []
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_a_column_that_comes_late_is_an_error_where_it_has_no_place(
    adapt: Adapt, good: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "REQUESTS", 2)
    rows = '{"text": "a"}\n{"text": "b"}\n{"text": "c", "note": 1}\n'
    assert lines(good("mood", input=rows))[2]["note"] == 1
    for args, text in ((["--format", "csv"], rows), ([], rows.replace("note", "label"))):
        done = adapt("predict", "mood", *args, "--batch-size", 2, input=text)
        assert done.exit_code == 2
        assert re.search("standard input:3: column '(note|label)' is not in the first rows", done.stderr)


def test_a_base_that_comes_late_is_an_error(adapt: Adapt, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "REQUESTS", 1)
    done = adapt("predict", "--batch-size", 1, input=FILES["apart.jsonl"])
    assert [row["adapter"] for row in lines(done.stdout)] == ["mood"]
    assert done.exit_code == 2
    assert "standard input:2: adapter 'far': the adapter was trained on base" in done.stderr


def test_a_file_that_is_changed_meanwhile_is_an_error(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(FILES["rows.jsonl"])
    asked = answering.Answering(streams.from_file(str(path)), shop.registry, ["mood"])
    assert (asked.total, list(asked.columns)) == (2, ["text", "id"])
    path.write_text(FILES["rows.jsonl"] * 2)
    with pytest.raises(DataError, match="was changed while it was being read"):
        next(asked.chunks())


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), ValueError])
def test_what_is_not_done_is_not_written(
    error: Any, adapt: Adapt, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "REQUESTS", 2)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    (tmp_path / "old.csv").write_text("old")
    ask = Pool.predict
    asked = []

    def failing(self: Pool, *args: Any, **kwargs: Any) -> Any:
        asked.append([p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp") and p.stat().st_size])
        if len(asked) > 1:
            raise error
        return ask(self, *args, **kwargs)

    monkeypatch.setattr(Pool, "predict", failing)
    for name in ("new.jsonl", "old.csv"):
        asked.clear()
        done = adapt("predict", "mood", "--file", "texts.txt", "--out", name, "--batch-size", 2)
        assert done.exit_code == {KeyboardInterrupt: 130, ValueError: 1}.get(error, 2)
        assert [len(files) for files in asked] == [0, 1]  # the first chunk was written beside
        assert ("Error: can't write" in done.stderr) == isinstance(error, OSError)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.csv", "texts.txt"]
    assert (tmp_path / "old.csv").read_text() == "old"


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_it_quietly(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("".join(f"a fine film {i}\n" for i in range(9_000)))
    command = [ADAPT, "predict", "topic", "--file", "texts.txt"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["text"] == "a fine film 0"
        process.stdout.close()
        said = process.stderr.read()
        process.wait()
    assert said == ""
    assert process.returncode == 1


def test_a_slow_stream_is_answered_as_it_comes(shop: Shop, tmp_path: Path) -> None:
    said = shop.say("topic", TEXTS)
    with forked.Popen(
        [ADAPT, "predict", "topic"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        guard = threading.Timer(120, process.kill)  # rather than wait for ever
        guard.start()
        for i in (0, 1):
            process.stdin.write(f"{TEXTS[i]}\n")
            process.stdin.flush()
            close(json.loads(process.stdout.readline()), {"text": TEXTS[i], **said[i]})  # before the next one is asked
        process.stdin.write(f"{TEXTS[2]}\n{TEXTS[3][:5]}")
        process.stdin.flush()
        close(json.loads(process.stdout.readline()), {"text": TEXTS[2], **said[2]})
        process.stdin.write(f"{TEXTS[3][5:]}\n{TEXTS[4]}")
        process.stdin.close()
        close(lines(process.stdout.read()), [{"text": t, **a} for t, a in list(zip(TEXTS, said, strict=True))[3:]])
    guard.cancel()
    assert process.returncode == 0


def test_what_has_come_of_a_stream_is_a_chunk(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "REQUESTS", 4)
    reading, writing = os.pipe()
    with open(reading, "rb") as there, open(writing, "wb", buffering=0) as file:
        file.write(b'{"text": "a"}\n{"text": "b"}\n\n')
        began = time.monotonic()
        asked = answering.Answering(streams.from_stream("it", there), shop.registry, ["mood"])
        assert answering.FIRST_SECONDS <= time.monotonic() - began < 5 * answering.FIRST_SECONDS
        assert list(asked.columns) == ["text"]
        chunks = asked.chunks(batch_size=4)
        assert [one.row["text"] for one in next(chunks)] == ["a", "b"]
        file.write(b'{"text": "c"}\r\n{"text": "d", "n": 1}\n{"text"')
        assert [one.row["text"] for one in next(chunks)] == ["c", "d"]
        file.write(b': "e"}\n' + b"".join(b'{"text": "%d"}\n' % i for i in range(6)))
        assert [[one.row["text"] for one in next(chunks)] for _ in range(2)] == [["e", "0", "1", "2"], ["3", "4", "5"]]
        file.write(b'{"text": "end"}')
        file.close()
        assert [(one.line, one.row["text"]) for one in next(chunks)] == [(13, "end")]
        assert list(chunks) == []


def test_a_long_line_comes_in_pieces(shop: Shop) -> None:
    given = streams.from_stream("it", io.BytesIO(b"x" * 200_000 + b"\n" + "un café, déjà très bon".encode("cp1252")))
    assert list(given) == [(1, {"text": "x" * 200_000}), (2, {"text": "un café, déjà très bon"})]


MEMORY = """
import sys
import threading
from pathlib import Path
from contextlib import contextmanager
from adapterkit.cli import common, main
bars = []
@contextmanager
def bar(self, title, total):
    bars.append(title)
    yield self
    bars.pop()
def advance(self, steps=1, **values):
    if bars[-1] == "answering":
        memory = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("RssAnon"))
        print(int(memory.split()[1]) // 1024, file=sys.stderr)
common.TerminalWatch.advance, common.TerminalWatch.bar = advance, bar
main(["predict", "topic", "--file", sys.argv[1], "--out", sys.argv[2], "--batch-size", "512"])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc tells the memory of a process")
def test_many_rows_need_no_more_memory_than_few(shop: Shop, tmp_path: Path) -> None:
    count = 12_000
    with open(tmp_path / "rows.jsonl", "w") as file:
        file.writelines(json.dumps({"text": f"film {i % 50}", "id": i, "x": "x" * 1500}) + "\n" for i in range(count))
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl")]
    done = forked.run(command, check=True)
    memory = [int(line) for line in done.stderr.splitlines() if line.isdigit()]
    assert len(memory) == -(-count // 2_048)
    assert memory[-1] - memory[2] < 15
    with open(tmp_path / "out.jsonl") as file:
        assert all(json.loads(line)["id"] == i for i, line in enumerate(file))
