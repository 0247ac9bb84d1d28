"""Mails of Outlook (.msg, MS-OXMSG): a compound file of MAPI properties.

Guarantees: as ``mail.py`` gives them. What is attached becomes a part; a mail attached to a mail, which has no bytes
of its own in this format, is written as RFC 5322 and becomes a part that ends in ``.eml``. The body is the plain
text, else the HTML, else the text of the RTF.
"""

from __future__ import annotations

import io
import re
import struct
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.mime.application import MIMEApplication
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime
from typing import Any

from drystone.errors import ParseFailed
from drystone.ingest.parsers.mail import SMALL, Letter, words
from drystone.ingest.parsers.rtf import RtfParser
from drystone.ingest.parsers.text import decode, decode_as
from drystone.records import Parsed

_DEEPEST = 5  # mails inside one another
_SUBJECT, _BODY, _HTML, _RTF, _HEADERS, _CLASS = "0037", "1000", "1013", "1009", "007D", "001A"
_SENT, _ARRIVED, _CODEPAGE, _MESSAGE_CODEPAGE = 0x0039, 0x0E06, 0x3FDE, 0x3FFD
_KIND, _METHOD, _RENDERED = 0x0C15, 0x3705, 0x3714
_CODEPAGES = {65001: "utf-8", 20127: "ascii", 1200: "utf-16-le", 28591: "iso-8859-1", 28592: "iso-8859-2",
              28605: "iso-8859-15", 20866: "koi8-r", 21866: "koi8-u", 50220: "iso-2022-jp", 51949: "euc-kr",
              51932: "euc-jp", 54936: "gb18030", 936: "gb18030", 950: "big5", 932: "cp932", 949: "cp949"}  # fmt: skip


class MsgParser:
    """One mail, or another item of Outlook."""

    name = "msg"
    version = "1"
    media_types = ("application/vnd.ms-outlook",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        import olefile

        try:
            with olefile.OleFileIO(io.BytesIO(data)) as file:
                if not file.exists("__properties_version1.0"):
                    raise ParseFailed("It is no mail of Outlook: its properties are missing.", kind="malformed")
                letter = _Storage(file, []).letter(0)
        except (OSError, ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error, RecursionError):
            raise ParseFailed("It is damaged: the compound file cannot be read.", kind="malformed") from None
        return letter.parsed()


class _Storage:
    """A message, a recipient or an attachment: streams by property, and a table of the short ones."""

    def __init__(self, file: Any, path: list[str], codepage: str = "") -> None:
        self._file, self._path = file, path
        self._streams = {entry[-1].upper(): entry for entry in file.listdir(streams=True, storages=True)
                         if len(entry) == len(path) + 1 and entry[:-1] == path}  # fmt: skip
        self._numbers: dict[int, int] = {}
        raw = self._read("__PROPERTIES_VERSION1.0")
        head = 32 if not path else 24 if path[-1].lower() == "__substg1.0_3701000d" else 8
        for at in range(head, len(raw) - 15, 16):
            kind, number = struct.unpack_from("<HH", raw, at)
            if kind in (0x0002, 0x0003, 0x000B, 0x0014, 0x0040):
                self._numbers[number] = struct.unpack_from("<q" if kind in (0x0014, 0x0040) else "<i", raw, at + 8)[0]
        said = self._numbers.get(_MESSAGE_CODEPAGE) or self._numbers.get(_CODEPAGE) or 0
        self._codepage = _CODEPAGES.get(said, f"cp{said}") if said else codepage

    def _read(self, stream: str) -> bytes:
        path = self._streams.get(stream)
        if path is None or self._file.get_type(path) != 2:
            return b""
        data: bytes = self._file.openstream(path).read()
        return data

    def text(self, *numbers: str) -> str:
        """The first of these properties that has text."""
        for number in numbers:
            wide, narrow = self._read(f"__SUBSTG1.0_{number}001F"), self._read(f"__SUBSTG1.0_{number}001E")
            text = wide.decode("utf-16-le", "replace") if wide else self._narrow(narrow)
            text = text.rstrip("\0").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip()
            if text:
                return text
        return ""

    def _narrow(self, data: bytes) -> str:
        try:
            return decode_as(data.rstrip(b"\0"), self._codepage, "the mail")[0]
        except ParseFailed:
            return data.decode("latin-1")

    def letter(self, depth: int) -> Letter:
        letter = Letter()
        letter.subject = self.text(_SUBJECT, "0E1D")
        headers = self.text(_HEADERS)
        people = self._recipients()
        letter.lines = [
            ("From", self._sender()), ("To", people[1] or self.text("0E04")), ("Cc", people[2] or self.text("0E03")),
            ("Bcc", people[3] or self.text("0E02")), ("Date", self._date(headers)),
        ]  # fmt: skip
        self._body(letter)
        for name, path in self._streams.items():
            if name.startswith("__ATTACH_VERSION1.0_"):
                _Storage(self._file, path, self._codepage).attach(letter, depth)
        kind = self.text(_CLASS).lower()
        if kind.endswith(".smime") or any(part.name.lower() == "message.rpmsg" for part in letter.parts):
            letter.notes["body: encrypted"] += 1
            letter.parts = [part for part in letter.parts if not part.name.lower().endswith((".p7m", ".rpmsg"))]
        elif kind.endswith(".smime.multipartsigned"):
            letter.notes["body: inside a signature that is not read"] += 1
        return letter

    def _sender(self) -> str:
        name, address = self.text("0042", "0C1A"), self.text("5D02", "5D01", "0065", "0C1F")
        if "@" not in address:
            address = ""  # a path in the company's directory
        return f"{name} <{address}>" if name and address and name != address else name or address

    def _recipients(self) -> dict[int, str]:
        found: dict[int, list[str]] = {1: [], 2: [], 3: []}
        for name, path in self._streams.items():
            if name.startswith("__RECIP_VERSION1.0_"):
                person = _Storage(self._file, path, self._codepage)
                who, address = person.text("3001"), person.text("39FE", "3003")
                shown = f"{who} <{address}>" if "@" in address and who and who != address else who or address
                found.get(person._numbers.get(_KIND, 1), found[1]).append(shown)
        return {kind: ", ".join(filter(None, people)) for kind, people in found.items()}

    def _date(self, headers: str) -> str:
        said = re.search(r"^Date:[ \t]*(.+)$", headers, re.M | re.I)
        if said:
            return words(said.group(1))
        ticks = self._numbers.get(_SENT) or self._numbers.get(_ARRIVED) or 0
        if not 0 < ticks < 2650467744000000000:  # 100 ns since 1601, to the year 9999
            return ""
        return format_datetime(datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10))

    def _body(self, letter: Letter) -> None:
        plain = self.text(_BODY)
        page = self.text(_HTML)
        raw = self._read(f"__SUBSTG1.0_{_HTML}0102")
        if not page and raw:
            encoding = _CODEPAGES.get(self._numbers.get(_CODEPAGE, 0), f"cp{self._numbers.get(_CODEPAGE, 1252)}")
            page = decode_as(raw, encoding, "the mail")[0]
        if plain:
            letter.bodies.append(("plain", plain))
        elif page:
            letter.bodies.append(("html", page))
        elif packed := self._read(f"__SUBSTG1.0_{_RTF}0102"):
            text = unpacked(packed)
            if b"\\fromhtml" in text[:2000]:
                letter.bodies.append(("html", unwrapped(text)))
            else:
                letter.bodies.append(("plain", RtfParser().parse(text, name="", media_type="").text))

    def attach(self, letter: Letter, depth: int) -> None:
        name = self.text("3707", "3704", "3001")
        inner = self._streams.get("__SUBSTG1.0_3701000D")
        if inner is not None:
            if depth >= _DEEPEST or not self._file.exists([*inner, "__properties_version1.0"]):
                letter.notes["attached objects that are not read"] += 1
                return
            mail = _Storage(self._file, inner, self._codepage).letter(depth + 1)
            letter.notes.update({note: count for note, count in mail.notes.items()})
            title = mail.subject or name
            letter.attach(f"{title.replace('/', ' ')[:120] or 'mail'}.eml", written(mail), "message/rfc822", title)
            return
        data = self._read("__SUBSTG1.0_37010102")
        if not data:
            letter.notes["attachments without content" if self._numbers.get(_METHOD, 1) == 1 else
                         "attachments that are only links"] += 1  # fmt: skip
            return
        kind = self.text("370E").lower()
        picture = kind.startswith("image/") or name.lower().endswith((".png", ".jpg", ".jpeg", ".gif", ".bmp"))
        if picture and len(data) < SMALL and self._numbers.get(_RENDERED, 0) & 4:
            letter.notes["small pictures of the mail left out"] += 1
            return
        letter.attach(name, data, kind)


def written(letter: Letter) -> bytes:
    """A mail of ours as RFC 5322. The same mail gives the same bytes."""
    bodies: list[Message] = [
        MIMEText(text, "html" if kind == "html" else "plain", "utf-8") for kind, text in letter.bodies
    ]
    whole: Message
    if len(bodies) == 1 and not letter.parts:
        whole = bodies[0]
    else:
        whole = MIMEMultipart(
            "mixed", boundary=f"=_part_{len(letter.parts)}_{sum(len(p.data) for p in letter.parts)}_="
        )
        for body in bodies:
            whole.attach(body)
        for part in letter.parts:
            file: Message
            if part.media_type == "message/rfc822" or part.name.endswith(".eml"):
                file = MIMEMessage(message_from_bytes(part.data))
            else:
                file = MIMEApplication(part.data)
            file.add_header("Content-Disposition", "attachment", filename=("utf-8", "", part.name))
            whole.attach(file)
    for name, text in [("Subject", letter.subject), *letter.lines]:
        if text.strip():
            whole[name] = _word(" ".join(text.split()))
    return whole.as_bytes(policy=compat32.clone(mangle_from_=False, max_line_length=0))


def _word(text: str) -> str:
    return text if text.isascii() else f"=?utf-8?B?{b64encode(text.encode('utf-8', 'replace')).decode()}?="


_PRESET = (
    b"{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript "
    b"\\fdecor MS Sans SerifSymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par "
    b"\\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)
_MOST_RTF = 64 << 20


def unpacked(data: bytes) -> bytes:
    """RTF as MS-OXRTFCP packs it: references into a ring of 4096 bytes that begins with well-known text."""
    size, kind = struct.unpack_from("<I4s", data, 4)
    if kind == b"MELA":
        return data[16 : 16 + size]
    if kind != b"LZFu" or size > _MOST_RTF:
        raise ValueError
    ring = bytearray(_PRESET.ljust(4096, b"\0"))
    at, write, out = 16, len(_PRESET), bytearray()
    while at < len(data) and len(out) < size:
        control, at = data[at], at + 1
        for bit in range(8):
            if at >= len(data) or len(out) >= size:
                break
            if control >> bit & 1:
                pair = int.from_bytes(data[at : at + 2], "big")
                at += 2
                read, length = pair >> 4, (pair & 15) + 2
                if read == write:
                    return bytes(out)
                for step in range(length):
                    byte = ring[(read + step) % 4096]
                    ring[write] = byte
                    write = (write + 1) % 4096
                    out.append(byte)
            else:
                byte, at = data[at], at + 1
                ring[write] = byte
                write = (write + 1) % 4096
                out.append(byte)
    return bytes(out)


_RTF_TOKEN = re.compile(
    rb"\\\*\\htmltag\d* ?|\\'([0-9a-fA-F]{2})|"
    rb"\\u(-?\d+) ?\??|\\([a-z]+)(-?\d+)? ?|\\([^a-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)"
)
_ASIDE = {b"fonttbl", b"colortbl", b"stylesheet", b"info", b"pict", b"object", b"header", b"footer", b"listtable",
          b"listoverridetable", b"rsidtbl", b"generator", b"themedata", b"mhtmltag"}  # fmt: skip


def unwrapped(rtf: bytes) -> str:
    """The HTML inside an RTF body (MS-OXRTFEX)."""
    codepage = re.search(rb"\\ansicpg(\d+)", rtf[:2000])
    encoding = f"cp{codepage.group(1).decode()}" if codepage else "cp1252"
    out: list[str] = []
    held = bytearray()
    states: list[tuple[bool, bool]] = [(False, False)]  # of each open group: left out; \htmlrtf, what only RTF says

    def flush() -> None:
        if held:
            out.append(_told(bytes(held), encoding))
            held.clear()

    for token in _RTF_TOKEN.finditer(rtf):
        code, point, word, number, sign, brace, text = token.groups()
        aside, only = states[-1]
        if brace == b"{":
            states.append((aside, only))
        elif brace == b"}":
            if len(states) > 1:
                states.pop()
        elif word == b"htmlrtf":
            states[-1] = (aside, number != b"0")
        elif word in _ASIDE or sign == b"*":
            states[-1] = (True, only)
        elif aside or only:
            continue
        elif code:
            held += bytes([int(code, 16)])
        elif text:
            held += text
        else:
            flush()
            if point:
                value = int(point) & 0xFFFF
                out.append(chr(value) if not 0xD800 <= value < 0xE000 else "\ufffd")
            elif word in (b"par", b"line"):
                out.append("\n")
            elif word == b"tab":
                out.append("\t")
            elif sign in (b"\\", b"{", b"}"):
                out.append(sign.decode())
            elif sign == b"~":
                out.append("\u00a0")
    flush()
    return "".join(out)


def _told(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding, "replace")
    except LookupError:
        return decode(data)[0]
