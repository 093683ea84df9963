"""Files of two encodings are refused; texts that were damaged before they were saved are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterkit.data import read
from adapterkit.errors import DataError
from adapterkit.tasks.damaged_texts import damage_remarks

RUSSIAN, GERMAN = "суп хороший, номер чистый", "süße Brühe, schöner Gruß"


@pytest.mark.parametrize(("words", "codec"), [(RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (GERMAN, "cp1252")])
def test_a_file_of_two_encodings_is_refused(words: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f"{i};{words};{'ab'[i % 2]}\n".encode("utf-8" if i % 3 == 0 else codec) for i in range(30)]
    path.write_bytes(b"id;text;label\n" + b"".join(lines))
    with pytest.raises(DataError, match="two encodings: 10 of 30 lines that aren't ASCII are UTF-8"):
        read(str(path))


@pytest.mark.parametrize(("words", "codec"), [(RUSSIAN, "cp1251"), (GERMAN, "cp1252"), ("这部电影非常好看", "gb18030")])
def test_a_file_of_one_encoding_is_read(words: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text;label\n" + "".join(f"{words};{'ab'[i % 2]}\n" for i in range(30)).encode(codec))
    assert read(str(path))[0]["text"] == words


ROWS = (
    "завтрак вкусный", "персонал грубый", "отличный номер", "пляж далеко", "очень понравилось", "не советую", "дорого",
    "ужасная еда", "море чистое", "быстро и хорошо", "цена хорошая", "суп холодный",
)  # fmt: skip


@pytest.mark.parametrize("case", [str.upper, str.lower, str.capitalize])
@pytest.mark.parametrize("codec", ["cp1251", "koi8-r"])
def test_cyrillic_encodings_that_swap_cases_are_distinguished(case: Any, codec: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [case(row) for row in ROWS]
    path.write_bytes("".join(["text;label\n", *(f"{r};{'ab'[i % 2]}\n" for i, r in enumerate(rows))]).encode(codec))
    assert read(str(path))["text"][:] == rows


@pytest.mark.parametrize(
    ("rows", "codec"),
    [
        ([row.capitalize() for row in ROWS], "mac-cyrillic"),
        (["Суп був холодний, їжа смачна", "Чудовий готель є басейн"] * 6, "cp1125"),
    ],
)
def test_rare_cyrillic_encodings_are_detected_where_no_usual_one_fits(
    rows: list[str], codec: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("".join(["text;label\n", *(f"{r};{'ab'[i % 2]}\n" for i, r in enumerate(rows))]).encode(codec))
    assert read(str(path))["text"][:] == rows


@pytest.mark.parametrize(
    ("words", "codec"), [("수프가 차가웠습니다", "iso2022_kr"), ("汤很冷", "hz"), ("スープ", "iso2022_jp")]
)
def test_encodings_of_seven_bits_are_detected(words: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("".join(f"{words} {i};{'ab'[i % 2]}\n" if i else "text;label\n" for i in range(9)).encode(codec))
    assert read(str(path))[0]["text"] == f"{words} 1"


def test_tildes_and_braces_are_no_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text;label\n" + "".join(f"~{{x}}~ and ~{{ a b ~}} {i};{'ab'[i % 2]}\n" for i in range(9)))
    assert read(str(path))[0]["text"] == "~{x}~ and ~{ a b ~} 0"


def damage(*values: Any, is_input: bool = True) -> list[str]:
    return list(damage_remarks("text", values, is_input=is_input))


@pytest.mark.parametrize(
    ("original", "codec"),
    [
        *((text, "cp1252") for text in ("don’t", "süß", "Привет", "Łódź", "€", "çà et là", "Grüße aus Köln")),
        ("Привет", "cp1251"),
    ],
)
def test_utf_8_that_was_read_as_another_encoding_is_counted(original: str, codec: str) -> None:
    misread = _sloppy(original.encode()) if codec == "cp1252" else original.encode().decode(codec, "ignore")
    [remark] = damage(f"a {misread}", "plain", [misread, "word"])
    assert remark.startswith("2 texts in column 'text' that look decoded in the wrong encoding (")


def _sloppy(data: bytes) -> str:
    return "".join(
        bytes([byte]).decode("cp1252") if byte not in b"\x81\x8d\x8f\x90\x9d" else chr(byte) for byte in data
    )


@pytest.mark.parametrize(
    "text",
    [
        "«CAFÉ» et «DÉJÀ»",
        "voilà\u00a0» dit-elle",
        "Её ещё ждут",
        "SMÖRGÅSBORD åäö ÅÄÖ",
        "наéвный",
        "Ça va ? «Très»",
        "日本語",
        "ελληνικά",
    ],
)
def test_texts_as_people_write_them_are_not_damaged(text: str) -> None:
    assert damage(text, text, text) == []


def test_cyrillic_that_was_read_as_windows_1252_is_counted() -> None:
    misread = [row.encode("cp1251").decode("cp1252") for row in ROWS]
    [remark] = damage(*misread)
    assert "texts in column 'text' that look decoded in the wrong encoding ('çàâòðàê' for 'завтрак')" in remark


def test_lost_characters_and_signs_of_no_text_are_counted() -> None:
    assert damage("sch\ufffdn", "a", "b") == [
        "1 text in column 'text' with U+FFFD, the sign of a lost character: read as written"
    ]
    assert damage("\\N", "NULL", "a null", "None of them") == [
        "2 texts in column 'text' that tools write for none, such as NULL or NaN: read as written"
    ]
    assert damage("NULL", is_input=False) == []


@pytest.mark.parametrize("words", ["Käse schön für", "привет мир это", "año niño más"])
def test_utf_7_is_detected(words: str, tmp_path: Path) -> None:
    path, notes = tmp_path / "a.csv", list[str]()
    path.write_bytes(b"text,label\n" + "".join(f"{words},{'ab'[i % 2]}\n" for i in range(4)).encode("utf-7"))
    assert read(str(path), notes=notes)["text"][:] == [words] * 4
    assert notes == [f"{path}: read as UTF-7: detected, not certain (--encoding overrules)"]


@pytest.mark.parametrize("text", ["a +Bob- +Abc- +Ann-", "1 +AB- +AC- +AD-", "+AOk- once"])
def test_ascii_with_plus_and_minus_is_not_utf_7(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,label\n{text},a\n")
    assert read(str(path))["text"][:] == [text]


def test_the_line_below_the_header_of_a_markdown_table_is_no_row(tmp_path: Path) -> None:
    path, notes = tmp_path / "a.csv", list[str]()
    path.write_text("| text | label |\n|:---|---|\n" + "".join(f"| a {i} | {'xy'[i % 2]} |\n" for i in range(4)))
    assert [text.strip() for text in read(str(path), notes=notes)["text"][:]] == ["a 0", "a 1", "a 2", "a 3"]
    assert f"{path}: 1 row of dashes left out" in notes
