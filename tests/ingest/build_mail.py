"""Archives and mails that the tests read, put together by hand."""

from __future__ import annotations

import hashlib
import hmac
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

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


def locked_zip(members: Mapping[str, bytes], password: str, aes: int, plain: Mapping[str, bytes] | None = None) -> bytes:
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
        common = struct.pack("<HHHHHIIIHH", 20, flags, method, 0, 33, check, len(packed), len(data), len(name), len(extra))
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
