"""Describe how a file is read, whether or not it is the usual way: format, dialect, encoding."""

from __future__ import annotations

import os
from pathlib import Path

from .dialect import CSV, SAMPLE, TSV, inferred
from .formats import is_brat_folder, is_label_folder, open_local
from .label_folders import labelled_files
from .preamble import lines_above
from .saved_sets import is_saved_set, saved_files
from .separated import is_conll
from .source import ReadOptions, Source
from .text_lines import text_format
from .webanno import is_webanno

_TEXTS = {
    ".json": "JSON",
    ".jsonl": "JSON lines",
    ".conll": "CoNLL columns",
    ".iob": "CoNLL columns",
    ".iob2": "CoNLL columns",
    ".conllup": "CoNLL columns",
    ".bio": "CoNLL columns",
    ".conllu": "CoNLL-U",
    ".ann": "BRAT",
    ".yml": "Rasa's YAML",
    ".yaml": "Rasa's YAML",
}
_BINARY = {
    ".parquet": "Parquet",
    ".arrow": "Arrow",
    ".feather": "Arrow",
    ".xlsx": "Excel",
    ".xls": "Excel",
    ".ods": "OpenDocument",
}
_LINES = {
    "texts": "a text per line",
    "conll": "CoNLL columns",
    "fasttext": "fastText",
    "pubtator": "PubTator",
    "slashed": "words with tags, word/TAG",
}


def description(path: str, options: ReadOptions) -> str:
    """Return the format of a file and, of a text file, its encoding and how cells are separated and quoted.

    Empty for what is no file, such as rows in memory. Raises `DataError` where the encoding isn't clear.
    """
    if is_brat_folder(path):
        return "BRAT, a folder"
    if is_saved_set(path):
        count = len(saved_files(path))
        return f"a folder of save_to_disk, {count} Arrow file{'s' * (count != 1)}"
    if is_label_folder(path):
        return f"a folder for each label, {len(labelled_files(path)):,} files"
    if not os.path.isfile(path):
        return ""
    with open_local(path) as local:
        suffix = Path(local).suffix.lower()
        source = Source(path, os.path.getsize(local), options=options, path=local)
        form = _BINARY.get(suffix) or f"{_text_format(source, suffix)}; {source.encoding.name}"
    return form if local == path else f"{Path(path).suffix.lower()}, {form}"


def _text_format(source: Source, suffix: str) -> str:
    if suffix in _TEXTS:
        return _TEXTS[suffix]
    if suffix == ".tsv" and is_webanno(source.sample(1)):
        return "WebAnno TSV"
    if suffix == ".tsv" and is_conll(source):
        return "CoNLL columns"
    if suffix == ".txt" and (form := text_format(source)) != "table":
        return _LINES[form]
    usual, sample = TSV if suffix == ".tsv" else CSV, source.sample(SAMPLE)
    above = lines_above(sample, usual, source.options.separator) if not source.options.column_names else 0
    dialect = inferred(sample[above:], usual, source.options.separator)
    quotes = "" if dialect.quote == "'" else ", cells may be in quotes" if dialect.quoted else ", quotes are text"
    header = ", without a header" if source.options.column_names else ""
    return f"a table, {dialect.describe()}{quotes}{header}"
