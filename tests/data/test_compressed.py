"""Compressed files are read as the files in them, and damaged, huge or misnamed ones are errors of one line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from adapterkit.data.readers import ReadOptions, compressed, description, rows
from adapterkit.data.splits import load, read
from adapterkit.data.streams import from_file
from adapterkit.errors import DataError, printable
from adapterkit.settings import DataOptions
from tests.helpers.files import write

CSV = "text,label\n" + "".join(f"film {i} é,good\nsoup {i},bad\n" for i in range(50))


def zipped(data: bytes, name: str = "rows.csv", *more: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in (name, *more):
            archive.writestr(member, data)
    return out.getvalue()


def zstandard(data: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as file:
        file.write(data)
    compressed: bytes = out.getvalue().to_pybytes()
    return compressed


WAYS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard,
    ".zip": zipped,
}


@pytest.mark.parametrize("suffix", WAYS)
def test_every_way_of_reading_has_the_rows_of_the_file_itself(suffix: str, tmp_path: Path) -> None:
    plain = write(tmp_path / "rows.csv", CSV)
    path = write(tmp_path / f"rows.csv{suffix}", WAYS[suffix](CSV.encode()))
    assert list(rows(path)) == list(rows(plain))
    assert list(from_file(path)) == list(from_file(plain))
    assert read(path)[:] == read(plain)[:]
    assert description(path, ReadOptions()) == f"{suffix}, {description(plain, ReadOptions())}"


def test_the_bytes_of_a_zip_are_read_by_the_suffix_inside(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.zip", zipped(b"One text.\nAnother.\n", "a/texts.txt", ".DS_Store", "a/LICENSE"))
    source = from_file(path)
    assert [row for _, row in source] == [{"text": "One text."}, {"text": "Another."}]
    assert source.texts_only
    assert source.notes == [f"{path}: 'a/texts.txt' is read; not read: a/LICENSE"]


@pytest.mark.parametrize("form", [".parquet", ".feather", ".arrow", ".conllu"])
def test_files_that_are_no_text_are_read(form: str, tmp_path: Path) -> None:
    plain = tmp_path / f"rows{form}"
    table = pa.table({"text": ["a", "b"], "label": [1, 2]})
    if form == ".parquet":
        pyarrow.parquet.write_table(table, plain)
    elif form == ".conllu":
        plain.write_text("# text = De\n1\tDe\tde\tADP\t_\t_\t0\troot\t_\t_\n\n")
    else:
        pyarrow.feather.write_feather(table, str(plain))
    path = write(tmp_path / f"rows{form}.gz", gzip.compress(plain.read_bytes()))
    assert list(rows(path)) == list(rows(str(plain)))


def test_a_folder_of_compressed_splits_is_a_data_set(tmp_path: Path) -> None:
    for name, compress in (
        ("train.csv.gz", gzip.compress),
        ("dev.csv.xz", lzma.compress),
        ("test.csv.bz2", bz2.compress),
    ):
        write(tmp_path / name, compress(CSV.encode()))
    splits = load(DataOptions(dataset=str(tmp_path)))
    assert {split: len(data) for split, data in splits.sets.items()} == {"train": 100, "validation": 100, "test": 100}
    assert load(DataOptions(train_file=str(tmp_path / "dev.csv.xz"))).name == "dev"


@pytest.mark.parametrize("suffix", WAYS)
def test_no_cut_and_no_changed_byte_is_a_traceback_or_other_rows(suffix: str, tmp_path: Path) -> None:
    whole = WAYS[suffix](CSV.encode())
    expected = [row for _, row in rows(write(tmp_path / "rows.csv", CSV))]
    damaged = [whole[:end] for end in range(0, len(whole), 7)]
    damaged += [whole[:i] + bytes([whole[i] ^ 0x55]) + whole[i + 1 :] for i in range(0, len(whole), 5)]
    errors = []
    for data in damaged:
        path = write(tmp_path / f"damaged.csv{suffix}", data)
        try:
            result: list[Any] = [row for _, row in rows(path)]
        except DataError as error:
            errors.append(str(error))
        else:  # a byte that no checksum covers, such as a date; zstandard as Arrow writes it has no checksum
            assert result == expected or suffix == ".zst"
    assert all(f"damaged.csv{suffix}" in error and printable(error) == error for error in errors)
    assert len(errors) > 0.8 * len(damaged) or suffix == ".zst"


@pytest.mark.parametrize("suffix", WAYS)
def test_a_bomb_is_refused(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressed, "LEAST", 1 << 20)
    monkeypatch.setattr(compressed, "RATIO", 20)
    path = write(tmp_path / f"rows.csv{suffix}", WAYS[suffix](b"text,label\n" + b"a,b\n" * (1 << 20)))
    with pytest.raises(DataError, match=r"decompresses to over 1,\d\d\d,\d\d\d bytes, from "):
        list(rows(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.gz", b"a,b\n", r"not compressed as \.gz; a file that isn't is named a\.csv$"),
        ("a.csv.gz", b"", r"not compressed as \.gz"),
        ("a.csv.gz", bz2.compress(b"a,b\n"), r"compressed as \.bz2, not \.gz; name it a\.csv\.bz2$"),
        ("a.csv", gzip.compress(b"a,b\n"), r"not \.csv, but compressed as \.gz; name it a\.csv\.gz$"),
        ("a.csv", zipped(b""), r"not \.csv, but compressed as \.zip; name it \.zip or, of a spreadsheet, \.xlsx"),
        ("a.gz", gzip.compress(b"a,b\n"), r"the name of the data file was expected before \.gz, such as a\.csv\.gz$"),
        ("a.ann.gz", gzip.compress(b""), r"the name of the data file was expected before \.gz"),
        ("a.zip", zipped(b"", "a.csv", "b.jsonl", "c.md"), r"got 2 data files: 'a\.csv', 'b\.jsonl'; extract it"),
        ("a.zip", zipped(b"", "README"), r"got no data file: 'README'; extract it first$"),
        ("a.zip", b"PK\5\6" + bytes(18), r"got no data file: nothing"),
        ("a.zip", zipped(b"a")[:-30], "can't be decompressed: File is not a zip file"),
    ],
    ids=range(11),  # the bytes of an archive hold the time
)
def test_what_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        list(rows(write(tmp_path / name, content)))


def test_an_encrypted_archive_is_an_error(tmp_path: Path) -> None:
    data = bytearray(zipped(b"text,label\n"))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    with pytest.raises(DataError, match=r"can't be decompressed: File 'rows.csv' is encrypted"):
        list(rows(write(tmp_path / "a.zip", bytes(data))))


def test_a_missing_compressed_file_is_the_usual_error(tmp_path: Path) -> None:
    write(tmp_path / "rows.csv.gz", gzip.compress(CSV.encode()))
    with pytest.raises(DataError, match=r"no file '.*row\.csv\.gz'; '.*' holds rows\.csv\.gz"):
        list(rows(str(tmp_path / "row.csv.gz")))
