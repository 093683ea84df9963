"""Detect the encoding of a text file that is not UTF-8, or refuse to guess where several fit."""

from __future__ import annotations

import codecs
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ...errors import DataError, OptionError
from .alphabets import FINAL, LETTER_CODECS, MARKS, PLACED, PLACES, THAI_VOWELS, languages

NAMES = {
    "cp1252": "Windows-1252",
    "cp1250": "Windows-1250",
    "iso8859_2": "ISO 8859-2 (Latin-2)",
    "cp1251": "Windows-1251",
    "koi8_r": "KOI8-R",
    "koi8_u": "KOI8-U",
    "iso8859_5": "ISO 8859-5 (Cyrillic)",
    "cp866": "CP866 (DOS)",
    "cp1253": "Windows-1253",
    "cp1254": "Windows-1254",
    "cp1255": "Windows-1255",
    "cp1256": "Windows-1256",
    "iso8859_6": "ISO 8859-6 (Arabic)",
    "cp1257": "Windows-1257",
    "cp874": "Windows-874",
    "gb18030": "GBK (GB18030)",
    "big5": "Big5",
    "cp932": "Shift-JIS (CP932)",
    "euc_jp": "EUC-JP",
    "cp949": "EUC-KR (CP949)",
    "cp850": "CP850 (DOS)",
    "cp852": "CP852 (DOS)",
    "mac_roman": "Mac Roman",
    "mac_cyrillic": "Mac Cyrillic",
    "cp1125": "CP1125 (DOS, Ukrainian)",
}
"""The encodings that are tried, by codec; where two decode to the same text the first is reported."""
SEVEN_BIT = {
    "iso2022_jp_ext": re.compile(rb"\x1b\$[B@]"),
    "iso2022_kr": re.compile(rb"\x1b\$\)C"),
    "hz": re.compile(rb"~\{(?:[!-w][!-~]){2,}~\}"),
}
"""Encodings whose bytes are all ASCII, by what announces their characters."""
SEVEN_BIT_NAMES = {"iso2022_jp_ext": "ISO-2022-JP", "iso2022_kr": "ISO-2022-KR", "hz": "HZ (GB2312)"}
RARE = ("cp850", "cp852", "mac_roman", "cp866", "iso8859_5", "iso8859_6")
RAREST = ("mac_cyrillic", "cp1125")
"""The encodings that few files of today have, and those that hardly any has."""
SAMPLE = 1 << 17
"""The most bytes, of lines that are not ASCII, that an encoding is detected from."""
MIXED = 0.2
"""The share of lines in UTF-8, each with two characters or more, from which a file has two encodings."""
EVIDENCE = 3.0
"""How much more probable (in nats) an encoding must be than the next one to be used without --encoding."""
_UNUSUAL = math.log(0.0005)  # a letter that the language doesn't have, or a symbol inside a word
_CLOSE = 0.1  # the difference in charset-normalizer's mess ratio up to which two encodings both fit
_ODD = 0.3  # the share of characters that no language of an encoding has, from which it isn't that of the file
_CAPITALS = math.log(0.02)  # a text in capitals of another script than Latin: KOI8-R and Windows-1251 swap cases
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}
_BOMS |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # after UTF-32, which begins alike


@dataclass(frozen=True)
class Encoding:
    """The codec of a file, its name for users, and a note where it was detected."""

    codec: str
    name: str = "UTF-8"
    note: str = ""


def chosen(name: str) -> Encoding:
    """Return the encoding that --encoding names. Raises `OptionError` for one that Python doesn't have."""
    try:
        info = codecs.lookup(name)
        "\u0001".encode(info.name)  # raises LookupError for a codec that isn't of text
        codecs.getincrementaldecoder(info.name)("surrogateescape").decode(b"a\n")  # not by idna and its like
    except (LookupError, ValueError):
        raise OptionError(f"--encoding={name}: no such encoding; some are utf-8, cp1252, cp1251, gb18030") from None
    return Encoding("utf-8-sig" if info.name == "utf-8" else info.name, name)


def detected(path: str, name: str) -> Encoding:
    """Return the encoding of a file: by its byte order mark, UTF-8, or the one that fits clearly best.

    Raises `DataError`, with `name`, where none or several fit.
    """
    with open(path, "rb") as file:
        return detected_in(file, name)


def detected_in(file: BinaryIO, name: str) -> Encoding:
    """Return the encoding of an open file, read from its position; see `detected`."""
    start = file.read(SAMPLE)
    file.seek(-len(start), 1)
    for mark, codec in _BOMS.items():
        if start.startswith(mark):
            return Encoding(codec, codec.upper().removesuffix("-SIG"))
    if b"\0" in start and (wide := _wide(start)):
        return wide
    if seven_bit := next((codec for codec, sign in SEVEN_BIT.items() if sign.search(start)), None):
        shown = SEVEN_BIT_NAMES[seven_bit]
        return Encoding(seven_bit, shown, f"read as {shown}: detected (--encoding overrules)")
    if start.isascii() and _is_utf_7(start):
        return Encoding("utf-7", "UTF-7", "read as UTF-7: detected, not certain (--encoding overrules)")
    counts: Counter[str] = Counter()
    sample = b"".join(_limited(_odd_lines(file, counts)))
    if counts["valid"] > counts["invalid"] or not counts["invalid"]:  # rows with damaged bytes are refused
        return Encoding("utf-8-sig")
    if (lines := counts["UTF-8 lines"]) > MIXED * counts["lines"]:
        raise DataError(
            f"{name}: two encodings: {lines:,} of {counts['lines']:,} lines that aren't ASCII are UTF-8, the others "
            "aren't; save the file in one encoding"
        )
    return guessed(sample, name)


def _is_utf_7(start: bytes) -> bool:
    """Return whether bytes of ASCII are text in UTF-7: with several letters beyond it, written as +AOk-."""
    groups = re.findall(rb"\+([AB][A-Za-z0-9+/]{2,})(?![A-Za-z0-9+/])", start)
    try:
        letters = "".join((b"+" + group + b"-").decode("utf-7") for group in groups)
        start.decode("utf-7")
    except UnicodeDecodeError:
        return False
    return len(groups) > 2 and re.fullmatch("[\xc0-\u017f\u0370-\u03ff\u0400-\u045f]+", letters) is not None


def _odd_lines(file: BinaryIO, counts: Counter[str]) -> Iterator[bytes]:
    """Yield the lines that are not ASCII, and count them, those in UTF-8, valid characters and invalid bytes."""
    for line in file:
        if line.isascii():
            continue
        text = line.decode("utf-8", "surrogateescape")
        bad = sum("\udc80" <= char <= "\udcff" for char in text)
        valid = sum(char > "\x7f" for char in text) - bad
        counts["lines"] += 1
        counts["valid"] += valid
        counts["invalid"] += bad
        counts["UTF-8 lines"] += not bad and valid > 1
        yield line


def _limited(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the first lines of at most `SAMPLE` bytes, and read the others to their end."""
    size = 0
    for line in lines:
        if size < SAMPLE:
            yield line[: SAMPLE - size]
        size += len(line)


def _wide(start: bytes) -> Encoding | None:
    """Return UTF-16 without a byte order mark, where the first bytes of a file are text in it."""
    for codec in ("utf-16-le", "utf-16-be"):
        text = start[: len(start) // 2 * 2].decode(codec, "replace")
        if all(char.isprintable() or char.isspace() for char in text.replace("\ufffd", "\0")):
            return Encoding(
                codec, codec.upper(), f"read as {codec.upper()}: detected, not certain (--encoding overrules)"
            )
    return None


def guessed(sample: bytes, name: str) -> Encoding:
    """Return the most probable encoding of bytes that are not UTF-8. Raises `DataError` where it isn't clear."""
    texts = _candidates(sample)
    if not texts:
        raise DataError(f"{name}: bytes that are not UTF-8, and no usual encoding fits; give --encoding")
    usual = [codec for codec in LETTER_CODECS["Russian"] if codec in texts and codec not in RAREST]
    if any(not _foreign(codec, texts[codec]) for codec in usual):
        texts = {codec: text for codec, text in texts.items() if codec not in RAREST}
    scores = {codec: _log_probability(codec, text) for codec, text in texts.items()}
    ranked = sorted(texts, key=lambda codec: -scores[codec])
    best, rivals = ranked[0], [codec for codec in ranked if texts[codec] != texts[ranked[0]]]
    lead = scores[best] - scores[rivals[0]] if rivals else EVIDENCE
    if _unusual(best, texts[best]) > _ODD:
        raise DataError(f"{name}: bytes that are not UTF-8, and no usual encoding fits; give --encoding")
    if lead < EVIDENCE:
        read = [f"{NAMES[c]} ({_first_difference(texts[c], texts[other])})" for c, other in _pair(best, rivals[0])]
        raise DataError(
            f"{name}: not UTF-8, and the encoding isn't clear: {' or '.join(read)}; "
            f"give --encoding, such as --encoding {best}"
        )
    codec = next(codec for codec in NAMES if texts.get(codec) == texts[best])
    return Encoding(
        codec, NAMES[codec], f"not UTF-8; read as {NAMES[codec]}: detected, not certain (--encoding overrules)"
    )


def _pair(first: str, second: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (first, second), (second, first)


def _first_difference(text: str, other: str) -> str:
    """Return the word of a text around the first character in which another decoding differs."""
    at = next((i for i, pair in enumerate(zip(text, other, strict=False)) if pair[0] != pair[1]), 0)
    start = max((m.end() for m in re.finditer(r"[\s,;\"]", text[:at])), default=0)
    return repr(re.split(r"[\s,;\"]", text[start : start + 24])[0])


def _candidates(sample: bytes) -> dict[str, str]:
    """Return the text by codec: of Windows-1252, and of those that charset-normalizer finds about as likely as any."""
    from charset_normalizer import from_bytes

    matches = from_bytes(sample, cp_isolation=list(NAMES), preemptive_behaviour=False, enable_fallback=False)
    usual = [match for match in matches if _unusual(match.encoding, str(match)) <= _ODD]  # half-width kana aren't
    least = min((match.chaos for match in usual or matches), default=0.0)
    close = {match.encoding for match in matches if match.chaos <= least + _CLOSE}
    close |= {same for match in matches if match.encoding in close for same in match.could_be_from_charset}
    if close & (cyrillic := {*LETTER_CODECS["Russian"], *LETTER_CODECS["Ukrainian"]}):
        close |= cyrillic  # whose letters differ in frequency rather than in kind
    close = close | {"cp1252"} if close else set(NAMES)  # where there are more signs than letters, it excludes all
    texts = {}
    for codec in NAMES:
        if codec in close:
            try:
                texts[codec] = sample.decode(codec)
            except UnicodeDecodeError as error:
                if error.end < len(sample) - 3 or not error.start:  # else a character that the sample cuts
                    continue
                texts[codec] = sample[: error.start].decode(codec)
    return texts


def _log_probability(codec: str, text: str) -> float:
    """Return how probable the characters beyond ASCII are, in the language of the encoding that fits them best."""
    chars = list(_characters(text))
    prior = 1.0 if codec in ("cp1252", "cp1251") else -12.0 if codec in RAREST else -6.0 if codec in RARE else 0.0
    languages = [name for name, codecs_of in LETTER_CODECS.items() if codec in codecs_of]
    tables = map(_letters, languages)
    capitals = sum(map(len, re.findall("(?<=[\u0391-\u042f])[\u0391-\u03a9\u0401\u0410-\u042f]+", text)))
    prior += _CAPITALS * (3 * capitals > len(chars))
    return prior + max(sum(table.get(char, _UNUSUAL) for char in chars) for table in tables)


def _unusual(codec: str, text: str) -> float:
    """Return the share of the characters beyond ASCII that no language of an encoding has."""
    letters = {letter for name, codecs_of in LETTER_CODECS.items() if codec in codecs_of for letter in _letters(name)}
    odd = [char not in letters for char in _characters(text)]
    return sum(odd) / max(len(odd), 1)


def _foreign(codec: str, text: str) -> float:
    """Return the share of the characters beyond ASCII that the language of an encoding that fits best doesn't have."""
    chars = list(_characters(text))
    languages = [_letters(name) for name, codecs_of in LETTER_CODECS.items() if codec in codecs_of]
    return min(sum(char not in letters for char in chars) for letters in languages) / max(len(chars), 1)


def _characters(text: str) -> Iterator[str]:
    """Yield the characters beyond ASCII in lower case, `PLACED` for a mark in its place, and U+FFFD for an odd one.

    Odd are a capital after a small letter, a symbol between two letters, a letter beside a digit, one of another
    script beside a Latin letter, a mark that no letter is before, and a final letter inside a word.
    """
    for match in re.finditer("[^\x00-\x7f]", text):
        char, at = match[0], match.start()
        before, after = text[at - 1 : at], text[at + 1 : at + 2]
        if char.isalpha():
            beside = before + after
            odd = (char.isupper() and before.islower()) or any(c.isdigit() and c.isascii() for c in beside)
            odd = odd or ("\u0370" <= char < "\u3000" and any(c.isalpha() and c < "\u0370" for c in beside))
            odd = odd or (char in FINAL and after.isalpha() and after >= "\u0370")
        elif unicodedata.combining(char) or char in THAI_VOWELS:
            odd = not (before.isalpha() or unicodedata.combining(before or " ") or before in THAI_VOWELS)
        else:
            odd = before.isalpha() and after.isalpha() and char not in "\u2019·\u00ad" and not char.isalnum()
        if any(char in marks and re.fullmatch(place, text[max(at - 2, 0) : at + 3]) for marks, place in PLACES):
            yield PLACED
        else:
            yield "\ufffd" if odd else char.lower()


def _letters(language: str) -> dict[str, float]:
    """Return the log probability of each character of a language, from letters in the order of their frequency."""
    groups = languages()[language]
    table = {mark: math.log(0.02) for mark in MARKS} | {PLACED: math.log(0.5)}
    for share, letters, ranked in reversed(groups):  # the first group of a letter counts
        weights = [1 / (rank + 1.5) if ranked else 1.0 for rank in range(len(letters))]
        total = sum(weights)
        table |= {letter: math.log(share * w / total) for letter, w in zip(letters, weights, strict=True)}
    return table
