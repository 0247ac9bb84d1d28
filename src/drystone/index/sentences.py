"""Where sentences begin and end.

Guarantees: spans are in order, in range, do not overlap, and together cover every character that is not white
space; the work is linear in the text. Rules, no model: terminators with closing quotes, abbreviations, initials,
decimals, German dates, CJK full stops, the danda, list items, rows of tables, and blank lines.
"""

from __future__ import annotations

import re

_SHORT = """
    mr mrs ms dr prof rev hon st sr jr gen col capt lt sgt gov sen rep pres messrs
    vs etc al ca cf approx dept est inc ltd co corp bros plc llc fig figs eq eqs sec ch chap vol vols ed eds
    no nos nr art arts para paras pp p pg ref refs tel ext max min avg resp incl excl ver rev e.g i.e a.m p.m
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue wed thu fri sat sun
    bzw z.b d.h u.a evtl ggf usw str abs ziff m.e
"""
_BEFORE_NUMBERS = "no nos nr fig figs eq eqs sec ch chap vol vols art arts para paras pp p pg ref abs ziff"
ABBREVIATIONS = frozenset(_SHORT.split())
_NUMBERED = frozenset(_BEFORE_NUMBERS.split())
_CLOSE = "\"'”’»)\\]）」』】》"
_BREAK = re.compile(
    rf"(?<![。！？｡])(?P<cjk>[。！？｡]++(?:(?![{_CLOSE}])|[{_CLOSE}]++(?![とっ、，])))"  # "「はい。」と言った" goes on
    rf"|(?P<danda>[।॥؟۔][{_CLOSE}]*)"
    rf"|(?<![.!?…])(?P<dot>(?P<mark>[.!?…]++)[{_CLOSE}]*+)(?=\s|$)"
    r"|(?P<line>\n(?=[ \t\r]*\n|[ \t]*(?:[-*•–‣▪●]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])[ \t]))"
    r"|(?P<row>\n(?=[^\n|]{1,400} \| ))"  # each row of a table stands by itself
)
_WORD = re.compile(r"[^\s(\[\"'“‘«]{0,24}\Z")
_MONTH = re.compile(
    r"[ \n]?(?:Januar|Jänner|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember)\b"
)
_NEXT = re.compile(r"[\s\"'“‘«(\[]{0,16}(\S?)")


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans ``(start, end)`` in code points, without white space at their ends."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _BREAK.finditer(text):
        if match["dot"] is not None and not _ends(text, match.start("mark"), match["mark"], match.end()):
            continue
        _add(spans, text, start, match.end())
        start = match.end()
    _add(spans, text, start, len(text))
    return spans


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start < end:
        spans.append((start, end))


def _ends(text: str, at: int, mark: str, after: int) -> bool:
    """Does the terminator at ``at`` end a sentence? ``after``: behind its closing quotes."""
    found = _NEXT.match(text, after)
    following = found[1] if found else ""
    if following.islower():  # "approx. five", 'he said "why?" and left'
        return "\n\n" in text[after : after + 3]
    if mark != ".":
        return True
    word_match = _WORD.search(text, max(0, at - 24), at)
    word = word_match[0].lower() if word_match else ""
    if not word:
        return True
    if word in ABBREVIATIONS:
        return word in _NUMBERED and not following.isdigit()
    if len(word) == 1 and word.isalpha() and word != "i":  # an initial: "J. Smith"
        return False
    if word.isdigit() and len(word) <= 3 and text[max(0, at - len(word) - 1) : at - len(word)] in ("", "\n"):
        return False  # "3. The third item"
    if word.isdecimal() and len(word) <= 2 and _MONTH.match(text, after):  # "am 3. Mai bezahlt"
        return False
    return not (word.count(".") and all(len(part) == 1 for part in word.split(".")))  # "U.S. Treasury"
