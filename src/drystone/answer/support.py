"""Does what a sentence cites support it? Links, numbers, names, negations and meaning, in this order.

Guarantees: pure and deterministic; a link or address that the evidence does not have never stays; no model decides
alone. It looks for what language models get wrong when they rephrase: a number, unit, date or name that the
evidence does not have, a turned negation or direction, a sentence about something else. It is a check of words, not
a proof: ``bench/support.py`` measures its error rates and ``docs/answers.md`` publishes them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from drystone.index.terms import stem

CONTAINED = 0.6  # share of a sentence's content words that its evidence must have ...
SIMILAR = 0.6  # ... or, where meanings are this close (cosine) ...
AT_LEAST = 0.4  # ... this share

Similarity = Callable[[str, str], float]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_LINK = re.compile(r"(?:https?://|www\.)[^\s)\]>\"']*[^\s)\]>\"'.,;]|[^\s@(]+@[\w-]+(?:\.[\w-]+)+")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0eff]+")
_STOP_WORDS = """
    a an and are as at be been being but by can could did do does for from had has have he her his how i if in into
    is it its may me might more most must my of on or our s shall she should so some such t than that the their them
    then there these they this those to too was we were what when where which while who whom why will with would you
    your also each any all both either one only other same very about after again before under over up down out off
    above below between during through against he him hers herself himself itself themselves according evidence
    document documents states stated says said line lines
"""
_STOP = frozenset(_STOP_WORDS.split())
_NEGATION_WORDS = "not no never none neither nor cannot without unable nobody nothing hardly nowhere"
NEGATIONS = frozenset(_NEGATION_WORDS.split())
_WHOLE = "all always any anyone anything anywhere every everybody everyone everything everywhere only unlimited"
ABSOLUTES = frozenset(_WHOLE.split())
_PLACES = "after before at by during for from in into of on since than through until with within"
_PREPOSITIONS = frozenset(_PLACES.split())
_CUE = re.compile(r"\w*n['’]t")
OPPOSITES = tuple(
    (frozenset(a.split()), frozenset(b.split()))
    for a, b in (
        ("increase increases increased increasing rise rises rose higher raise raised raises more greater",
         "decrease decreases decreased decreasing fall falls fell lower reduce reduced reduces less fewer"),
        ("before earlier prior", "after later following"),
        ("allowed permitted allows permits allow permit", "forbidden prohibited refused denied forbids prohibits"),
        ("always", "never"),
        ("minimum least", "maximum most"),
        ("include includes included including", "exclude excludes excluded excluding"),
        ("above over exceeds", "below under"),
        ("required mandatory must shall", "optional voluntary may can"),
        ("accept accepts accepted approve approved approves", "reject rejects rejected decline declined declines"),
        ("first", "last final"),
        ("north northern", "south southern"), ("east eastern", "west western"),
        ("true", "false"), ("win won wins", "lose lost loses"),
        ("open opens opened", "close closes closed"), ("start starts began begins begin", "end ends ended"),
        ("internal", "external"), ("with", "without"), ("positive", "negative"), ("effective", "ineffective"),
        ("inside within", "outside"), ("free", "charged"), ("enable enabled enables", "disable disabled disables"),
    )
)  # fmt: skip
_MONTHS = "January February March April May June July August September October November December"
_SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_WORDS: dict[str, float] = {w: n for n, w in enumerate(_SMALL.split())} | {
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "once": 1, "twice": 2, "half": 0.5, "dozen": 12,
}  # fmt: skip
_UNSURE = frozenset({0.0, 1.0, 2.0})  # "one of them", "two kinds": words of grammar as much as numbers
_SCALE = {"hundred": 1e2, "thousand": 1e3, "k": 1e3, "million": 1e6, "mn": 1e6, "billion": 1e9, "bn": 1e9,
          "trillion": 1e12}  # fmt: skip
_UNITS = {
    unit: name
    for name, units in {
        "%": "% percent pct", "$": "$ dollar dollars usd", "€": "€ euro euros eur", "£": "£ pound pounds gbp",
        "second": "second seconds sec", "minute": "minute minutes min", "hour": "hour hours hr hrs",
        "day": "day days", "week": "week weeks", "month": "month months", "year": "year years yr yrs",
        "g": "g gram grams", "kg": "kg kilogram kilograms kilo", "mg": "mg milligram milligrams", "mm": "mm",
        "cm": "cm", "m": "metre metres meter meters", "km": "km kilometre kilometres kilometer kilometers",
        "mile": "mile miles", "foot": "foot feet ft", "l": "litre litres liter liters", "ml": "ml", "mb": "mb",
        "gb": "gb", "tb": "tb", "°": "degrees degree",
    }.items()
    for unit in units.split()
}  # fmt: skip
_ISO = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")
_NUMBER = re.compile(
    r"(?P<sign>[$€£])?\s?(?<![^\W\d_])(?P<digits>\d+(?:[.,'’\u00a0\u202f]\d+)*)(?:(?:st|nd|rd|th)\b)?"
    r"|(?P<word>\b(?:" + "|".join(sorted(_WORDS, key=len, reverse=True)) + r")\b)",
    re.I,
)
_AFTER = re.compile(r"[\s-]?(%|[^\W\d_]+)")


@dataclass(frozen=True, slots=True)
class Finding:
    """``failed`` is empty where supported; else ``link``, ``number``, ``name``, ``negation`` or ``meaning``."""

    failed: str
    contained: float = 0.0
    similar: float = 0.0

    def __bool__(self) -> bool:
        return not self.failed


def supports(
    evidence: Sequence[str], sentence: str, *, context: Sequence[str] = (), similarity: Similarity | None = None
) -> Finding:
    """Does the cited evidence support this sentence?

    ``context``: titles and headings of the evidence, which may lend names and words but no numbers.
    ``similarity``: cosine of two texts' meanings, asked for only where the words leave it open.
    """
    sentence, evidence = _dated(sentence), [_dated(text) for text in evidence]
    quoted = "\n".join(evidence)
    around = "\n".join([quoted, *context])
    if any(link not in quoted for link in _LINK.findall(sentence)):
        return Finding("link")
    if not _numbers_held(sentence, quoted):
        return Finding("number")
    if _exchanged(sentence, quoted):
        return Finding("number")
    if not _names_held(sentence, around):
        return Finding("name")
    if _turned(sentence, evidence):
        return Finding("negation")
    wanted = content(sentence)
    share, own = (_share(wanted, text, sentence) for text in (around, quoted))
    if share >= CONTAINED and own >= AT_LEAST:
        return Finding("", share)
    if own < AT_LEAST or similarity is None:
        return Finding("meaning", share)
    close = max(similarity(sentence, text) for text in [*evidence, quoted])
    return Finding("" if close >= SIMILAR else "meaning", share, close)


def _share(wanted: frozenset[str], text: str, sentence: str) -> float:
    """Of the wanted words, how many the text has; a sentence that is all quantity rests on the check of numbers."""
    return len(wanted & content(text)) / len(wanted) if wanted else float(bool(numbers(sentence)))


# -- words -----------------------------------------------------------------------------------------
def content(text: str) -> frozenset[str]:
    """Stems of the words that carry meaning; pairs of characters in scripts without spaces. Quantities have a
    check of their own and do not count."""
    return frozenset(_stems(text))


def _quantity(word: str) -> bool:
    return word.isdecimal() or word in _WORDS or word in _SCALE or word in _UNITS


def words(text: str) -> list[str]:
    text = _bare(text).lower()
    found = [w.replace("’", "'").removesuffix("'s") for w in _WORD.findall(_UNSPACED.sub(" ", text))]
    for run in _UNSPACED.findall(text):
        found += [run[i : i + 2] for i in range(max(1, len(run) - 1))]
    return found


def _bare(text: str) -> str:
    """Compatible forms made equal, and Latin letters without their accents."""
    apart = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFKC", re.sub("(?<=[A-Za-z])[\u0300-\u036f]", "", apart))


# -- numbers ---------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Number:
    """``values``: every way to read it (``1.000`` is one, or a thousand). ``sure``: not a word of grammar."""

    values: frozenset[float]
    unit: str
    sure: bool
    start: int = 0
    end: int = 0


def numbers(text: str) -> list[Number]:
    text = _dated(unicodedata.normalize("NFKC", text))
    found = []
    for match in _NUMBER.finditer(text):
        word = (match["word"] or "").lower()
        values = {float(_WORDS[word])} if word else _readings(match["digits"])
        unit, at, sure = match["sign"] or "", match.end(), not word or _WORDS[word] not in _UNSURE
        for _ in range(2):
            after = _AFTER.match(text, at)
            token = after[1].lower() if after else ""
            if after and token in _SCALE:
                values, at, sure = {v * _SCALE[token] for v in values}, after.end(), True
            elif after and token == "per" and text[after.end() :].lstrip().lower().startswith("cent"):
                unit, sure = "%", True
            elif after and token in _UNITS:
                unit, sure = _UNITS[token], True
        found.append(Number(frozenset(round(v, 9) for v in values), unit, sure, match.start(), at))
    return found


def _readings(digits: str) -> set[float]:
    plain = re.sub(r"['’\u00a0\u202f]", "", digits)
    read = set()
    if re.fullmatch(r"\d+(\.\d+)?", plain):
        read.add(float(plain))
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", plain):
        read.add(float(plain.replace(",", "")))
    elif re.fullmatch(r"\d{1,3}(\.\d{3})+(,\d+)?", plain):
        read.add(float(plain.replace(".", "").replace(",", ".")))
    elif re.fullmatch(r"\d+,\d+", plain):
        read.add(float(plain.replace(",", ".")))
    if not read:  # 3.2.1, 31.12.2024: a name made of digits; each part counts
        read = {float(int(re.sub(r"\D", "", plain)))}
    return read


def _dated(text: str) -> str:
    """``2024-03-05`` as ``5 March 2024``, so that both ways of writing a date are the same."""
    return _ISO.sub(lambda d: f"{int(d[3])} {_month(d[2])} {d[1]}", text)


def _month(number: str) -> str:
    return _MONTHS.split()[int(number) - 1] if 1 <= int(number) <= 12 else number


def _numbers_held(sentence: str, evidence: str) -> bool:
    there = numbers(evidence)
    return all(
        any(n.values & o.values and (not n.unit or not o.unit or n.unit == o.unit) for o in there)
        for n in numbers(sentence)
        if n.sure
    )


def _exchanged(sentence: str, evidence: str) -> bool:
    """Do two numbers stand where the evidence has each other? The words beside a number say what it counts."""
    here, there = _beside(sentence), _beside(evidence)
    for n, (one, near_one) in enumerate(here):
        for other, near_other in here[n + 1 :]:
            if one == other:
                continue
            ones = [near for value, near in there if value & one]
            others = [near for value, near in there if value & other]
            if not ones or not others:
                continue
            own = _shared(near_one, ones) + _shared(near_other, others)
            if _shared(near_one, others) + _shared(near_other, ones) > own:
                return True
    return False


def _beside(text: str) -> list[tuple[frozenset[float], set[str]]]:
    """Each number written in digits, with the stems of the three content words on either side of it, as far as the
    next number."""
    text = unicodedata.normalize("NFKC", text)
    found = [n for n in numbers(text) if n.sure]
    out = []
    for i, number in enumerate(found):
        before = text[found[i - 1].end if i else 0 : number.start]
        after = text[number.end : found[i + 1].start if i + 1 < len(found) else len(text)]
        near = [*_stems(before)[-3:], *_stems(after)[:3]]
        out.append((number.values, set(near)))
    return out


def _stems(text: str) -> list[str]:
    return [stem(w) for w in words(text) if w not in _STOP and not _quantity(w)]


def _shared(near: set[str], places: list[set[str]]) -> int:
    return max(len(near & place) for place in places)


# -- names -----------------------------------------------------------------------------------------
def _names_held(sentence: str, around: str) -> bool:
    sentence, around = _bare(sentence), _bare(around)
    known = set(words(around))
    stems = {stem(w) for w in known}
    initials = set(_initials(around))
    return all(
        name.lower() in known or stem(name.lower()) in stems or name.lower() in initials or _spelled(name, around)
        for name in names(sentence)
    )


def names(sentence: str) -> Iterable[str]:
    """Words written as names: capitals inside the sentence, or at its start where a name goes on."""
    found = [(m.start(), m[0].replace("’", "'").removesuffix("'s")) for m in _WORD.finditer(sentence)]
    for n, (_, word) in enumerate(found):
        if len(word) < 2 or not word[0].isupper() or word.lower() in _STOP | NEGATIONS or word.lower() in _WORDS:
            continue
        inside = any(c.isupper() for c in word[1:])
        goes_on = n + 1 < len(found) and found[n + 1][1][0].isupper()
        if n > 0 or inside or goes_on:
            yield word


def _initials(text: str) -> Iterable[str]:
    for run in re.findall(r"[A-Z]\w+(?:[\s-]+(?:of|and|the|for|de|[A-Z]\w+))*", text):
        capitals = [w for w in re.split(r"[\s-]+", run) if w[0].isupper()]
        for first in range(len(capitals)):
            for last in range(first + 2, len(capitals) + 1):
                yield "".join(w[0] for w in capitals[first:last]).lower()


def _spelled(name: str, around: str) -> bool:
    """Is it written there in another way: in one word or in several, with or without a hyphen?"""
    there, parts = words(around), words(name)
    runs = {"".join(there[i : i + n]) for n in (2, 3) for i in range(len(there) - n + 1)}
    return name.lower() in runs or any("".join(parts) == word for word in there)


# -- negations -------------------------------------------------------------------------------------
def _turned(sentence: str, evidence: Sequence[str]) -> bool:
    """Does the sentence deny what the evidence says, say what it denies, say the opposite, or make it absolute?"""
    said, denied = _polarity([sentence])
    says, denies = _polarity(evidence)
    if (denied & says) - denies or (said & denies) - says:
        return True
    mine, theirs = set(words(sentence)), set(words("\n".join(evidence)))
    if mine & ABSOLUTES and not theirs & ABSOLUTES:
        return True
    return any(mine & a and not mine & b and theirs & b and not theirs & a for p in OPPOSITES for a, b in (p, p[::-1]))


def _polarity(texts: Sequence[str]) -> tuple[set[str], set[str]]:
    """Stems that are said, and stems that stand under a negation: up to three content words of its clause, as far
    as the preposition that follows the first ("not possible after 45 days" denies "possible")."""
    said: set[str] = set()
    denied: set[str] = set()
    for clause in re.split(r"[.;:,()!?\n]|\b(?:but|although|however|whereas|while)\b", "\n".join(texts).lower()):
        scope = 0
        for word in _WORD.findall(clause):
            if word in NEGATIONS or _CUE.fullmatch(word):
                scope = 3
            elif word in _PREPOSITIONS and scope < 3:
                scope = 0
            elif word not in _STOP and not _quantity(word):
                (denied if scope else said).add(stem(word.removesuffix("'s")))
                scope = max(0, scope - 1)
    return said, denied
