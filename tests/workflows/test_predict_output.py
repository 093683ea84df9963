"""adapt predict: every format of output, in the order of the rows."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from adapterkit import Pool
from adapterkit.workflows import answer as answering
from tests.helpers.cli import Adapt
from tests.helpers.shop import TEXTS, WRITE, Shop, close, lines


@pytest.mark.parametrize("end", ["jsonl", "csv", "tsv"])
def test_every_kind_of_output(end: str, good: Any, shop: Shop, tmp_path: Path) -> None:
    texts = [*TEXTS, "two\nlines\r", "a\ttab, a comma", "  spaces "]
    rows = [{"text": text, "n": i / 8, "of": [i, {"a": None}], "none": None} for i, text in enumerate(texts)]
    WRITE["jsonl"](tmp_path / "rows.jsonl", rows)
    (tmp_path / f"out.{end}").write_text("before")
    assert good("mood", "--file", "rows.jsonl", "--out", f"out.{end}") == ""
    written = (tmp_path / f"out.{end}").read_bytes().decode()
    assert good("mood", "--file", "rows.jsonl", "--format", end) == written.replace("\r\n", "\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"out.{end}", "rows.jsonl"]
    assert (tmp_path / f"out.{end}").stat().st_mode & 0o777 == 0o644
    said = shop.say("mood", texts)
    if end == "jsonl":
        close(lines(written), [{**row, **answer} for row, answer in zip(rows, said, strict=True)])
        return
    with open(tmp_path / f"out.{end}", newline="", encoding="utf-8") as file:
        cells = list(csv.DictReader(file, delimiter={"csv": ",", "tsv": "\t"}[end], strict=True))
    assert list(cells[0]) == ["text", "n", "of", "none", "label", "score"]
    assert [row["text"] for row in cells] == texts
    assert [(float(row["n"]), json.loads(row["of"]), row["none"]) for row in cells] == [
        (row["n"], row["of"], "") for row in rows
    ]
    assert [row["label"] for row in cells] == [answer["label"] for answer in said]
    close([float(row["score"]) for row in cells], [answer["score"] for answer in said])


def test_a_csv_that_was_written_is_read_again(good: Any, tmp_path: Path) -> None:
    texts = [*TEXTS, "two\nlines\r", "a\ttab, a comma"]
    WRITE["jsonl"](tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    good("mood", "--file", "rows.jsonl", "--out", "out.csv")
    again = lines(good("topic", "--file", "out.csv"))
    assert [row["text"] for row in again] == texts
    assert list(again[0]) == ["text", "label", "score", "predicted_label", "predicted_score"]


def test_a_taken_name_is_left_to_the_column(good: Any, shop: Shop) -> None:
    row = {"text": "great", "label": "mine", "predicted_label": "mine too", "score": 3}
    said = shop.say("mood", ["great"])[0]
    found = lines(good("mood", input=json.dumps(row)))[0]
    close(found, {**row, "predicted_predicted_label": said["label"], "predicted_score": said["score"]})


def test_a_table_is_for_reading(good: Any) -> None:
    rows = [re.split(r"\s\s+", line.strip()) for line in good("mood", *TEXTS[:2]).splitlines()]
    assert rows[0] == ["label", "score", "text"]
    assert [row[2] for row in rows[1:]] == TEXTS[:2]
    assert all(re.fullmatch(r"[01]\.\d{3}", row[1]) for row in rows[1:])
    shown = good("mood", "topic", "--format", "table", input="great\n")
    assert re.split(r"\s\s+", shown.splitlines()[0].strip()) == ["mood", "topic", "text"]
    shown = good("--format", "table", input='{"adapter": "mood", "text": "great"}')
    assert re.split(r"\s\s+", shown.splitlines()[0].strip()) == ["answer", "score", "adapter", "text"]


def test_json_is_one_list_however_many_chunks_it_has(good: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = good("mood", "--json", *TEXTS, "a\u2028b")
    assert whole == json.dumps(json.loads(whole), indent=2, ensure_ascii=False) + "\n"
    monkeypatch.setattr(answering, "REQUESTS", 2)
    close(json.loads(good("mood", "--json", "--batch-size", 2, *TEXTS, "a\u2028b")), json.loads(whole))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::adapterkit.errors.TruncationWarning")
def test_order_is_kept_over_chunks(good: Any, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    words = " ".join(TEXTS).split()
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 30))) for _ in range(60)]
    names = ["mood", "topic"]
    rows = [{"text": text, "i": i, "adapter": draw.choice(names)} for i, text in enumerate(texts)]
    WRITE["jsonl"](tmp_path / "rows.jsonl", rows)
    said = {name: shop.say(name, texts) for name in names}
    sizes: list[int] = []
    ask = Pool.predict

    def counting(self: Pool, texts: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(texts))
        return ask(self, texts, *args, **kwargs)

    monkeypatch.setattr(Pool, "predict", counting)
    for most, characters, expected in ((7, 1 << 20, [7] * 8 + [4]), (1 << 20, 300, None), (1 << 20, 1 << 20, [60])):
        monkeypatch.setattr(answering, "REQUESTS", most)
        monkeypatch.setattr(answering, "CHARACTERS", characters)
        sizes.clear()
        found = lines(good("--file", "rows.jsonl", "--batch-size", 4))
        close(found, [{**row, **said[row["adapter"]][i]} for i, row in enumerate(rows)])
        assert sizes == expected or (expected is None and len(sizes) > 10)
        both = lines(good("mood", "topic", "--file", "rows.jsonl"))
        close(both, [{**row, **{name: said[name][i] for name in names}} for i, row in enumerate(rows)])


def test_a_bar_on_the_terminal_takes_no_row_from_the_output(
    good: Any, adapt: Adapt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITE["jsonl"](tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS])
    plain = {form: good("mood", "--file", "rows.jsonl", "--format", form) for form in ("jsonl", "csv", "table")}
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the standard error for a terminal then
    for form in ("jsonl", "csv"):
        done = adapt("predict", "mood", "--file", "rows.jsonl", "--format", form)
        assert done.stdout == plain[form]
        assert "answering" in done.stderr
    shown = re.sub(r"\x1b\[[0-9;]*m", "", good("mood", "--file", "rows.jsonl", "--format", "table"))
    assert shown == plain["table"]
