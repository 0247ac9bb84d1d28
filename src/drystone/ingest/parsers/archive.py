"""Archives: zip, tar (plain or compressed), and single files in gzip, bzip2 or xz.

Guarantees: every member becomes a part (one that is encrypted, damaged or compressed in an unknown way says so) or is
counted in a note (leads out of the archive, link, device, hidden); nothing is followed and nothing is written. Bytes
are counted while they unfold: more than ``reading`` allows, more than 250 times the archive, or zip members that share
bytes are an ``expansion`` bomb. The text is a list of the members' names and sizes. Encrypted members are tried with
the source's passwords (ZipCrypto, and AES as in WinZip's AE-1 and AE-2).
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import hmac
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from drystone.errors import ParseFailed
from drystone.ingest.parsers.build import TextBuilder, counted
from drystone.ingest.parsers.locked import LOCKED, UNFITTING
from drystone.ingest.parsers.names import Names, hidden, size
from drystone.ingest.parsers.text import decode
from drystone.records import Parsed, Part, Reading

MOST_RATIO = 250  # unfolded to packed, beyond the first megabytes
_FREE = 16 << 20  # bytes that may unfold whatever the ratio
_PIECE = 1 << 20
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    struct.error,
)
_ENDINGS = (".gz", ".bz2", ".xz")
_AES = 99  # zip's compression method for "encrypted, see the extra field"
_UNREAD = {
    "application/x-7z-compressed": "7z archives are not read. Unpack it, or pack it as zip or tar.",
    "application/vnd.rar": "RAR archives are not read. Unpack it, or pack it as zip or tar.",
}


class ArchiveParser:
    """Archives and compressed files. 7z and RAR are refused with a reason: their engines are not free to ship."""

    name = "archive"
    version = "1"
    media_types = (
        "application/zip", "application/x-tar", "application/gzip", "application/x-bzip2", "application/x-xz", *_UNREAD,
    )  # fmt: skip

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        if media_type in _UNREAD:
            raise ParseFailed(_UNREAD[media_type], kind="unsupported")
        inside = _Inside(len(data), reading)
        try:
            if data[:4] in (b"PK\x03\x04", b"PK\x05\x06") or media_type == "application/zip":
                _zip(data, inside)
            else:
                _stream(data, name, media_type, inside)
        except NotImplementedError:  # of zipfile: a version of the format that it does not know
            raise ParseFailed("It is packed in a newer way than we can read.", kind="unsupported") from None
        except _DAMAGED:
            if not inside.parts:
                raise ParseFailed("It is damaged: the archive cannot be unpacked.", kind="malformed") from None
            inside.notes["archive damaged, read up to member"] = len(inside.parts)
        return inside.parsed()


class _Inside:
    """What was found so far, and how much more there may be."""

    def __init__(self, packed: int, reading: Reading) -> None:
        self.names = Names()
        self.parts: list[Part] = []
        self.notes: Counter[str] = Counter()
        self.said: list[str] = []
        self.passwords = reading.passwords
        self._lines: list[str] = []
        self._most_parts = reading.parts
        self._left = min(reading.unpacked, _FREE + MOST_RATIO * packed)

    def name(self, raw: str) -> str:
        """The name of a member that is to be read, else ``""``."""
        if hidden(raw.replace("\\", "/").rstrip("/")):
            self.notes["hidden members left out"] += 1
            return ""
        found = self.names.path(raw)
        if not found:
            self.notes["members that lead out of the archive left out"] += 1
        return found

    def count(self, pieces: Iterator[bytes]) -> bytes:
        """The pieces together. Raises as soon as they are too many."""
        kept = []
        for piece in pieces:
            self._left -= len(piece)
            if self._left < 0:
                raise ParseFailed("It unfolds to more than is allowed.", kind="expansion")
            kept.append(piece)
        return b"".join(kept)

    def add(self, name: str, data: bytes) -> None:
        if len(self.parts) >= self._most_parts:
            raise ParseFailed("There are more members in it than are allowed.", kind="expansion")
        self.parts.append(Part(name, data))
        self._lines.append(f"{name} ({size(len(data))})")

    def leave(self, name: str, kind: str, reason: str) -> None:
        """A member that cannot be read: its name can be found, and it lies in quarantine by itself."""
        self.parts.append(Part(name, b"", kind=kind, reason=reason))
        self._lines.append(f"{name} ({kind.replace('_', ' ')})")

    def parsed(self) -> Parsed:
        kinds = {part.kind for part in self.parts}
        if len(kinds) == 1 and kinds <= {"encrypted", "wrong_password", "unsupported"}:
            raise ParseFailed(self.parts[0].reason, kind=kinds.pop())
        out = TextBuilder()
        for line in self._lines:
            out.add("list", line, near=True)
        return out.parsed("", (*self.said, *counted(self.notes)), self.parts)


def _zip(data: bytes, inside: _Inside) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        members = packed.infolist()
        _apart(members)
        names = _zip_names(members, inside)
        for member, raw in zip(members, names, strict=True):
            if raw.endswith(("/", "\\")):
                continue
            if stat.S_ISLNK(member.external_attr >> 16):
                inside.notes["links left out"] += 1
                continue
            name = inside.name(raw)
            if not name:
                continue
            try:
                if member.flag_bits & 0x40:
                    content = None  # PKWARE's own encryption, of which the details are not public
                elif member.compress_type == _AES:
                    content = _aes(data, member, inside)
                elif member.flag_bits & 1:
                    content = _crypto(packed, member, inside)
                else:
                    with packed.open(member) as file:
                        content = inside.count(_pieces(file))
            except NotImplementedError:
                inside.leave(name, "unsupported", "It is compressed in a way that we cannot read.")
            except _DAMAGED:
                inside.leave(name, "malformed", "It is damaged inside its archive.")
            else:
                if content is None and inside.passwords:
                    inside.leave(name, "wrong_password", UNFITTING)
                elif content is None:
                    inside.leave(name, "encrypted", LOCKED)
                else:
                    inside.add(name, content)


def _apart(members: list[zipfile.ZipInfo]) -> None:
    """Members that share bytes are how a small file unfolds without end."""
    at = 0
    for member in sorted(members, key=lambda m: m.header_offset):
        if member.header_offset < at:
            raise ParseFailed("Its members lie over one another, as in a bomb.", kind="expansion")
        at = member.header_offset + 30 + member.compress_size


def _zip_names(members: list[zipfile.ZipInfo], inside: _Inside) -> list[str]:
    """Names that are not marked as Unicode are in the code page of whoever packed: all of them tell which."""
    raw = {n: m.orig_filename.encode("cp437") for n, m in enumerate(members) if not m.flag_bits & 0x800}
    odd = {n: name for n, name in raw.items() if not name.isascii()}
    names = [m.orig_filename for m in members]
    if odd:
        try:
            texts, notes = decode(b"\n".join(name.replace(b"\n", b" ") for name in odd.values()))
        except ParseFailed:  # of no encoding that we know: then as the format has it
            texts, notes = "", ("encoding: cp437, as no other fits",)
        found = texts.split("\n") if texts else [names[n] for n in odd]
        if len(found) == len(odd):
            inside.said += [f"names of members: {note}" for note in notes]
            for n, text in zip(odd, found, strict=True):
                names[n] = text
    for n, member in enumerate(members):
        names[n] = _unicode_name(member.extra, raw.get(n, b"")) or names[n]
    return names


def _unicode_name(extra: bytes, raw: bytes) -> str:
    """Info-ZIP's field for a name in UTF-8; it holds only for the name that its checksum is of."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == 0x7075 and len(field) > 5 and struct.unpack_from("<I", field, 1)[0] == zlib.crc32(raw):
            return field[5:].decode("utf-8", "replace")
    return ""


def _crypto(packed: zipfile.ZipFile, member: zipfile.ZipInfo, inside: _Inside) -> bytes | None:
    for password in inside.passwords:
        try:
            with packed.open(member, pwd=password.encode()) as file:
                return inside.count(_pieces(file))
        except (RuntimeError, zipfile.BadZipFile, zlib.error):  # one byte tells a wrong password; then the checksum
            continue
    return None


def _aes(data: bytes, member: zipfile.ZipInfo, inside: _Inside) -> bytes | None:
    """WinZip's AES: PBKDF2 over the salt, counter mode from 1 counted in little endian, HMAC-SHA1 cut to ten bytes."""
    extra, strength, method = member.extra, 0, 0
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 0x9901:
            strength, method = struct.unpack_from("<BH", extra, 8)
        extra = extra[4 + length :]
    if strength not in (1, 2, 3):
        raise NotImplementedError
    start = member.header_offset
    start += 30 + sum(struct.unpack_from("<HH", data, start + 26))
    sealed = data[start : start + member.compress_size]
    salt, key = 4 + 4 * strength, 8 + 8 * strength
    if len(sealed) < salt + 12:
        raise zipfile.BadZipFile
    text, seal = sealed[salt + 2 : -10], sealed[-10:]
    for password in inside.passwords:
        keys = hashlib.pbkdf2_hmac("sha1", password.encode(), sealed[:salt], 1000, 2 * key + 2)
        if keys[-2:] != sealed[salt : salt + 2]:
            continue
        if not hmac.compare_digest(hmac.digest(keys[key:-2], text, "sha1")[:10], seal):
            continue
        return inside.count(_unfold(method, _counter(keys[:key], text)))
    return None


def _counter(key: bytes, text: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    done = []
    for at in range(0, len(text), _PIECE):
        piece = text[at : at + _PIECE]
        first = at // 16 + 1
        counters = b"".join(n.to_bytes(16, "little") for n in range(first, first + -(-len(piece) // 16)))
        stream = cipher.update(counters)[: len(piece)]
        mixed = int.from_bytes(piece, "little") ^ int.from_bytes(stream, "little")
        done.append(mixed.to_bytes(len(piece), "little"))
    return b"".join(done)


def _unfold(method: int, data: bytes) -> Iterator[bytes]:
    if method == zipfile.ZIP_STORED:
        yield data
    elif method == zipfile.ZIP_DEFLATED:
        inflate = zlib.decompressobj(-15)
        while data and not inflate.eof:
            yield inflate.decompress(data, _PIECE)
            data = inflate.unconsumed_tail
        yield inflate.flush()
    elif method == zipfile.ZIP_BZIP2:
        yield from _pieces(bz2.BZ2File(io.BytesIO(data)))
    else:
        raise NotImplementedError


def _stream(data: bytes, name: str, media_type: str, inside: _Inside) -> None:
    """A tar, compressed or not, or one compressed file."""
    unpacking = _unpacking(data)
    if unpacking is not None and media_type != "application/x-tar":
        if unpacking.read(512)[257:262] != b"ustar":
            return _single(data, name, inside)
        unpacking = _unpacking(data)
    file = unpacking if unpacking is not None else io.BytesIO(data)
    counted = _Counted(file, inside)
    with tarfile.open(fileobj=counted, mode="r|", encoding="utf-8", errors="surrogateescape") as packed:
        for member in packed:
            raw = member.name
            if member.isdir():
                continue
            if member.issym() or member.islnk():
                inside.notes["links left out"] += 1
                continue
            if not member.isreg():
                inside.notes["devices left out"] += 1
                continue
            found = inside.name(_decoded(raw))
            content = packed.extractfile(member) if found else None
            if content is not None:
                if member.sparse is None:  # then its bytes were counted in the stream
                    inside.add(found, content.read())
                else:
                    inside.add(found, inside.count(_pieces(content)))


def _unpacking(data: bytes) -> Any:
    """A file of what is compressed in it, if it is."""
    file = io.BytesIO(data)
    if data.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if data.startswith(b"BZh"):
        return bz2.BZ2File(file)
    return lzma.LZMAFile(file) if data.startswith(b"\xfd7zXZ\0") else None


def _single(data: bytes, name: str, inside: _Inside) -> None:
    plain = name.rpartition("/")[2]
    stem = next((plain[: -len(end)] for end in _ENDINGS if plain.lower().endswith(end) and len(plain) > len(end)), "")
    content = inside.count(_pieces(_unpacking(data)))
    inside.add(inside.names.file(stem or _said(data), "content"), content)


def _said(data: bytes) -> str:
    """The name that a gzip header holds."""
    if data[:2] != b"\x1f\x8b" or len(data) < 12 or not data[3] & 8 or data[3] & 4:
        return ""
    return data[10:300].partition(b"\0")[0].decode("latin-1")


def _decoded(name: str) -> str:
    raw = name.encode("utf-8", "surrogateescape")
    try:
        return decode(raw)[0].replace("\n", " ")
    except ParseFailed:
        return raw.decode("cp437")


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece


class _Counted(io.RawIOBase):
    """A stream whose bytes are counted, whatever reads it."""

    def __init__(self, file: IO[bytes], inside: _Inside) -> None:
        self._file, self._inside = file, inside

    def read(self, size: int = -1) -> bytes:
        return self._inside.count(iter((self._file.read(size if size >= 0 else _PIECE),)))
