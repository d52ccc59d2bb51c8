"""The encoding of a text file: detected if that is certain, otherwise the user is asked for it."""

import codecs
import io
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from typing import BinaryIO

from charset_normalizer import from_bytes

from engine.contract.messages import InputError
from engine.data.importing.text_stream import decoded

Opener = Callable[[], AbstractContextManager[BinaryIO]]
CHUNK = 1 << 20
SAMPLE = 1 << 16  # bytes that are examined
FEW = 8  # bytes that prove nothing
UNNATURAL = 0.3  # share of odd neighbouring characters from which an encoding is ruled out
UNDECODED = re.compile("[\udc80-\udcff]")
MIXED = re.compile("(?<=[A-Za-z])[\u0370-\u052f]|[\u0370-\u052f](?=[A-Za-z])")  # found in no language
BEYOND_ASCII = re.compile("[^\x00-\x7f]+")

BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
# Half of the characters of Chinese text are among these.
HAN = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如"
    "都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两"
    "高间由问很最重并物手应向头文体美见被利什二等产新己身果加月话合回特代内信表化老给世位次度任先海通教原东声提立及比员解水名真论走义各入"
    "几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山请写帮您吗呢答谢什"
    "這個們來為國說時會對過發後作裡經麼學現當沒動樣開從實軍無與長機關點業將兩間問並應頭體見產話內給東聲員論義幾認條氣題爾別變總電數報結"
    "務場計資請寫幫嗎謝天氣怎今如何哪"
)
# The characters that make up most of the text in an encoding's languages; an encoding is judged by their share.
FAMILIAR: dict[str, frozenset[str]] = {
    "gb18030": frozenset(HAN + "，。？！、：；“”（）《》"),
    "big5hkscs": frozenset(HAN + "，。？！、：；「」（）《》"),
    "cp932": frozenset(map(chr, [*range(0x3041, 0x30FF), 0x3001, 0x3002, 0xFF01, 0xFF1F])),
    "euc_jp": frozenset(map(chr, [*range(0x3041, 0x30FF), 0x3001, 0x3002, 0xFF01, 0xFF1F])),
    "cp949": frozenset(
        "이가는을를의에다고하지한은로도기사어나요니서자해것있수게만일들인시아그대리라전면안보정주부과성여제장적상습세구으까님우내스"
        "무원국없거화소조할공연문경더마간동방년중신때학생회저미물실발말음모된되및오와요좋날씨떻울천감함께"
    ),
    "cp1252": frozenset("éèàçùâêîôûëïœæÉÀÈÇüöäßÜÖÄñáíóúã¿¡ÁÓÍÚÑåÅ“”‘’–—…£€«»°"),
    "cp1250": frozenset("ąćęłńóśźżĄĆĘŁŃŚŹŻáčďéěíňřšťúůýžőűČĎĚŇŘŠŤŮŽŐŰöüä„”–"),
    "iso8859_2": frozenset("ąćęłńóśźżĄĆĘŁŃŚŹŻáčďéěíňřšťúůýžőűČĎĚŇŘŠŤŮŽŐŰöüä"),
    "cp1251": frozenset("абвгдежзийклмнопрстуфхцчшщъыьэюяёіїє«»—№"),
    "koi8_r": frozenset("абвгдежзийклмнопрстуфхцчшщъыьэюяё"),
    "cp1253": frozenset("αβγδεζηθικλμνξοπρστυφχψωάέήίόύώς«»"),
    "cp1254": frozenset("çğıöşüÇĞİÖŞÜâî“”’"),
    "mac_roman": frozenset("éèàçùâêîôûëïœæÉÀÈÇüöäßÜÖÄñáíóúãõ¿¡“”‘’–—…«»"),
    "cp850": frozenset("éèàçùâêîôûëïÉÀÈÇüöäßÜÖÄñáíóúãõ¿¡«»"),
}  # fmt: skip
# First bytes of the characters that these standards themselves list as common: they count half.
COMMON = {
    "gb18030": range(0xB0, 0xD8), "big5hkscs": range(0xA4, 0xC7), "cp932": range(0x88, 0x98),
    "euc_jp": range(0xB0, 0xD0), "cp949": range(0xB0, 0xC9),
}  # fmt: skip


# Encodings accepted without asking, and their minimum scores; the others are too many and too similar.
CERTAIN = {"gb18030": 0.25, "big5hkscs": 0.25, "cp932": 0.25, "euc_jp": 0.25, "cp949": 0.25, "cp1252": 0.8}
MARGIN = 0.15  # between the score of the accepted encoding and that of the next


def require_encoding(name: str) -> None:
    """Raises InputError unless Python has a text encoding of this name, whatever the bytes."""
    try:
        decoded(io.BytesIO(b"text\xff"), name).read()
    except (LookupError, ValueError):
        raise InputError("encoding_unknown", encoding=name) from None


def encoding_of(path: str, opener: Opener) -> str:
    """The encoding of a file's text: UTF-8 if most of it is; raises InputError if it is in doubt."""
    with opener() as file:
        sample = file.read(SAMPLE)
    for bom, name in BOMS:
        if sample.startswith(bom):
            return name
    wide = _wide(sample)
    if wide:
        return wide
    if _is_utf8(opener):
        return "utf-8"
    with opener() as file:
        bad = _bad_lines(file)
    return "utf-8" if bad is None else _legacy(path, bad)


def _wide(sample: bytes) -> str:
    """UTF-16 or UTF-32 without a mark: then the first line, which is partly ASCII, has a zero next to each letter."""
    first = sample[:CHUNK].partition(b"\n")[0]
    if b"\0" not in first:
        return ""
    for name, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        whole = sample[: len(sample) - len(sample) % width]
        try:
            text = codecs.getincrementaldecoder(name)().decode(whole)
        except UnicodeDecodeError:
            continue
        plain = sum(" " <= char < "\x7f" for char in text)
        if plain * 50 >= len(text) and text.count("\0") * 50 <= len(text) and _printable(text[:1]):
            return name
    return ""


def _printable(text: str) -> bool:
    return text.isprintable() or text.isspace()


def _is_utf8(opener: Opener) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with opener() as file:
        try:
            while data := file.read(CHUNK):
                decoder.decode(data)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _bad_lines(file: BinaryIO) -> bytes | None:
    """Lines that are not UTF-8, SAMPLE bytes of them; None if too few bytes are not UTF-8 to suggest another encoding.

    In that case the file is UTF-8, and each line with such bytes is refused individually.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    good, bad, kinds, sample = 0, 0, set[str](), io.BytesIO()
    while line := file.readline(SAMPLE):
        if line.isascii():
            continue
        text = decoder.decode(line)
        wrong = UNDECODED.findall(text)
        bad += len(wrong)
        kinds.update(wrong)
        good += sum(map(len, BEYOND_ASCII.findall(text))) - len(wrong)
        if wrong and sample.tell() < SAMPLE:
            sample.write(line.rstrip() + b"\n")
        if bad > max(SAMPLE, 4 * good):
            break
    return None if good > bad or bad < FEW or len(kinds) == 1 else sample.getvalue()[:SAMPLE]


def _legacy(path: str, sample: bytes) -> str:
    """One of the pre-Unicode encodings, if the sample leaves no doubt; raises InputError."""
    scored = _scored(sample)
    if not scored and _is_chinese(sample):
        return "gb18030"
    if not scored:
        raise InputError("encoding_none", path=path)
    (best, name, text), *others = scored
    rival = next((score for score, _, other in others if other != text), 0.0)
    if best >= CERTAIN.get(name, 1.1) and best - rival >= MARGIN:
        return name
    raise InputError("encoding_doubt", path=path, candidates=_shown(scored), encoding=name)


def _scored(sample: bytes) -> list[tuple[float, str, str]]:
    """Encodings that a sample can be in, most likely first, with its text in each."""
    whole = sample[: sample.rfind(b"\n") + 1] or sample
    found = []
    for match in from_bytes(whole, threshold=UNNATURAL, cp_isolation=list(FAMILIAR)):
        text = str(match)
        name = next((name for name in match.could_be_from_charset if name in CERTAIN), match.encoding)
        counts = Counter(char for char in MIXED.sub("\ufffd", text) if char > "\x7f")
        familiar = sum(_familiar(name, char) * count for char, count in counts.items())
        found.append((familiar / max(counts.total(), 1) - match.chaos, name, text))
    return sorted(found, reverse=True)


def _is_chinese(sample: bytes) -> bool:
    """Whether GB18030 finds much common Chinese in a sample that is odd in other ways, as with emoji."""
    try:
        text = sample[: sample.rfind(b"\n") + 1].decode("gb18030")
    except UnicodeDecodeError:
        return False
    foreign = [char for char in text if char > "\x7f"]
    return sum(char in FAMILIAR["gb18030"] for char in foreign) > 0.4 * len(foreign)


def _familiar(encoding: str, char: str) -> float:
    if char in FAMILIAR[encoding]:
        return 1.0
    return 0.5 if char.encode(encoding, "replace")[0] in COMMON.get(encoding, ()) else 0.0


def _shown(scored: list[tuple[float, str, str]]) -> str:
    """The most likely encodings, with some of the text as decoded by each."""
    parts = []
    for _, name, text in islice(scored, 3):
        foreign = "".join(char for char in text if char > "\x7f")
        parts.append(f"{name} ({foreign[:12]}…)")
    return ", ".join(parts)
