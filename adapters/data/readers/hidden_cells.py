"""Count the hidden rows and columns of a sheet, which filters and people hide, from the XML of xlsx and ods files."""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator
from html import unescape

from .compressed import DAMAGE

_CHUNK = 1 << 20
_MOST = 1 << 28
"""The most bytes of a sheet that are read."""
_ROW = re.compile(rb"<(?:\w+:)?row\s[^<>]*?\bhidden=[\"'](?:1|true)[\"'][^<>]*>")
_COLUMN = re.compile(rb"<(?:\w+:)?col\s[^<>]*?\bhidden=[\"'](?:1|true)[\"'][^<>]*>")
_SHEET = re.compile(r"<(?:\w+:)?sheet\s[^<>]*>")
_TARGET = re.compile(r"<(?:\w+:)?Relationship\s[^<>]*>")
_TABLE = re.compile(rb"<table:table\s[^<>]*?table:name=[\"']([^\"']*)[\"'][^<>]*>|</table:table>")
_ODS = re.compile(
    rb"<table:table-(row|column)\s(?=[^<>]*?table:visibility=[\"'](?:collapse|filter)[\"'])"
    rb"(?:[^<>]*?number-(?:rows|columns)-repeated=[\"'](\d+)[\"'])?[^<>]*>"
)
_MANY = 10_000
"""More repeated rows or columns than this are those behind the table, up to the end of the sheet."""


def hidden_cells(path: str, sheet: str) -> tuple[int, int]:
    """Return the number of hidden rows and of hidden columns of a sheet; none of an xls file, whose XML isn't there."""
    try:
        with zipfile.ZipFile(path) as archive:
            if "content.xml" in archive.namelist():
                return _of_ods(archive, sheet)
            part = _part(archive, sheet)
            return _of_xlsx(archive, part) if part else (0, 0)
    except (*DAMAGE, KeyError):
        return 0, 0


def _attribute(tag: str, name: str) -> str:
    match = re.search(rf"(?<![\w:]){name}=(\"([^\"]*)\"|'([^']*)')", tag)
    return unescape(match[2] or match[3] or "") if match else ""


def _part(archive: zipfile.ZipFile, sheet: str) -> str:
    """Return the name of the part that holds a sheet of an xlsx file; empty where there is none."""
    book = b"".join(_pieces(archive, "xl/workbook.xml")).decode("utf-8", "replace")
    tags = (tag for tag in _SHEET.findall(book) if _attribute(tag, "name") == sheet)
    identifier = _attribute(next(tags, ""), r"\w+:id")
    links = b"".join(_pieces(archive, "xl/_rels/workbook.xml.rels")).decode("utf-8", "replace")
    targets = [_attribute(tag, "Target") for tag in _TARGET.findall(links) if _attribute(tag, "Id") == identifier]
    return posixpath.normpath(posixpath.join("/xl", targets[0])).lstrip("/") if targets else ""


def _pieces(archive: zipfile.ZipFile, part: str) -> Iterator[bytes]:
    """Yield the bytes of a part, up to a bound."""
    with archive.open(part) as file:
        for _ in range(_MOST // _CHUNK):
            if not (piece := file.read(_CHUNK)):
                return
            yield piece


def _of_xlsx(archive: zipfile.ZipFile, part: str) -> tuple[int, int]:
    rows = columns = 0
    text = b""
    for piece in (*_pieces(archive, part), b"<"):
        text += piece
        end = text.rfind(b"<")  # the tag there may go on in the next piece
        rows += len(_ROW.findall(text, 0, end))
        for tag in _COLUMN.findall(text, 0, end):
            first, last = (_attribute(tag.decode("utf-8", "replace"), name) for name in ("min", "max"))
            count = int(last) - int(first) + 1
            columns += count if 0 < count <= _MANY else 0
        text = text[end:]
    return rows, columns


def _of_ods(archive: zipfile.ZipFile, sheet: str) -> tuple[int, int]:
    content = b"".join(_pieces(archive, "content.xml"))
    counts = {b"row": 0, b"column": 0}
    starts = [m for m in _TABLE.finditer(content) if m[1] is not None and unescape(m[1].decode()) == sheet]
    if starts:
        end = content.find(b"</table:table>", starts[0].end())
        for tag in _ODS.finditer(content, starts[0].end(), end if end >= 0 else len(content)):
            count = int(tag[2] or 1)
            counts[tag[1]] += count if count <= _MANY else 0
    return counts[b"row"], counts[b"column"]
