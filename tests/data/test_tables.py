"""Tables as spreadsheets, exports and other languages write them: separators, encodings, columns without a name."""

from __future__ import annotations

import builtins
import datetime
import io
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from adapterkit.data import streams
from adapterkit.data.readers import ReadOptions, open_rows, rows
from adapterkit.data.splits import read
from adapterkit.errors import DataError, OptionError
from adapterkit.settings import DataOptions

ROWS = [{"text": "Cold soup, again", "label": "bad"}, {"text": "Good; really", "label": "good"}]


def write(path: Path, content: str | bytes) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read_all(path: str, **options: Any) -> tuple[list[Any], list[str]]:
    """Return the rows of a file, and the notes of its reader."""
    with open_rows(path, ReadOptions(**options)) as (source, numbered):
        return [row for _, row in numbered], source.notes


DIALECTS = {
    "semicolons": ("a.csv", 'text;label\nCold soup, again;bad\n"Good; really";good\n', ["separated by ';'"]),
    "semicolons in every quote": ("a.csv", '"text";"label"\n"Cold soup, again";"bad"\n"Good; really";"good"\n', None),
    "tabs": ("a.csv", "text\tlabel\nCold soup, again\tbad\nGood; really\tgood\n", ["separated by tabs"]),
    "pipes": ("a.csv", "text|label\nCold soup, again|bad\nGood; really|good\n", ["separated by '|'"]),
    "a sep= line": ("a.csv", 'sep=;\r\ntext;label\r\nCold soup, again;bad\r\n"Good; really";good\r\n', None),
    "a sep= line with the usual separator": (
        "a.csv",
        'sep=,\ntext,label\n"Cold soup, again",bad\nGood; really,good\n',
        [],
    ),
    "a space before quotes": (
        "a.csv",
        'text, label\n"Cold soup, again", "bad"\n"Good; really", "good"\n',
        ["separated by ',', spaces after them removed"],
    ),
    "escaped quotes": (
        "a.csv",
        'text,label\n"Cold soup, again",bad\n"Good; really",good\n"a \\"b\\", c",bad\n',
        ["separated by ',', quotes escaped by backslashes"],
    ),
    "commas in a tsv": ("a.tsv", 'text,label\n"Cold soup, again",bad\nGood; really,good\n', ["separated by ','"]),
    "the usual ones": ("a.csv", 'text,label\n"Cold soup, again",bad\nGood; really,good\n', []),
    "lines of an old Mac": ("a.csv", 'text,label\r"Cold soup, again",bad\rGood; really,good\r', []),
}


@pytest.mark.parametrize(("name", "content", "notes"), DIALECTS.values(), ids=DIALECTS)
def test_the_separator_is_inferred_and_reported(
    name: str, content: str, notes: list[str] | None, tmp_path: Path
) -> None:
    table, reported = read_all(write(tmp_path / name, content))
    assert table[:2] == ROWS
    assert reported == (["separated by ';'"] if notes is None else notes)


def test_quoted_cells_of_a_tsv_may_hold_tabs_and_line_ends(tmp_path: Path) -> None:
    content = 'text\tlabel\n"two\nlines"\tx\n"a\ttab"\ty\n' + "plain\tz\n" * 5
    table, _ = read_all(write(tmp_path / "a.tsv", content))
    assert [row["text"] for row in table[:3]] == ["two\nlines", "a\ttab", "plain"]


def test_a_row_with_another_number_of_cells_is_named_whatever_the_separator(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text;label\n" + "a;x\n" * 9 + "b;c;y\n")
    with pytest.raises(DataError, match=r"a\.csv:11: 3 cells, but the header has 2 columns"):
        list(rows(path))


def test_a_separator_that_is_named_overrules(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,b;c,d\n1,2;3,4\n")
    assert read_all(path)[0] == [{"a": "1", "b;c": "2;3", "d": "4"}]
    assert read_all(path, separator=";") == ([{"a,b": "1,2", "c,d": "3,4"}], [])
    assert read(path, DataOptions(separator="semicolon"))["c,d"][:] == ["3,4"]
    assert read(path, DataOptions())["d"][:] == ["4"]  # the same bytes, cached by their options


@pytest.mark.parametrize(("name", "character"), [("tab", "\t"), ("\\t", "\t"), ("Comma", ","), ("^", "^")])
def test_a_separator_has_a_name_or_is_a_character(name: str, character: str) -> None:
    assert DataOptions(separator=name).separator == character


@pytest.mark.parametrize("separator", ["", ";;", '"', "\n", "colon"])
def test_another_separator_is_an_error(separator: str) -> None:
    with pytest.raises(OptionError, match="separator must be comma, semicolon, tab, pipe, space"):
        DataOptions(separator=separator)


@pytest.mark.parametrize(
    ("content", "expected", "notes"),
    [
        (
            "v1,v2,,,\nham,hi,,,\nspam,yo,,,\n",
            [{"v1": "ham", "v2": "hi"}, {"v1": "spam", "v2": "yo"}],
            ["columns 3, 4, 5 have no name and no content: left out"],
        ),
        (
            "v1,v2,,\nham,hi,,\nspam,yo,more,\n",
            [{"v1": "ham", "v2": "hi"}, {"v1": "spam", "v2": "yo", "column_3": "more"}],
            [
                "column 4 has no name and no content: left out",
                "column 3 has no name: read as 'column_3', filled in 1 row",
            ],
        ),
        (
            ",text\n0,hi\n1,yo\n",
            [{"column_1": "0", "text": "hi"}, {"column_1": "1", "text": "yo"}],
            ["column 1 has no name: read as 'column_1', filled in 2 rows"],
        ),
        ("text,label,\nhi,x\n", [{"text": "hi", "label": "x"}], ["column 3 has no name and no content: left out"]),
        (
            "text,label\nhi,x,\nyo,y\n",
            [{"text": "hi", "label": "x"}, {"text": "yo", "label": "y"}],
            ["1 row has more cells than the header, the others empty: left out"],
        ),
        (
            "text,label\nhi,x\n,\n,\n",
            [{"text": "hi", "label": "x"}],
            ["2 rows of empty cells skipped"],
        ),
    ],
)
def test_columns_without_a_name_are_left_out_or_numbered(
    content: str, expected: list[Any], notes: list[str], tmp_path: Path
) -> None:
    assert read_all(write(tmp_path / "a.csv", content)) == (expected, notes)


def test_a_table_without_any_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv:1: 2 columns without a name"):
        list(rows(write(tmp_path / "a.csv", ",\n1,2\n")))


TEXTS = {
    "cp1252": ["Le café était très agréable", "Nous avons été déçus", "À refaire, très belle expérience"],
    "cp1251": ["Отличный фильм, очень понравилось", "Ужасная гостиница", "Еда была вкусная"],
    "koi8_r": ["Отличный фильм, очень понравилось", "Ужасная гостиница", "Еда была вкусная"],
    "cp1250": ["Świetny film, bardzo mi się podobał", "Okropny hotel, nigdy więcej", "Jedzenie było pyszne"],
    "iso8859_2": ["Příliš žluťoučký kůň úpěl ďábelské ódy", "Hotel byl hrozný, už nikdy", "Skvělý šéf"],
    "gb18030": ["这部电影非常好看", "酒店太差了，再也不来", "食物很好吃，服务也不错"],
    "big5": ["這部電影非常好看", "酒店太差了，再也不來", "食物很好吃，服務也不錯"],
    "cp932": ["この映画はとても面白かった", "ホテルはひどかった、二度と行かない", "料理がおいしい"],
    "cp949": ["이 영화는 정말 재미있었다", "호텔이 너무 나빴다, 다시는 안 간다", "음식이 맛있다"],
    "cp1253": ["Πολύ καλή ταινία, μου άρεσε", "Το ξενοδοχείο ήταν απαίσιο", "Ωραίο φαγητό"],
    "cp1254": ["Çok güzel bir film, beğendim", "Otel berbattı, bir daha asla", "Işıklı şehir"],
    "euc_jp": ["この映画はとても面白かった", "ホテルはひどかった、二度と行かない", "料理がおいしい"],
    "koi8_u": ["Суп був холодний і несмачний", "Чудовий готель", "Їжа смачна, є басейн"],
    "iso8859_5": ["Отличный фильм, очень понравилось", "Ужасная гостиница", "Еда была вкусная"],
    "iso8859_6": ["كان الحساء باردا", "فندق رائع جدا", "خدمة سيئة"],
    "cp852": ["Świetny film, bardzo mi się podobał", "Okropny hotel, nigdy więcej", "Jedzenie było pyszne"],
    "cp1255": ["המרק היה קר", "מלון נהדר, אני ממליץ", "שירות גרוע"],
    "cp874": ["ซุปเย็นมาก", "โรงแรมดีมาก", "บริการแย่"],
}


@pytest.mark.parametrize("codec", TEXTS)
@pytest.mark.parametrize("suffix", ["csv", "txt", "jsonl"])
def test_an_encoding_that_fits_clearly_best_is_used_and_reported(codec: str, suffix: str, tmp_path: Path) -> None:
    texts = TEXTS[codec] * 3
    lines = {"csv": ["text", *(f'"{text}"' for text in texts)], "txt": texts}
    lines["jsonl"] = [f'{{"text": "{text}"}}' for text in texts]
    path = write(tmp_path / f"a.{suffix}", "\n".join(lines[suffix]).encode(codec))
    table, notes = read_all(path)
    assert [row["text"] for row in table] == texts
    assert [note.partition(":")[0].startswith("not UTF-8; read as ") for note in notes] == [True]
    assert "detected, not certain (--encoding overrules)" in notes[0]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_is_read_without_a_remark(codec: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nЕда;x,é\n".encode(codec))
    assert read_all(path) == ([{"text": "Еда;x", "label": "é"}], [])


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark_is_detected(codec: str, tmp_path: Path) -> None:
    table, notes = read_all(write(tmp_path / "a.csv", "text,label\nЕда,é\n".encode(codec)))
    assert table == [{"text": "Еда", "label": "é"}]
    assert notes == [f"read as {codec.upper()}: detected, not certain (--encoding overrules)"]


def test_an_encoding_that_is_not_clear_is_an_error_with_the_readings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nmañana,x\n".encode("cp1252"))
    with pytest.raises(DataError) as caught:
        list(rows(path))
    assert "Windows-1252 ('mañana') or Windows-1250 ('mańana'); give --encoding, such as" in str(caught.value)
    assert read_all(path, encoding="latin-1") == ([{"text": "mañana", "label": "x"}], [])


def test_a_utf_8_file_with_damaged_bytes_has_bad_rows_and_no_other_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\nçà et là,x\n".encode() + b"caf\xe9,y\n" + "été,x\n".encode())
    with pytest.raises(DataError, match=r"a\.csv:3: bytes that are not UTF-8"):
        list(rows(path))
    notes: list[str] = []
    table = read(path, DataOptions(skip_bad_rows=True), notes=notes)
    assert table["text"][:] == ["çà et là", "été"]
    assert notes == [f"1 bad row skipped in {path}, at line 3: bytes that are not UTF-8"]


@pytest.mark.parametrize("encoding", ["utf-9", "base64", "x y", "\0"])
def test_an_unknown_encoding_is_an_error(encoding: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no such encoding"):
        read_all(write(tmp_path / "a.csv", "a\n1\n"), encoding=encoding)


def test_notes_are_cached_with_the_rows(tmp_path: Path) -> None:
    content = "text;label\nЕда;x\nвода;y\n".encode("cp1251")
    first: list[str] = []
    read(write(tmp_path / "a.csv", content), notes=first)
    again: list[str] = []
    read(write(tmp_path / "b.csv", content), notes=again)
    assert [note.replace("a.csv", "b.csv") for note in first] == again
    assert [note.partition(": ")[0] for note in again] == [str(tmp_path / "b.csv")] * 2


def test_the_standard_input_has_dialects_and_encodings_too() -> None:
    def streamed(content: bytes, kind: str, **options: Any) -> tuple[list[Any], list[str]]:
        inputs = streams.from_stream("-", io.BytesIO(content), kind, ReadOptions(**options))
        return [row for _, row in inputs], inputs.notes

    assert streamed(b"text;label\na, b;x\n", "csv") == ([{"text": "a, b", "label": "x"}], ["separated by ';'"])
    table, notes = streamed("привет, как дела\n".encode("cp1251"), "txt")
    assert (table, len(notes)) == ([{"text": "привет, как дела"}], 1)
    assert streamed("дела\n".encode("koi8_r"), "txt", encoding="koi8_r") == ([{"text": "дела"}], [])


# ---- spreadsheets


def workbook(path: Path, **sheets: list[list[Any]]) -> str:
    book = Workbook()
    book.remove(book.active)
    for name, lines in sheets.items():
        sheet = book.create_sheet(name)
        for line in lines:
            sheet.append(line)
    book.save(path)
    return str(path)


def test_the_first_sheet_of_a_workbook_is_read_as_texts(tmp_path: Path) -> None:
    lines = [["text", "label", None], ["hi", 1], [None, None], ["yo", 2.5], [datetime.date(2026, 1, 2), True]]
    path = workbook(tmp_path / "a.xlsx", empty=[], rows=lines, more=[["x"], [1]])
    with open_rows(path) as (source, numbered):
        assert list(numbered) == [
            (2, {"text": "hi", "label": "1"}),
            (4, {"text": "yo", "label": "2.5"}),
            (5, {"text": "2026-01-02", "label": "TRUE"}),
        ]
    assert source.unit == "row"
    assert source.notes[0] == "sheet 'rows' is read; not read: more"
    assert read(path)["text"][:] == ["hi", "yo", "2026-01-02"]


@pytest.mark.parametrize("content", [b"", b"text,label\n", b"PK\x03\x04 and nothing else"])
@pytest.mark.parametrize("suffix", ["xlsx", "xls", "ods"])
def test_what_is_no_spreadsheet_is_an_error(content: bytes, suffix: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"a\.{suffix}: a spreadsheet was expected: "):
        list(rows(write(tmp_path / f"a.{suffix}", content)))


def test_a_spreadsheet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "python_calamine":
            raise ImportError(name)
        return really(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        DataError, match=r"a\.xlsx: spreadsheets need python-calamine: pip install 'adapterkit\[excel\]'"
    ):
        list(rows(workbook(tmp_path / "a.xlsx", rows=[["text"], ["hi"]])))


@pytest.mark.parametrize(
    ("codec", "line"),
    [
        ("cp1251", "Супата беше студена"),  # Bulgarian, which as Windows-1255 is Hebrew letters
        ("cp1251", "Супа је била хладна, љубазно особље"),
        ("cp1256", "كان الحساء باردا"),
    ],
)
def test_letters_of_another_script_are_none_where_marks_and_final_letters_are_out_of_place(
    codec: str, line: str, tmp_path: Path
) -> None:
    table, _ = read_all(write(tmp_path / "a.csv", f"text,label\n{line.replace(',', ' ')},a\n".encode(codec) * 3))
    assert table[0]["text"] == line.replace(",", " ")


@pytest.mark.parametrize(
    "line", ["It’s what we’ve wanted", "Don’t go: it costs £5 (or €6)", "the boys’ room – “nice”…"]
)
def test_english_with_typographic_marks_alone_is_windows_1252(line: str, tmp_path: Path) -> None:
    table, notes = read_all(write(tmp_path / "a.csv", b"text,label\n" + f"{line},a\n".encode("cp1252") * 9))
    assert (table[0]["text"], len(notes)) == (line, 1)


def test_japanese_between_escapes_is_iso_2022_jp(tmp_path: Path) -> None:
    content = "text,label\nスープが冷たい、残念,悪い\n".encode("iso2022_jp")
    table, notes = read_all(write(tmp_path / "a.csv", content))
    assert table == [{"text": "スープが冷たい、残念", "label": "悪い"}]
    assert notes == ["read as ISO-2022-JP: detected (--encoding overrules)"]


def test_words_of_two_western_languages_are_windows_1252_however_often_they_occur(tmp_path: Path) -> None:
    line = "café “naïve” déjà vu über"
    for times in (1, 14):
        path = tmp_path / f"{times}.csv"
        path.write_bytes(("text,label\n" + f"{line},a\n" * times).encode("cp1252"))
        assert [row["text"] for _, row in rows(str(path))] == [line] * times
