"""Archives and mails that the tests read, put together by hand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        for name, data in members.items():
            packed.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return out.getvalue()


def locked_zip(
    members: Mapping[str, bytes], password: str, aes: int, plain: Mapping[str, bytes] | None = None
) -> bytes:
    """A zip file with encrypted members. ``aes``: 1, 2, 3 for 128, 192, 256 bits; 0 for ZipCrypto."""
    body, index = b"", b""
    everything = [(n, d, True) for n, d in members.items()] + [(n, d, False) for n, d in (plain or {}).items()]
    for name, data, locked in everything:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed, extra, method, flags = deflate.compress(data) + deflate.flush(), b"", 8, int(locked)
        check = 0 if locked and aes else zlib.crc32(data)
        if locked and aes:
            packed, method = _sealed(packed, password, aes), 99
            extra = struct.pack("<HHH2sBH", 0x9901, 7, 2, b"AE", aes, 8)
        elif locked:
            packed = _crypto(bytes(11) + bytes([check >> 24]) + packed, password)
        common = struct.pack(
            "<HHHHHIIIHH", 20, flags, method, 0, 33, check, len(packed), len(data), len(name), len(extra)
        )
        index += b"PK\x01\x02\x14\0" + common + struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode() + extra
        body += b"PK\x03\x04" + common + name.encode() + extra + packed
    count = len(everything)
    return body + index + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(index), len(body), 0)


def _sealed(data: bytes, password: str, aes: int) -> bytes:
    salt, size = bytes(range(4 + 4 * aes)), 8 + 8 * aes
    keys = hashlib.pbkdf2_hmac("sha1", password.encode(), salt, 1000, 2 * size + 2)
    cipher = Cipher(algorithms.AES(keys[:size]), modes.ECB()).encryptor()
    stream = b"".join(cipher.update((n + 1).to_bytes(16, "little")) for n in range(len(data) // 16 + 1))
    text = bytes(a ^ b for a, b in zip(data, stream, strict=False))
    return salt + keys[-2:] + text + hmac.digest(keys[size:-2], text, "sha1")[:10]


def _crypto(data: bytes, password: str) -> bytes:
    """PKWARE's old cipher, as its specification writes it."""
    keys = [0x12345678, 0x23456789, 0x34567890]

    def mix(byte: int) -> None:
        keys[0] = zlib.crc32(bytes([byte]), keys[0] ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
        keys[1] = ((keys[1] + (keys[0] & 255)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = zlib.crc32(bytes([keys[1] >> 24]), keys[2] ^ 0xFFFFFFFF) ^ 0xFFFFFFFF

    for byte in password.encode():
        mix(byte)
    out = bytearray()
    for byte in data:
        temp = (keys[2] | 2) & 0xFFFF
        out.append(byte ^ (temp * (temp ^ 1) >> 8) & 255)
        mix(byte)
    return bytes(out)


def mail(*parts: str, boundary: str = "b", kind: str = "mixed", **headers: str) -> bytes:
    """A mail around its parts, each with its own headers; the only part may be a plain text."""
    head = {"From": "Ann <ann@a.example>", "To": "bob@b.example", "Subject": "Returns", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {text}\n" for name, text in head.items())
    if len(parts) == 1 and "\n\n" not in parts[0]:
        return f"{lines}\n{parts[0]}".encode()
    body = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f'{lines}MIME-Version: 1.0\nContent-Type: multipart/{kind}; boundary="{boundary}"\n\n{body}--{boundary}--\n'.encode()


def attached(name: str, data: bytes, kind: str = "application/octet-stream", how: str = "attachment") -> str:
    text = base64.encodebytes(data).decode()
    return f'Content-Type: {kind}\nContent-Transfer-Encoding: base64\nContent-Disposition: {how}; filename="{name}"\n\n{text}'


Tree = Mapping[str, Any]


def compound(tree: Tree) -> bytes:
    """A compound file: bytes are streams, mappings storages. Streams are filled with zeros to 4096 bytes."""
    entries: list[dict[str, Any]] = [{"name": "Root Entry", "kind": 5, "data": b""}]

    def add(nodes: Tree) -> int:
        first = before = -1
        for name, value in nodes.items():
            at = len(entries)
            entry: dict[str, Any] = {"name": name, "kind": 2 if isinstance(value, bytes) else 1, "data": b""}
            entries.append(entry)
            if isinstance(value, bytes):
                entry["data"] = value.ljust(4096, b"\0")
            else:
                entry["child"] = add(value)
            if before >= 0:
                entries[before]["right"] = at
            first, before = at if first < 0 else first, at
        return first

    entries[0]["child"] = add(tree)
    sectors: list[bytes] = []
    chain: list[int] = []

    def store(data: bytes) -> int:
        begun, count = len(sectors), -(-len(data) // 512)
        sectors.extend(data[at : at + 512].ljust(512, b"\0") for at in range(0, len(data), 512))
        chain.extend([*range(begun + 1, begun + count), 0xFFFFFFFE])
        return begun

    starts = [store(e["data"]) if e["kind"] == 2 else 0xFFFFFFFE if e["kind"] == 5 else 0 for e in entries]
    directory = b""
    for entry, start in zip(entries, starts, strict=True):
        name = entry["name"].encode("utf-16-le") + b"\0\0"
        links = struct.pack(
            "<III", 0xFFFFFFFF, entry.get("right", 0xFFFFFFFF), entry.get("child", 0xFFFFFFFF) & 0xFFFFFFFF
        )
        directory += name.ljust(64, b"\0") + struct.pack("<HBB", len(name), entry["kind"], 1) + links + bytes(36)
        directory += struct.pack("<IQ", start, len(entry["data"]))
    first = store(directory + bytes(-len(directory) % 512))
    tables = -(-(len(chain) + 8) // 128)
    begun = len(sectors)
    chain += [0xFFFFFFFD] * tables
    fat = b"".join(struct.pack("<I", n) for n in chain).ljust(tables * 512, b"\xff")
    sectors += [fat[at : at + 512] for at in range(0, len(fat), 512)]
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    head += struct.pack("<IIIIIIIII", 0, tables, first, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    head += b"".join(struct.pack("<I", begun + n if n < tables else 0xFFFFFFFF) for n in range(109))
    return head + b"".join(sectors)


def properties(head: int, **numbers: int) -> bytes:
    """``x0039=...`` as a property of eight bytes (a time), ``n3705=...`` as one of four."""
    rows = b""
    for name, value in numbers.items():
        kind = 0x0040 if name[0] == "x" else 0x0003
        rows += struct.pack("<HHIq", kind, int(name[1:], 16), 6, value)
    return bytes(head) + rows


def stream(number: str, text: str) -> tuple[str, bytes]:
    return f"__substg1.0_{number}001F", text.encode("utf-16-le")


def lzfu(text: bytes) -> bytes:
    """RTF as Outlook packs it, without any reference."""
    body = b"".join(b"\0" + text[at : at + 8] for at in range(0, len(text), 8))
    return struct.pack("<II4sI", len(body) + 12, len(text), b"LZFu", 0) + body
