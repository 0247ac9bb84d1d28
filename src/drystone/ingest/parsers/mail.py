"""Mails: single (RFC 5322), in a mailbox (mbox), and web pages saved as one (MHTML).

Guarantees: the subject is the title and a heading; who, to whom and when are lines; the body is the plain text, or
the HTML where that says much more; quoted history stays. What is attached becomes a part, an attached mail too;
pictures that the HTML shows become parts from 16 kB on, smaller ones (logos, signatures) are counted in a note.
Nothing in a mail is trusted: names of attachments lead nowhere, broken headers, boundaries, encodings and base64 are
read as far as they go, with a note. Signatures are read through and not checked; encrypted mails are refused.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
import struct
from collections import Counter
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import compat32
from email.utils import collapse_rfc2231_value
from typing import Any

from drystone.errors import ParseFailed
from drystone.ingest.parsers import cards, html
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.names import Names
from drystone.ingest.parsers.text import decode, decode_as
from drystone.records import Parsed, Part, Reading
from drystone.records.place import place

SMALL = 16_000  # bytes of a picture that belongs to the mail's looks
_POLICY = compat32.clone(mangle_from_=False, max_line_length=0)
_KNOWN = ("from", "to", "subject", "date", "received", "message-id", "mime-version", "content-type", "return-path")
_SHOWN = ("From", "To", "Cc", "Bcc", "Date")
_ENDINGS = {
    "text/plain": "txt", "text/html": "html", "text/calendar": "ics", "text/csv": "csv", "application/pdf": "pdf",
    "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "application/zip": "zip", "application/json": "json",
    "text/x-vcard": "vcf", "text/vcard": "vcf", "application/rtf": "rtf", "text/rtf": "rtf", "text/xml": "xml",
    "application/xml": "xml", "image/tiff": "tif", "audio/mpeg": "mp3", "audio/wav": "wav", "text/markdown": "md",
}  # fmt: skip
_WORD = re.compile(r"=\?([^?\s]+)\?([bBqQ])\?([^?]*|[^?]*\?(?!=)[^?]*)\?=")
_BETWEEN = re.compile(r"(\?=)\s+(?==\?)")
_PARTS = re.compile(rb'^--([^\s"][^\n"]{0,200}?)[ \t]*\r?\n(?=content-[\w-]+:)', re.I | re.M)
_SIGNATURES = ("application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature")
_SEALED = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_CID = re.compile(r"\[cid:[^\]\s]{1,300}\]")  # where the plain text of a mail with pictures has one
_MBOX = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\n\r\n))From [^\n]*\d\d:\d\d[^\n]*\n|\AFrom [^\n]*\n")


@dataclass(slots=True)
class Letter:
    """A mail as it is read, whatever format it came in."""

    subject: str = ""
    lines: list[tuple[str, str]] = field(default_factory=list)  # From, To, Cc, Date
    bodies: list[tuple[str, str]] = field(default_factory=list)  # plain, html or calendar, and its text
    parts: list[Part] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    names: Names = field(default_factory=Names)

    def attach(self, name: str, data: bytes, media_type: str = "", title: str = "") -> None:
        kind = media_type.lower()
        ending = _ENDINGS.get(kind, "bin")
        found = self.names.file(name, f"{kind.partition('/')[0] or 'part'}.{ending}")
        self.parts.append(Part(found, data, "" if "." in found else kind, title))

    def parsed(self) -> Parsed:
        """Raises ``ParseFailed`` (``encrypted``) where nothing of it can be read."""
        if self.notes["body: encrypted"] and not self.bodies and not self.parts:
            raise ParseFailed("The mail is encrypted.", kind="encrypted")
        out = TextBuilder()
        out.add("heading", " ".join(self.subject.split()), level=1)
        out.add(
            "paragraph", "\n".join(f"{name}: {' '.join(text.split())}" for name, text in self.lines if text.strip())
        )
        said: list[str] = []
        for kind, text in self.bodies:
            if kind == "html":
                said += html.fill(out, text, "body")[1]
            elif kind == "calendar":
                cards.fill(out, text, "body")
            else:
                for paragraph in re.split(r"\n[ \t]*\n", _CID.sub("", text)):
                    out.add("paragraph", paragraph, place=place(part="body"))
        notes = [f"{note}: {count}" if count > 1 else note for note, count in self.notes.items()]
        return out.parsed(self.subject, (*notes, *dict.fromkeys(said)), self.parts)


class MailParser:
    """One mail."""

    name = "mail"
    version = "1"
    media_types = ("message/rfc822",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        message = _message(data)
        if not any(message.get(field) is not None for field in _KNOWN):
            raise ParseFailed("It is no mail: it has none of a mail's headers.", kind="malformed")
        letter = _Reader().read(message)
        return letter.parsed()


class MboxParser:
    """A mailbox: every mail is a part."""

    name = "mbox"
    version = "1"
    media_types = ("application/mbox",)

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        marks = list(_MBOX.finditer(data))
        if not marks or data[: marks[0].start()].strip():
            raise ParseFailed("It is no mailbox: it does not begin with a mail.", kind="malformed")
        if len(marks) > reading.parts:
            raise ParseFailed("There are more mails in it than are allowed.", kind="expansion")
        out, names, parts = TextBuilder(), Names(), []
        for number, (mark, end) in enumerate(zip(marks, [m.start() for m in marks[1:]] + [len(data)], strict=True), 1):
            raw = re.sub(rb"(?m)^>(>*From )", rb"\1", data[mark.end() : end])
            head = _message(re.split(rb"\r?\n\r?\n", raw, maxsplit=1)[0] + b"\n\n")
            subject, sender, date = (" ".join(_header(head, field).split()) for field in ("Subject", "From", "Date"))
            found = names.file(f"{number} {subject.replace('/', ' ')[:120]}".strip() + ".eml")
            parts.append(Part(found, raw, "message/rfc822", subject))
            out.add("list", " | ".join(filter(None, (subject, sender, date))) or found, near=True)
        return out.parsed("", (), parts)


class MhtmlParser:
    """A web page saved with what it shows."""

    name = "mhtml"
    version = "1"
    media_types = ("multipart/related",)

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        message = _message(data)
        pages = [leaf for leaf in message.walk() if leaf.get_content_type() in ("text/html", "application/xhtml+xml")]
        if not pages:
            raise ParseFailed("There is no page in it.", kind="malformed")
        start = _param(message, "start")
        page = next((p for p in pages if start and p.get("content-id") == start), pages[0])
        text, notes = decode_as(_payload(page, Counter()), _charset(page), "the page")
        out = TextBuilder()
        title, said = html.fill(out, text)
        left = sum(1 for leaf in message.walk() if not leaf.is_multipart()) - 1
        return out.parsed(
            title or _header(message, "Subject"), (*notes, *said, f"what the page shows left out: {left}")
        )


class _Reader:
    """One walk over a mail's tree."""

    def __init__(self) -> None:
        self.letter = Letter()
        self._found = False  # parts behind a wrong boundary; once, so that nothing is read again and again

    def read(self, message: Message) -> Letter:
        letter = self.letter
        letter.subject = _header(message, "Subject").strip()
        letter.lines = [(name, _header(message, name)) for name in _SHOWN]
        try:
            self._take(message, True)
        except RecursionError:
            raise ParseFailed("It is nested too deeply.", kind="malformed") from None
        broken = sorted({type(d).__name__.removesuffix("Defect") for node in message.walk() for d in node.defects})
        if broken:
            letter.notes[f"mail broken ({', '.join(broken)})"] += 1
        return letter

    def _take(self, node: Message, texts: bool, shown: str = "") -> None:
        """``texts``: whether its text is of the body. ``shown``: the HTML that shows it."""
        kind = node.get_content_type()
        children = _children(node)
        if kind.startswith("multipart/"):
            lost = _lost(_bytes(node.epilogue) if children else _payload(node, self.letter.notes))
            if lost and not self._found:
                self._found = True
                children = children + lost
        if not children:
            self._leaf(node, kind, texts, shown)
        elif kind == "message/rfc822" or kind == "message/global":
            self._mail(node, children[0])
        elif kind == "message/delivery-status":
            report = "\n\n".join(
                "\n".join(f"{k}: {v}" for k, v in c.items()) for c in children if isinstance(c, Message)
            )
            name = _filename(node)
            if name:
                self.letter.attach(name, report.encode("utf-8", "replace"), "text/plain")
            elif texts:
                self.letter.bodies.append(("plain", report))
        elif kind == "multipart/alternative":
            self._alternative(children, texts)
        elif kind == "multipart/encrypted":
            self.letter.notes["body: encrypted"] += 1
        elif kind == "multipart/related":
            root = next((c for c in children if c.get_content_type().startswith(("text/", "multipart/"))), None)
            page = "" if root is None else self._html(root)
            for child in children:
                self._take(child, texts and child is root, page or "cid:" if child is not root else shown)
        else:
            for child in children:
                self._take(child, texts, shown)

    def _alternative(self, children: list[Message], texts: bool) -> None:
        """Plain text if it says what the HTML says, else that; whatever else is in any of them is attached."""
        chosen: Message | None
        plain = next((c for c in children if c.get_content_type() == "text/plain"), None)
        rich = next((c for c in reversed(children) if c is not plain and self._html(c)), None)
        if plain is not None and rich is not None:
            short, long = len(self._text(plain).split()), len(html.render(self._html(rich)).text.split())
            chosen = rich if short * 4 < long else plain
            if chosen is rich and short:
                self.letter.notes["body: from the HTML, as the plain text says much less"] += 1
        else:
            chosen = plain if plain is not None else rich
        for child in children:
            calendar = child.get_content_type() == "text/calendar"
            self._take(child, texts and (child is chosen or calendar or chosen is None))

    def _leaf(self, node: Message, kind: str, texts: bool, shown: str) -> None:
        letter, name = self.letter, _filename(node)
        disposition = str(node.get("content-disposition") or "").partition(";")[0].strip().lower()
        if kind in _SIGNATURES:
            letter.notes["signature not checked"] += 1
            return
        if kind in _SEALED:
            signed = _param(node, "smime-type").lower() == "signed-data"
            letter.notes["body: inside a signature that is not read" if signed else "body: encrypted"] += 1
            if signed:
                letter.attach(name or "smime.p7m", _payload(node, letter.notes), kind)
            return
        if kind.startswith("multipart/"):  # without the boundary that it names
            kind = "text/plain"
        body = kind in ("text/plain", "text/html", "text/calendar", "text/rfc822-headers", "text/enriched")
        if body and disposition != "attachment" and not name:
            if texts:
                self._body(node, kind)
            return
        data = _payload(node, letter.notes)
        if not data and not name:
            return
        if (kind == "application/ms-tnef" or name.lower() == "winmail.dat") and _tnef(data, letter):
            return
        if kind.startswith("image/") and disposition != "attachment" and shown and len(data) < SMALL:
            letter.notes["small pictures of the mail left out"] += 1
            return
        letter.attach(name, data, kind)

    def _body(self, node: Message, kind: str) -> None:
        try:
            text = self._text(node)
        except ParseFailed:  # it says that it is text, and is not
            self.letter.attach("", _payload(node, self.letter.notes), "application/octet-stream")
            return
        style = {"text/html": "html", "text/calendar": "calendar"}.get(kind, "plain")
        if style == "plain" and _param(node, "format").lower() == "flowed":
            text = _unflowed(text, _param(node, "delsp").lower() == "yes")
        if text.strip():
            self.letter.bodies.append((style, text))

    def _mail(self, node: Message, inner: Message) -> None:
        """A mail that is attached, whole. Base64, which is not allowed here, is seen all the same."""
        subject = _header(inner, "Subject").strip()
        try:
            data = inner.as_bytes(policy=_POLICY)
        except (ValueError, LookupError, TypeError, AttributeError):
            self.letter.notes["attached mail that cannot be taken out"] += 1
            return
        if str(node.get("content-transfer-encoding") or "").strip().lower() == "base64":
            data = _base64(data)
            subject = _header(_message(data), "Subject").strip()
        name = _filename(node) or f"{subject.replace('/', ' ')[:120] or 'mail'}.eml"
        self.letter.attach(name if name.lower().endswith(".eml") else name + ".eml", data, "message/rfc822", subject)

    def _text(self, node: Message) -> str:
        text, notes = decode_as(_payload(node, self.letter.notes), _charset(node), "the mail")
        for note in notes:
            if note.startswith("encoding:") and ("guessed" in note or "broken" in note or "not exist" in note):
                self.letter.notes[note] = 1
        return text

    def _html(self, node: Message) -> str:
        """The HTML of an alternative, which may have its pictures or attachments beside it."""
        for leaf in node.walk():
            if leaf.get_content_type() == "text/html" and not leaf.is_multipart() and not _filename(leaf):
                try:
                    return self._text(leaf)
                except ParseFailed:
                    return ""
        return ""


def _message(data: bytes) -> Message:
    try:
        return message_from_bytes(data.lstrip(b"\xef\xbb\xbf\r\n\t "), policy=_POLICY)
    except RecursionError:
        raise ParseFailed("It is nested too deeply.", kind="malformed") from None


def _lost(data: bytes) -> list[Message]:
    """The parts of a multipart that names another boundary than it uses, or goes on after its end."""
    found = _PARTS.search(data)
    if found is None:
        return []
    return _children(_message(b'Content-Type: multipart/mixed; boundary="' + found.group(1) + b'"\n\n' + data))


def _bytes(text: str | None) -> bytes:
    return (text or "").encode("utf-8", "surrogateescape")


def _header(message: Message, name: str) -> str:
    """A header's text, all of its lines together."""
    values = [str(raw) for key, raw in message.raw_items() if key.lower() == name.lower()]
    return ", ".join(filter(None, (words(value) for value in (values if name in ("To", "Cc") else values[:1]))))


def words(raw: str) -> str:
    """A header with its encoded words (RFC 2047) decoded; bytes that it should not have are guessed."""
    raw = re.sub(r"\r?\n[ \t]*|\r", " ", raw)
    if any("\udc80" <= c <= "\udcff" for c in raw):
        raw = decode(raw.encode("utf-8", "surrogateescape"))[0].replace("\n", " ")
    if "=?" not in raw:
        return raw
    pieces: list[tuple[str, Any]] = []
    at, joined = 0, _BETWEEN.sub(r"\1", raw)
    for found in _WORD.finditer(joined):
        pieces.append(("", joined[at : found.start()]))
        encoding = found.group(1).partition("*")[0].lower()
        text = found.group(3).encode("utf-8", "surrogateescape")
        data = _base64(text) if found.group(2) in "bB" else quopri.decodestring(text.replace(b" ", b"_"), header=True)
        if len(pieces) > 1 and not pieces[-1][1] and pieces[-2][0] == encoding:  # a character may lie in two words
            pieces.pop()
            pieces[-1] = (encoding, pieces[-1][1] + data)
        else:
            pieces.append((encoding, data))
        at = found.end()
    pieces.append(("", joined[at:]))
    return "".join(_decoded(data, encoding) if isinstance(data, bytes) else data for encoding, data in pieces)


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return decode_as(data, encoding, "the mail")[0].replace("\n", " ")
    except ParseFailed:
        return data.decode("latin-1")


def _filename(node: Message) -> str:
    return _param(node, "filename", "content-disposition") or _param(node, "name")


def _charset(node: Message) -> str:
    return _param(node, "charset")


def _param(node: Message, name: str, header: str = "content-type") -> str:
    """A header's parameter, in any of the ways in which it may be written (RFC 2231, RFC 2047, neither)."""
    try:
        value = node.get_param(name, None, header)
        return "" if value is None else words(collapse_rfc2231_value(value)).strip()
    except (ValueError, LookupError, TypeError, AttributeError):  # what the library does with one that is broken
        found = re.search(rf"{name}\s*=\s*\"?([^\";\r\n]+)", str(node.get(header) or ""), re.I)
        return words(found.group(1)).strip() if found else ""


def _children(node: Message) -> list[Message]:
    found = node.get_payload() if node.is_multipart() else None  # of a leaf it would decode, by any codec that is named
    return [child for child in found if isinstance(child, Message)] if isinstance(found, list) else []


def _payload(node: Message, notes: Counter[str]) -> bytes:
    """The bytes of a leaf. What is broken in their encoding is skipped, with a note."""
    encoding = str(node.get("content-transfer-encoding") or "").strip().lower()
    if encoding in ("x-uuencode", "uuencode", "uue", "x-uue"):
        found = node.get_payload(decode=True)
        return found if isinstance(found, bytes) else b""
    kept = node.get_all("content-transfer-encoding") or []
    del node["content-transfer-encoding"]  # else the library guesses characters before we see bytes
    data = node.get_payload(decode=True)
    for value in kept:
        node["content-transfer-encoding"] = value
    if not isinstance(data, bytes):
        return b""
    if encoding == "base64":
        return _base64(data, notes)
    if encoding == "quoted-printable":
        return quopri.decodestring(data)
    return data


def _base64(data: bytes, notes: Counter[str] | None = None) -> bytes:
    data = re.sub(rb"\s+", b"", data)
    clean = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
    if notes is not None and len(clean.rstrip(b"=")) + 2 < len(data.rstrip(b"=")):
        notes["base64 broken"] += 1
    try:
        return base64.b64decode(clean + b"=" * (-len(clean) % 4))
    except binascii.Error:  # one character too many: half a byte
        return base64.b64decode(clean[: len(clean) // 4 * 4])


def _unflowed(text: str, joined: bool) -> str:
    """Lines that were only broken to be short (RFC 3676) as one."""
    done: list[str] = []
    open = False
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip(">"))
        bare = line[depth:].removeprefix(" ")
        if open and done and depth == len(done[-1]) - len(done[-1].lstrip(">")):
            done[-1] += bare
        else:
            done.append(line[:depth] + (" " if depth else "") + bare)
        open = bare.endswith(" ") and bare != "-- "
        if open and joined:
            done[-1] = done[-1][:-1]
    return "\n".join(done)


def _tnef(data: bytes, letter: Letter) -> bool:
    """What Outlook packs into winmail.dat (MS-OXTNEF): the attached files with their names. Whether it is one."""
    if data[:4] != b"\x78\x9f\x3e\x22":
        return False
    at, title, content = 6, "", b""

    def flush() -> None:
        if content:
            letter.attach(title, content)

    while at + 9 <= len(data):
        attribute, size = struct.unpack_from("<II", data, at + 1)
        value = data[at + 9 : at + 9 + size]
        at += 9 + size + 2
        if attribute & 0xFFFF == 0x9002:  # a new attachment
            flush()
            title, content = "", b""
        elif attribute & 0xFFFF == 0x8010:
            title = _decoded(value.rstrip(b"\0"), "")
        elif attribute & 0xFFFF == 0x800F:
            content = value
        elif attribute & 0xFFFF == 0x800C and not letter.bodies:
            letter.bodies.append(("plain", _decoded(value.rstrip(b"\0"), "")))
    flush()
    letter.notes["winmail.dat: only its files are read"] += 1
    return True
