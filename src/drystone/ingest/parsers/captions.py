"""Captions of recordings: WebVTT and SubRip, and how what was said becomes passages.

Guarantees: every cue's words are kept, with who said them where that is marked; a passage knows from which second to
which it was said, and ends where the speaker changes or falls silent. Cues whose times cannot be read are noted.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from drystone.errors import ParseFailed
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.text import decode
from drystone.records import Parsed, Reading
from drystone.records.place import place

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_VOICE = re.compile(r"<v(?:\.[^ >\t]*)?[ \t]+([^>]*)>")
_TAG = re.compile(r"</?(?:[a-z]+|\d[\d:.]*)(?:[. \t][^<>]*)?>|\{\\[^}]*\}", re.I)
_SILENCE_S, _LONG, _LONGEST = 2.5, 400, 1200  # characters: a passage ends after a sentence, or anyhow


@dataclass(frozen=True, slots=True)
class Cue:
    """What was said from one second to another. ``speaker`` is empty where nobody is named."""

    start_s: float
    end_s: float
    text: str
    speaker: str = ""


def spoken(out: TextBuilder, cues: Iterable[Cue]) -> None:
    """Adds cues as paragraphs, those that belong together as one."""
    held: list[Cue] = []
    length = 0
    for cue in cues:
        if held:
            last = held[-1]
            ends = last.text.endswith((".", "!", "?", "。", "…"))
            if (cue.speaker != last.speaker or cue.start_s - last.end_s > _SILENCE_S or cue.start_s < last.start_s
                    or length > (_LONG if ends else _LONGEST)):  # fmt: skip
                _say(out, held)
                held, length = [], 0
        held.append(cue)
        length += len(cue.text)
    if held:
        _say(out, held)


def _say(out: TextBuilder, held: list[Cue]) -> None:
    text = " ".join(cue.text for cue in held)
    said = f"{held[0].speaker}: {text}" if held[0].speaker else text
    out.add("paragraph", said, place=place(start_s=held[0].start_s, end_s=max(cue.end_s for cue in held)))


class CaptionsParser:
    """WebVTT and SubRip; notes, styles and numbers of cues are no text."""

    name = "captions"
    version = "1"
    media_types = ("text/vtt", "application/x-subrip")

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        text, notes = decode(data)
        out = TextBuilder(reading.text)
        found, timed = [], False
        unread = 0
        for block in re.split(r"\n[ \t]*\n", text):
            lines = block.strip("\n").split("\n")
            at = next((n for n, line in enumerate(lines[:3]) if "-->" in line), None)
            if at is None:
                continue  # a header, a note, a style
            times = _TIMES.fullmatch(lines[at])
            timed = timed or times is not None
            if times is None:
                unread += 1
            cues = list(_cues(times, lines[at + 1 :]))
            found += cues
        if not timed:
            raise ParseFailed("There are no captions with times in it.", kind="malformed" if unread else "empty")
        spoken(out, found)
        if unread:
            notes = (*notes, f"captions whose times cannot be read: {unread}")
        return out.parsed("", notes)


def _cues(times: re.Match[str] | None, lines: list[str]) -> Iterable[Cue]:
    start, end = (_seconds(times.groups()[:4]), _seconds(times.groups()[4:])) if times else (0.0, 0.0)
    parts = _VOICE.split("\n".join(lines))  # text, speaker, text, ...
    for speaker, said in zip(["", *parts[1::2]], parts[::2], strict=True):
        plain = " ".join(html.unescape(_TAG.sub("", said)).split())
        if plain:
            yield Cue(start, end, plain, " ".join(html.unescape(speaker).split()))


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, thousandths = parts
    return (
        3600 * int(hours or 0)
        + 60 * int(minutes or 0)
        + int(seconds or 0)
        + int((thousandths or "0").ljust(3, "0")) / 1000
    )
