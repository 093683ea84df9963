"""Characters beyond ASCII that languages use, by frequency, to distinguish encodings of the same bytes."""

from __future__ import annotations

import functools


def _between(first: int, last: int) -> str:
    return "".join(map(chr, range(first, last + 1)))


MARKS = "\u00a0“”‘’„‚–—…€£°©®™·•¡¿§«»´、。，！？「」（）：；"
"""Marks and symbols that texts of any language hold."""

FINAL = "ςךםןףץةى"
"""Letters that only end a word."""
THAI_VOWELS = "\u0e31\u0e34\u0e35\u0e36\u0e37\u0e38\u0e39\u0e47"
"""Thai vowels that are written above or below the consonant before them."""

PLACED = "\ufffc"
"""A placeholder of a mark in a usual place."""
PLACES = (
    ("’", r".?[^\W\d]’(\w.?|\W.?)?"),  # an apostrophe
    ("“", r"(.?[\s(,;\"])?“\w.?"),
    ("”", r".?[\w.!?,]”([\s,.;:!?)\"].?)?"),
    ("–—", r".?\s[–—]\s.?|.?\d[–—]\d.?"),
    ("…", r".?\w…([\s,.;\"].?)?"),
    ("€£", r".?\s?[€£]\s?\d.?|.?\d ?[€£](\W.?)?|(\d )[€£](\W.?)?"),
    ("°", r".?\d ?°.?.?|\d °.?.?"),
)
"""Marks, and where they are: by two characters before, the mark and two behind."""

_KANA = _between(0x3041, 0x3096) + _between(0x30A1, 0x30FC)
_HANZI = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种"
    "事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日电影非常差再服务食物吃"
)
_TRADITIONAL = "這個們來為國說時會對後經麼學現當沒動還進樣開從實電發過於點問間見長東車門書買賣務"
_HANGUL = (
    "이다는에하고을의가지로기를은한도나사인리자시어정서아대해수있었게라그들일전보제주부비스상장조구동원공성과면것없내오"
    "여화관세미모발방반생신실심안야양영용우운위유음적절종중진처천체출치트파표품학행형호회너무습니말좋음식맛"
)


@functools.cache
def languages() -> dict[str, list[tuple[float, str, bool]]]:
    """Return the groups of each language's characters.

    A group has its share of all characters, its characters, and whether they are in order of frequency.
    """
    ideographs = "".join(
        c for c in _between(0x4E00, 0x9FA5) if c.encode("gb2312", "ignore") or c.encode("big5", "ignore")
    )
    kanji = "".join(c for c in _between(0x4E00, 0x9FA5) if c.encode("shift_jis", "ignore"))
    syllables = "".join(c for c in _between(0xAC00, 0xD7A3) if c.encode("euc_kr", "ignore"))
    return {
        "French": [(1.0, "éèàêçùâîôûëïœüÿæ", True)],
        "German": [(1.0, "üäößéàè", True)],
        "Spanish": [(1.0, "óíáéñúüºª", True)],
        "Portuguese": [(1.0, "ãçáéíóêõúâàôüºª", True)],
        "Italian": [(1.0, "àèùòìéóúî", True)],
        "Swedish": [(1.0, "äåöéü", True)],
        "Danish": [(1.0, "øåæéöä", True)],
        "Icelandic": [(1.0, "áðíéóúþöæý", True)],
        "Dutch": [(1.0, "ëéïèöü", True)],
        "Catalan": [(1.0, "àóèéíçòúïü·", True)],
        "English": [(1.0, "éèïñöüçàâêô", True)],
        "Polish": [(1.0, "łęąóżśćńź", True)],
        "Czech": [(1.0, "íáěéřýžščůúťďňó", True)],
        "Slovak": [(1.0, "íáéýčšžúťľôňóäďĺŕ", True)],
        "Hungarian": [(1.0, "éáöóőíüúű", True)],
        "Croatian": [(1.0, "čšžćđ", True)],
        "Romanian": [(1.0, "ăîşâţșț", True)],
        "Turkish": [(1.0, "ıüşğçöâî\u0307", True)],
        "Lithuanian": [(1.0, "ėšųįžūčąę", True)],
        "Latvian": [(1.0, "āīēšņļūžčģķ", True)],
        "Estonian": [(1.0, "äõüöšž", True)],
        "Russian": [(1.0, "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё№", True)],
        "Ukrainian": [(1.0, "оанивітеслрдкумпзяьбгчйхцжїшєюфщґ№", True)],
        "Bulgarian": [(1.0, "аиоентрвсдлкпмузягчбъцжхщюшйфь№", True)],
        "Serbian": [(1.0, "аиоенрстјкудмпвлзгбцшчжњљхћфђџ", True)],
        "Greek": [(1.0, "αοιτεσνηυρκπμλςίόδέγάωήχθύφώβξζψϊϋ", True)],
        "Hebrew": [(1.0, "יוהלאתרבמשנכדםעחקפגטסזןצךףץ" + _between(0x05B0, 0x05C2), True)],
        "Arabic": [(1.0, "اليمونتربدعسقفكحةهجأشصطخذىضزثغءئظإؤآپچگ،؟ـًٌٍَُِّْ", True)],
        "Thai": [(1.0, "านรอกเงมยลวดทสตะปบคหแจพชขใไโผธซถฟศฐญภณษฉฝฮฬฆฎฏฑฒฤๆฯ็่้๊๋์ัิีึืุูำ", True)],
        "Chinese": [(0.45, _HANZI, True), (0.03, _KANA, False), (0.52, ideographs, False)],
        "traditional Chinese": [(0.45, _HANZI + _TRADITIONAL, True), (0.03, _KANA, False), (0.52, ideographs, False)],
        "Japanese": [(0.6, _KANA, False), (0.4, kanji, False)],
        "Korean": [(0.4, _HANGUL, False), (0.58, syllables, False), (0.02, kanji, False)],
    }


_WEST = ("cp1252", "cp850", "mac_roman", "cp1254")
_MIDDLE = ("cp1250", "iso8859_2", "cp852")
_CYRILLIC = ("cp1251", "koi8_r", "koi8_u", "cp866", "iso8859_5", "mac_cyrillic")
LETTER_CODECS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("French", "Spanish", "Portuguese", "Italian", "Icelandic", "Dutch", "Catalan"), _WEST),
    **dict.fromkeys(("Swedish", "Danish"), (*_WEST, "cp1257")),
    "German": (*_WEST, *_MIDDLE, "cp1257"),
    "English": (*_WEST, *_MIDDLE, "cp1257", "cp1251", "cp1253", "cp874"),
    **dict.fromkeys(("Polish", "Czech", "Slovak", "Hungarian", "Croatian", "Romanian"), _MIDDLE),
    "Turkish": ("cp1254",),
    **dict.fromkeys(("Lithuanian", "Latvian", "Estonian"), ("cp1257",)),
    **dict.fromkeys(("Russian", "Bulgarian", "Serbian"), _CYRILLIC),
    "Ukrainian": ("cp1251", "koi8_u", "iso8859_5", "mac_cyrillic", "cp1125"),
    "Greek": ("cp1253",),
    "Hebrew": ("cp1255",),
    "Arabic": ("cp1256", "iso8859_6"),
    "Thai": ("cp874",),
    "Chinese": ("gb18030",),
    "traditional Chinese": ("big5",),
    "Japanese": ("cp932", "euc_jp"),
    "Korean": ("cp949",),
}
"""The encodings in which a language is written."""
