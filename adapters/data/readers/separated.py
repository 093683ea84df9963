"""Read rows from text tables: cells separated by commas, semicolons, tabs or others, under a header."""

from __future__ import annotations

from itertools import islice

from .conll import read_conll
from .conll_layout import SAMPLE as CONLL_SAMPLE
from .conll_layout import looks_like_conll
from .dialect import CSV, SAMPLE, SAMPLE_ROWS, TSV, Dialect, inferred, text_rows
from .label_studio import choices_of_cells
from .preamble import lines_above
from .source import BadRow, NumberedRows, Source
from .span_rows import with_words_of_cells
from .table import Header, chosen_header
from .webanno import is_webanno, read_webanno
from .word_lists import with_word_lists
from .word_rows import by_sentence


def read_csv(source: Source) -> NumberedRows:
    """Read cells, separated by commas unless the file shows another separator; a quoted cell may hold line ends."""
    return _unfolded(source, CSV)


def read_tsv(source: Source) -> NumberedRows:
    """Read cells, separated by tabs unless the file shows another separator; or WebAnno's export, or CoNLL columns."""
    if source.repeatable and is_webanno(source.sample(1)):
        return read_webanno(source)
    if is_conll(source):
        source.notes.append("read as CoNLL: a word and its tag per line")
        return read_conll(source)
    return _unfolded(source, TSV)


def _unfolded(source: Source, usual: Dialect) -> NumberedRows:
    """Return the rows of a table, with lists where its rows are words, or its cells lists of words or spans."""
    rows = choices_of_cells(source, by_sentence(source, read_table(source, usual)))
    return with_words_of_cells(source, with_word_lists(source, rows))


def is_conll(source: Source) -> bool:
    """Return whether a .tsv file holds words with their tags, without a header, as GermEval's do."""
    options = source.options
    chosen = options.separator or options.column_names or options.task not in (None, "token-classification")
    return source.repeatable and not chosen and looks_like_conll(source.sample(CONLL_SAMPLE))


def read_table(source: Source, usual: Dialect) -> NumberedRows:
    """Read cells, separated as the options or the file show, else as usual."""
    sample = source.sample(SAMPLE)
    above = lines_above(sample, usual, source.options.separator) if not source.options.column_names else 0
    if above:
        source.notes.append(
            f"left out above the header: {' | '.join(filter(None, map(str.strip, sample[:above])))[:80]}"
        )
    sample = sample[above:]
    dialect = inferred(sample, usual, source.options.separator)
    if (
        dialect.separator != (source.options.separator or usual.separator)
        or dialect.describe() != Dialect(dialect.separator).describe()
    ):
        source.notes.append(dialect.describe())
    first = list(islice(text_rows(sample, dialect), SAMPLE_ROWS)) if source.repeatable else []
    header = chosen_header(source, [row.cells for row in first])
    for row in text_rows(source.lines(), dialect, blank=source.options.every_row):
        if row.line <= above or not (row.cells or row.error or (header and len(header.names) == 1)):
            continue
        error = source.undecoded(row.text) or row.error
        if header is None:
            if error:
                source.fail(row.line, error)
            header = Header(source, row.line, row.cells)
            header.check([other.cells for other in first[1:]])
        elif error:
            yield row.line, BadRow(error)
        else:
            yield from header.placed(row.line, row.cells)
    if header is not None:
        header.finish()
