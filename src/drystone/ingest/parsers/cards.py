"""Calendars (iCalendar) and contact cards (vCard) as lines: ``Summary: Quarterly review``.

Guarantees: every property with a readable value is a line under its event, task or card; folded lines are joined,
escapes resolved, dates written ``2026-03-01 09:30``; identifiers, encoded pictures and time zone rules are left out.
"""

from __future__ import annotations

import quopri
import re

from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.text import decode
from drystone.records import Parsed
from drystone.records.place import place

_FOLD = re.compile(r"\n[ \t]")
_LINE = re.compile(r'(?:[\w-]+\.)?([\w-]+)((?:;(?:[^":;]|"[^"]*")*)*):(.*)', re.S)
_NAME = re.compile(r';CN=(?:"([^"]*)"|([^;:]*))', re.I)
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?")
_ESCAPE = re.compile(r"\\([nN,;\\:])")
_LEFT_OUT = {
    "UID", "DTSTAMP", "SEQUENCE", "PRODID", "VERSION", "CALSCALE", "METHOD", "TRANSP", "CREATED", "LAST-MODIFIED",
    "CLASS", "PHOTO", "LOGO", "KEY", "SOUND", "REV", "ACTION", "TRIGGER", "RECURRENCE-ID", "N", "PRIORITY",
}  # fmt: skip
_WORDS = {
    "DTSTART": "Start", "DTEND": "End", "TEL": "Telephone", "ORG": "Organisation", "ADR": "Address", "URL": "Web",
    "RRULE": "Repeats", "EXDATE": "Except", "FN": "Name", "BDAY": "Birthday", "DUE": "Due", "X-ALT-DESC": "",
}  # fmt: skip
_BLOCKS = {"VEVENT": 1, "VTODO": 1, "VJOURNAL": 1, "VFREEBUSY": 1, "VCARD": 1, "VTIMEZONE": 0, "VALARM": 0}


def fill(out: TextBuilder, text: str, part: str | None = None) -> str:
    """Write events and cards into ``out``; the first one's title."""
    title, lines, asleep = "", list[str](), 0

    def flush() -> None:
        out.add("paragraph", "\n".join(lines), place=place(part=part))
        lines.clear()

    for line in _FOLD.sub("", _quoted(text)).split("\n"):
        found = _LINE.fullmatch(line.strip())
        if not found:
            continue
        name, about, value = found.group(1).upper(), found.group(2), found.group(3)
        if name in ("BEGIN", "END"):
            kind = _BLOCKS.get(value.strip().upper())
            if kind == 0:
                asleep += 1 if name == "BEGIN" else -1
            elif kind:
                flush()
            continue
        word = _WORDS.get(name, "" if name.startswith("X-") else name.capitalize().replace("-", " "))
        if asleep > 0 or name in _LEFT_OUT or not word or "ENCODING=B" in about.upper():
            continue
        value = _value(value, about)
        if value:
            title = title or (value if name in ("SUMMARY", "FN") else "")
            lines.append(f"{word}: {value}")
    flush()
    return title


def _quoted(text: str) -> str:
    """vCard 2.1 writes what is not ASCII as quoted-printable, over several lines."""
    if "QUOTED-PRINTABLE" not in text.upper():
        return text
    lines = []
    for line in text.replace("=\n", "").split("\n"):
        head, colon, value = line.partition(":")
        if colon and "QUOTED-PRINTABLE" in head.upper():
            line = head + colon + quopri.decodestring(value.encode()).decode("utf-8", "replace").replace("\r", "")
            line = line.replace("\n", " ")
        lines.append(line)
    return "\n".join(lines)


def _value(text: str, about: str) -> str:
    text = _ESCAPE.sub(lambda m: "\n" if m.group(1) in "nN" else m.group(1), text)
    date = _DATE.fullmatch(text.strip())
    if date:
        year, month, day, hour, minute, _, zone = date.groups()
        return f"{year}-{month}-{day}" + (f" {hour}:{minute}{' UTC' if zone else ''}" if hour else "")
    person = _NAME.search(about)
    if person:
        named = (person.group(1) or person.group(2) or "").strip()
        address = re.sub("^mailto:", "", text, flags=re.I)
        return f"{named} <{address}>" if named and named != address else address
    if "\n" not in text and text.count(";") > 1:
        text = ", ".join(filter(None, (piece.strip() for piece in text.split(";"))))
    return re.sub("^mailto:", "", "\n".join(" ".join(line.split()) for line in text.split("\n")).strip(), flags=re.I)


class CardsParser:
    """Files of calendars and contacts."""

    name = "cards"
    version = "1"
    media_types = ("text/calendar", "text/vcard")

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        text, notes = decode(data)
        out = TextBuilder()
        return out.parsed(fill(out, text), notes)
