"""Mutated documents through every parser, in the real worker processes: python tools/fuzz.py --seconds 60 --seed 1

Guarantees: the same seed, parsers and corpus give the same documents. A finding is what no document may cause: a
worker that died, took too long or too much memory, an error without a type of ours, a text that breaks what every
parser must hold. Findings are told apart by parser, kind and place, made small, and kept in ``--out`` (a new
temporary folder by default; never below the repository). Exits with 1 if there are any.

``--parser NAME`` (may be repeated) limits it to some, ``--corpus DIR`` adds real documents as seeds, ``--slow`` also
runs what takes over where a parser is too slow (recognition of images, of speech), ``--atheris`` lets libFuzzer's
coverage guide the pure Python parsers instead, in this process (`pip install atheris`).
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import copy
import gzip
import io
import json
import lzma
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from drystone.ingest.media import Choice, Reader, media_type, readers  # noqa: E402
from drystone.ingest.pool import Broken, Job, Pool  # noqa: E402
from drystone.records import Parsed  # noqa: E402
from drystone.records.place import KEYS, corners, parts  # noqa: E402
from drystone.settings import defaults  # noqa: E402
from tests.ingest import hostile_files  # noqa: E402

LARGEST = 1 << 20  # of a seed: small ones are mutated often
GROUP = 32
BLOCKS = {"heading", "paragraph", "list", "table", "code"}
UNTYPED = re.compile(r"could not read it \((\w+)\)")
TOKENS: Mapping[str, Sequence[bytes]] = {
    "any": (b"\0", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"%n%s", b"../", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\r", b"\n\n",
            b"\x1b[0m", b"-1", b"99999999999999999999", b"2147483648", b"1e309", b"NaN", b"\xe2\x80\xae", b"\xc2\x85", b"\xe2\x80\xa8"),
    "xml": (b"<", b"/>", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<!DOCTYPE r [", b"&amp;", b"&#0;", b"&#xD800;", b"&#x110000;", b"xml:space='preserve'",
            b" r:id='rId1'", b"<?xml version='1.0' encoding='utf-7'?>", b"val='-1'", b"='999999999'", b"rowspan='99999'", b"t='s'", b"r='ZZZ99'"),
    "pdf": (b"/Type /Page", b"/Kids [1 0 R]", b"/Parent 3 0 R", b"/Filter /FlateDecode", b"/Filter /LZWDecode", b"/DecodeParms << /Predictor 15 /Columns 99999 >>",
            b"<<", b">>", b"[", b"]", b"1 0 R", b"endobj", b"stream\n", b"endstream", b"/Length 0", b"/Encrypt 1 0 R", b"/ObjStm", b"/Count -1", b"/Rotate 90",
            b"/MediaBox [0 0 0 0]", b"BT", b"ET", b"/StructTreeRoot 2 0 R", b"/UserUnit 1e9", b"1e38 0 0 1e38 0 0 cm"),
    "mail": (b"\r\n--b\r\n", b"--b--", b"boundary=", b"boundary=\"\"", b"Content-Type: message/rfc822\r\n\r\n", b"Content-Transfer-Encoding: base64\r\n", b"charset=utf-7",
             b"charset=hex", b"=?utf-8?b?/w==?=", b"=?x?q?=00?=", b"filename*=utf-8''%00%ff", b"filename*0*=", b"\r\n ", b"Content-Type: multipart/mixed\r\n", b"name=\"../../x\"",
             b"From ", b"Date: Mon, 99 Foo 0000 99:99:99 +9999\r\n", b"Content-Disposition: attachment\r\n"),
    "text": (b"# ", b"- ", b"|-|-|\n", b"```", b"\\", b"{", b"}", b"[", b"](", b"![", b"\t", b"\"", b"\\u", b"\\'", b"\\bin9 ", b"\\u-1?", b"---\n", b"&lt;", b"<script>",
             b"BEGIN:VEVENT\n", b"END:VCARD\n", b"-->", b"::", b"&x", b"*x", b"!!python/object:os.system ", b"<<: *x", b"\\begin{tabular}{ll}", b"|===\n", b"+---+\n"),
}  # fmt: skip


VALUES = (
    "",
    "-1",
    "0",
    "1",
    "true",
    "99999999999",
    "1e308",
    "NaN",
    "A1",
    "ZZZZ1",
    "A0",
    "../x",
    "rId1",
    "#",
    "x y",
    "\u202e\u0301",
)
SPACES = re.compile(r"xmlns:(\w+)\s*=\s*[\"']([^\"']+)")


# -- mutations ------------------------------------------------------------------------------------------
class Mutator:
    """Changes documents with knowledge of what they are; every draw comes from one seed."""

    def __init__(self, seed: int, others: Sequence[bytes]) -> None:
        self.rng, self.others = random.Random(seed), others

    def __call__(self, data: bytes, depth: int = 0) -> bytes:
        """Usually one to four changes, sometimes inside what is packed."""
        inside = self._inside(data)
        if inside is not None and depth < 3 and self.rng.random() < 0.75:
            try:
                return inside(data, depth)
            except (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError,
                    NotImplementedError, RuntimeError):  # fmt: skip
                return self._flip(data)  # it was damaged already
        steps = [
            self._flip,
            self._cut,
            self._swap,
            self._twice,
            self._drop,
            self._token,
            self._number,
            self._fill,
            self._splice,
        ]
        family = _family(data)
        if family == "xml":
            steps += [self._tags] * 4 + [self._elements] * 12
        elif family == "json":
            steps += [self._values] * 8
        elif family == "pdf":
            steps += [self._objects] * 4
        elif family == "mail":
            steps += [self._lines] * 3
        elif data.startswith(b"\xd0\xcf\x11\xe0"):
            steps += [self._sectors] * 4
        else:
            steps += [self._lines] * 2
        for _ in range(self.rng.choice((1, 1, 1, 2, 3, 4))):
            data = self.rng.choice(steps)(data)
        return data[: 4 * LARGEST]

    def _inside(self, data: bytes) -> Callable[[bytes, int], bytes] | None:
        for magic, change in ((b"PK\x03\x04", self._zip), (b"\x1f\x8b", self._gzip), (b"BZh", self._bzip),
                              (b"\xfd7zXZ", self._xz)):  # fmt: skip
            if data.startswith(magic):
                return change
        return self._tar if data[257:262] == b"ustar" else None

    def _zip(self, data: bytes, depth: int) -> bytes:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            members = [
                (info.filename, file.read(info)) for info in file.infolist()[:200] if info.file_size < 4 * LARGEST
            ]
        for _ in range(self.rng.choice((1, 1, 2))):
            at = self.rng.randrange(len(members))
            name, content = members[at]
            change = self.rng.random()
            if change < 0.8:
                members[at] = (name, self(content, depth + 1))
            elif change < 0.87:
                del members[at]
            elif change < 0.93:
                members.append((name, content))
            else:
                members[at] = (
                    self.rng.choice(("../x", "/x", name.upper(), name + "/", "x" * 300, members[0][0])),
                    content,
                )
            if not members:
                break
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members:
                info = zipfile.ZipInfo(name or "x")
                info.compress_type = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
                file.writestr(info, content)
        return out.getvalue()

    def _tar(self, data: bytes, depth: int) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=io.BytesIO(data)) as file, tarfile.open(fileobj=out, mode="w") as made:
            for info in file.getmembers()[:100]:
                member = file.extractfile(info) if info.isreg() else None
                content = member.read() if member else b""
                if self.rng.random() < 0.5:
                    content = self(content, depth + 1)
                if self.rng.random() < 0.2:
                    info.type = self.rng.choice(
                        (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, b"S", b"x", b"g")
                    )
                info.size = len(content)
                made.addfile(info, io.BytesIO(content))
        return out.getvalue()

    def _gzip(self, data: bytes, depth: int) -> bytes:
        return gzip.compress(self(zlib.decompressobj(31).decompress(data, 8 * LARGEST), depth + 1), mtime=0)

    def _bzip(self, data: bytes, depth: int) -> bytes:
        return bz2.compress(self(bz2.BZ2Decompressor().decompress(data, 8 * LARGEST), depth + 1))

    def _xz(self, data: bytes, depth: int) -> bytes:
        return lzma.compress(self(lzma.LZMADecompressor().decompress(data, 8 * LARGEST), depth + 1))

    def _span(self, data: bytes, most: int = 256) -> tuple[int, int]:
        start = self.rng.randrange(len(data) + 1)
        return start, min(len(data), start + self.rng.choice((1, 2, 4, 16, self.rng.randrange(1, most))))

    def _flip(self, data: bytes) -> bytes:
        hurt = bytearray(data or b"x")
        for _ in range(self.rng.choice((1, 1, 2, 8, max(1, len(hurt) // 200)))):
            at = self.rng.randrange(len(hurt))
            hurt[at] = self.rng.choice((hurt[at] ^ (1 << self.rng.randrange(8)), 0, 0xFF, self.rng.randrange(256)))
        return bytes(hurt)

    def _cut(self, data: bytes) -> bytes:
        at = self.rng.randrange(len(data) + 1)
        return data[:at] if self.rng.random() < 0.8 else data[at:]

    def _swap(self, data: bytes) -> bytes:
        a, b = sorted((self._span(data), self._span(data)))
        if a[1] > b[0]:
            return self._flip(data)
        return data[: a[0]] + data[b[0] : b[1]] + data[a[1] : b[0]] + data[a[0] : a[1]] + data[b[1] :]

    def _twice(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:end] + data[start:end] * self.rng.choice((1, 2, 10, 100, 3000)) + data[end:]

    def _drop(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + data[end:]

    def _token(self, data: bytes) -> bytes:
        start, end = self._span(data)
        chosen = self.rng.choice((*TOKENS["any"], *TOKENS.get(_family(data), TOKENS["text"]) * 2))
        return data[:start] + chosen + data[start if self.rng.random() < 0.6 else end :]

    def _number(self, data: bytes) -> bytes:
        found = list(re.finditer(rb"-?\d+", data[:LARGEST]))
        if not found:
            return self._flip(data)
        one = self.rng.choice(found)
        new = self.rng.choice((b"0", b"-1", b"1", b"255", b"65536", b"2147483647", b"4294967296", b"9" * 30, b"0.1", b"1e400",
                               b"%d" % (int(one.group()[:18]) + 1)))  # fmt: skip
        return data[: one.start()] + new + data[one.end() :]

    def _fill(self, data: bytes) -> bytes:
        start, end = self._span(data)
        return data[:start] + self.rng.choice((b"\0", b"\xff", b" ", b"A", b"\x80")) * (end - start) + data[end:]

    def _splice(self, data: bytes) -> bytes:
        other = self.rng.choice(self.others)
        start, end = self._span(other, 4096)
        at = self.rng.randrange(len(data) + 1)
        return data[:at] + other[start:end] + data[at:]

    def _tags(self, data: bytes) -> bytes:
        found = list(re.finditer(rb"<[^<>]*>", data[:LARGEST]))
        if not found:
            return self._token(data)
        one, two = self.rng.choice(found), self.rng.choice(found)
        change = self.rng.randrange(6)
        if change == 0:
            return data[: one.start()] + data[one.end() :]
        if change == 1:
            return data[: one.start()] + two.group() + data[one.end() :]
        if change == 2:
            return data[: one.end()] + one.group() * self.rng.choice((1, 5, 500)) + data[one.end() :]
        if change == 3:
            a, b = sorted((one.start(), two.end()))
            return data[:b] + data[a:b] * self.rng.choice((1, 2, 20)) + data[b:]
        value = re.search(rb"=\s*(['\"])(.*?)\1", one.group())
        if value is None:
            return data[: one.start()] + one.group()[:-1] + self.rng.choice(TOKENS["xml"]) + b">" + data[one.end() :]
        new = self.rng.choice(
            (b"", b"-1", b"0", b"99999999999", b"x" * 1000, b"A0", b"1e9", b"true", b"../../x", value.group(2)[::-1])
        )
        return data[: one.start() + value.start(2)] + new + data[one.start() + value.end(2) :]

    def _elements(self, data: bytes) -> bytes:
        """Another tree that is still well-formed: most parsers refuse what is not before they look at it."""
        if b"<!" in data[:4096]:
            return self._tags(data)
        try:
            root = ElementTree.fromstring(data)
        except (ElementTree.ParseError, ValueError, LookupError):
            return self._tags(data)
        for _ in range(self.rng.choice((1, 2, 5))):
            nodes = list(root.iter())
            one, two = self.rng.choice(nodes), self.rng.choice(nodes)
            change = self.rng.randrange(8)
            if change == 0 and len(one):
                del one[self.rng.randrange(len(one))]
            elif change == 1 and len(two) < 50:
                one.append(copy.deepcopy(two))
            elif change == 2 and len(one):
                one[:] = [*one, *one] * self.rng.choice((1, 2, 30))
            elif change == 3:
                one.tag = two.tag
            elif change == 4 and one.attrib:
                one.attrib[self.rng.choice(list(one.attrib))] = self.rng.choice(VALUES)
            elif change == 5:
                one.attrib.update(two.attrib)
            elif change == 6:
                one.text = self.rng.choice((*VALUES, two.text or "", "\u2028", "x" * 5000))
            elif change == 7 and one.attrib:
                one.attrib.pop(self.rng.choice(list(one.attrib)))
        for prefix, space in SPACES.findall(data[:4096].decode("utf-8", "replace")):
            with contextlib.suppress(ValueError):
                ElementTree.register_namespace(prefix, space)
        with contextlib.suppress(RecursionError):
            return ElementTree.tostring(root)
        return data

    def _values(self, data: bytes) -> bytes:
        """Another JSON value of the same kind."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return self._token(data)
        spots: list[tuple[Any, Any]] = []
        stack = [value]
        while stack and len(spots) < 1000:
            held = stack.pop()
            keys = list(held) if isinstance(held, dict) else range(len(held)) if isinstance(held, list) else ()
            spots += [(held, key) for key in keys]
            stack += [held[key] for key in keys]
        for _ in range(self.rng.choice((1, 1, 3))):
            if not spots:
                break
            (holder, key), (other, named) = self.rng.choice(spots), self.rng.choice(spots)
            try:
                holder[key] = self.rng.choice(
                    (
                        None,
                        True,
                        -1,
                        1e308,
                        "",
                        [],
                        {},
                        [[]],
                        {"": None},
                        "\ud800",
                        *VALUES,
                        copy.deepcopy(other[named]),
                    )
                )
            except (KeyError, IndexError, RecursionError):
                continue
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(value).encode()
        return data

    def _objects(self, data: bytes) -> bytes:
        found = list(re.finditer(rb"\d+ \d+ obj.*?endobj", data[: 4 * LARGEST], re.S))
        if len(found) < 2:
            return self._token(data)
        one, two = self.rng.choice(found), self.rng.choice(found)
        change = self.rng.randrange(4)
        if change == 0:
            return data[: one.start()] + two.group() + data[one.end() :]
        if change == 1:
            return data[: one.start()] + data[one.end() :]
        body = one.group()
        if change == 2:  # references go elsewhere
            body = re.sub(
                rb"\d+ 0 R",
                lambda m: b"%d 0 R" % self.rng.randrange(len(found) + 2) if self.rng.random() < 0.5 else m.group(),
                body,
            )
        else:
            body = self._token(self._number(body))
        return data[: one.start()] + body + data[one.end() :]

    def _lines(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        a, b = self.rng.randrange(len(lines)), self.rng.randrange(len(lines))
        change = self.rng.randrange(4)
        if change == 0:
            lines[a], lines[b] = lines[b], lines[a]
        elif change == 1:
            lines[a:a] = [lines[b]] * self.rng.choice((1, 3, 300))
        elif change == 2:
            del lines[a]
        else:
            lines[a] = lines[a] + self.rng.choice((b"", b" ", b"\r")) + lines[b]
        return b"\n".join(lines)

    def _sectors(self, data: bytes) -> bytes:
        hurt = bytearray(data)
        at = self.rng.randrange(max(1, len(hurt) // 4)) * 4
        if self.rng.random() < 0.3 and len(hurt) >= 1536:
            a, b = (self.rng.randrange(len(hurt) // 512) * 512 for _ in range(2))
            hurt[a : a + 512], hurt[b : b + 512] = hurt[b : b + 512], hurt[a : a + 512]
        else:
            near = self.rng.choice((at, 0x2C, 0x30, 0x3C, 0x44, 0x4C, 512 + at % 512, 1024 + at % 512))
            hurt[near : near + 4] = self.rng.choice(
                (0, 1, 2, 0xFFFFFFFE, 0xFFFFFFFF, 0x7FFFFFFF, self.rng.randrange(64))
            ).to_bytes(4, "little")
        return bytes(hurt)


def _family(data: bytes) -> str:
    head = data[:300].lstrip()
    if head.startswith(b"%PDF"):
        return "pdf"
    if head.startswith(b"<"):
        return "xml"
    if head[:1] in (b"{", b"[") and not head.startswith(b"{\\"):
        return "json"
    return "mail" if re.match(rb"(?:From |[\w-]+: )", head) else "text"


# -- running --------------------------------------------------------------------------------------------
@dataclass
class Finding:
    parser: str
    kind: str
    detail: str
    name: str
    data: bytes
    media_type: str
    count: int = 1
    file: str = ""


@dataclass
class Tally:
    documents: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


def seeds(corpus: Path | None, wanted: Sequence[str]) -> dict[str, list[tuple[str, str, bytes]]]:
    """By parser: names, media types and bytes."""
    choice, found = Choice({}, "fuzz"), defaultdict[str, list[tuple[str, str, bytes]]](list)

    def take(name: str, data: bytes, few: dict[str, int] | None = None) -> None:
        reader, kind = choice.of(name, media_type(name), data)
        if reader is None or (wanted and reader.name not in wanted) or len(found[reader.name]) >= 150:
            return
        if few is not None:
            few[reader.name] = few.get(reader.name, 4) - 1
            if few[reader.name] < 0:
                return
        found[reader.name].append((name, kind, data))

    for name, data in hostile_files.good().items():
        take(name, data)
    row = json.dumps({"title": "t", "text": "# A\n\n<p>text</p>", "type": "text/markdown"})
    if not wanted or "row" in wanted:
        kinds = ("text/markdown", "text/html", "text/plain")
        found["row"] = [
            ("row", "application/vnd.drystone.row+json", row.replace("text/markdown", kind).encode()) for kind in kinds
        ]
    if corpus is not None:
        files = sorted(p for p in corpus.rglob("*") if p.is_file() and 0 < p.stat().st_size < LARGEST)
        random.Random(0).shuffle(files)
        for path in files[:5000]:
            take(path.name, path.read_bytes())
    few = {name: max(4, len(group) // 3) for name, group in found.items()}  # most of them are refused at once
    for group in hostile_files.SMALL.values():
        for each in group():
            made = each.build()
            if 0 < len(made) < LARGEST // 8:
                take(each.name, made, few)
    return {name: found[name] for name in sorted(found) if found[name]}


def wrong(parsed: Parsed) -> str:
    """What a text breaks of what every parser must hold, or nothing."""
    try:
        parsed.text.encode()
        parsed.title.encode()
    except UnicodeEncodeError:
        return "text is no Unicode"
    if "\r" in parsed.text:
        return "line ends are not \\n"
    at = 0
    for block in parsed.blocks:
        if block.kind not in BLOCKS or not at <= block.start < block.end <= len(parsed.text):
            return "blocks do not ascend inside the text"
        if block.page is not None and block.page < 1:
            return "pages do not count from 1"
        if block.place:
            told = parts(block.place)
            if not told or set(told) - set(KEYS):
                return "a place does not parse"
            if "cells" in told:
                try:
                    corners(told["cells"])
                except ValueError:
                    return "cells do not parse"
        at = block.end
    return ""


class Fuzz:
    def __init__(self, options: argparse.Namespace, out: Path) -> None:
        self.options, self.out = options, out
        settings = defaults(out, ingest__timeout_s=options.timeout, ingest__workers=options.workers, ingest__memory_mb=options.memory,
                            ingest__slow_timeout_s=options.timeout * 12, ingest__slow_workers=1)  # fmt: skip
        self.pool, self.slow = Pool(settings), Pool(settings, slow=True)
        self.findings: dict[tuple[str, str, str], Finding] = {}
        self.tallies: dict[str, Tally] = defaultdict(Tally)

    def run(self) -> None:
        choice = readers()
        found = seeds(self.options.corpus, self.options.parser)
        everything = [data for group in found.values() for _, _, data in group]
        mutators = {name: Mutator(self.options.seed * 1000 + n, everything) for n, name in enumerate(found)}
        deadline, turn, names = time.monotonic() + self.options.seconds, 0, list(found)
        for name in names:  # as they are, first
            self.batch(choice[name], [(n, k, d) for n, k, d in found[name]])
        while time.monotonic() < deadline and names:
            name = min(names, key=lambda n: self.tallies[n].seconds)  # the same time for each
            change, group = mutators[name], []
            for _ in range(GROUP):
                title, kind, data = change.rng.choice(found[name])
                group.append((title, kind, change(data)))
            self.batch(choice[name], group)
            turn += 1

    def batch(self, reader: Reader, group: Sequence[tuple[str, str, bytes]]) -> None:
        start = time.monotonic()
        jobs = [Job(reader.target, name, kind, data) for name, kind, data in group]
        answers = self.lane(reader).parse(jobs)
        later = [n for n, a in enumerate(answers) if isinstance(a, Broken) and a.kind == "slow"]
        if self.options.slow and reader.slow:
            for n, answer in zip(later, self.slow.parse([Job(reader.slow, *group[n]) for n in later]), strict=True):
                answers[n] = answer
        tally = self.tallies[reader.name]
        tally.documents += len(group)
        tally.seconds += time.monotonic() - start
        for (name, kind, data), answer in zip(group, answers, strict=True):
            tally.outcomes[answer.kind if isinstance(answer, Broken) else "read"] += 1
            bad = judge(answer)
            if bad:
                self.keep(reader, name, kind, data, *bad)

    def lane(self, reader: Reader) -> Pool:
        """Where the ingestion would read it."""
        return self.slow if reader.slow == reader.target else self.pool

    def keep(self, reader: Reader, name: str, media: str, data: bytes, kind: str, detail: str) -> None:
        seen = sum(f.count for f in self.findings.values() if (f.parser, f.kind) == (reader.name, kind))
        if seen < 60:  # then the place no longer matters
            detail += trace(reader.target, name, media, data, self.options.timeout)
        known = self.findings.get((reader.name, kind, detail))
        if known is not None:
            known.count += 1
            return
        small = self.minimise(reader, name, media, data, kind, detail)
        file = (
            self.out
            / f"{reader.name}-{kind}-{blake2b(small, digest_size=5).hexdigest()}-{re.sub(r'[^A-Za-z0-9.]', '_', name)[-40:]}"
        )
        file.write_bytes(small)
        self.findings[reader.name, kind, detail] = Finding(
            reader.name, kind, detail, name, small, media, file=str(file)
        )
        print(
            f"{reader.name}: {kind} {detail} ({len(data)} -> {len(small)} bytes): {file.name}",
            file=sys.stderr,
            flush=True,
        )

    def minimise(self, reader: Reader, name: str, media: str, data: bytes, kind: str, detail: str) -> bytes:
        """Pieces are taken out as long as the same thing happens; a bounded number of tries."""
        tries, until, size = 150 if kind not in ("timeout", "memory") else 12, time.monotonic() + 20, len(data) // 2
        while size >= 1 and tries > 0:
            at, shrunk = 0, False
            while at < len(data) and tries > 0 and time.monotonic() < until:
                less = data[:at] + data[at + size :]
                tries -= 1
                told = judge(self.lane(reader).parse([Job(reader.target, name, media, less)])[0])
                if told and told[0] == kind and detail.startswith(told[1]):
                    data, shrunk = less, True
                else:
                    at += size
            if time.monotonic() >= until:
                break
            size = size // 2 if not shrunk or size > len(data) else size
        return data

    def summary(self) -> dict[str, object]:
        done = sum(t.documents for t in self.tallies.values())
        spent = sum(t.seconds for t in self.tallies.values())
        return {
            "documents": done, "per_second": round(done / max(spent, 1e-9), 1), "seed": self.options.seed, "out": str(self.out),
            "parsers": {name: {"documents": t.documents, "per_second": round(t.documents / max(t.seconds, 1e-9), 1), **dict(t.outcomes.most_common())}
                        for name, t in sorted(self.tallies.items())},
            "findings": [{"parser": f.parser, "kind": f.kind, "detail": f.detail, "count": f.count, "bytes": len(f.data), "file": f.file}
                         for f in sorted(self.findings.values(), key=lambda f: (f.parser, f.kind, -f.count))],
        }  # fmt: skip

    def close(self) -> None:
        self.pool.close()
        self.slow.close()


def judge(answer: Parsed | Broken) -> tuple[str, str] | None:
    """Kind and detail of a finding."""
    if isinstance(answer, Parsed):
        broken = wrong(answer)
        return ("invalid", broken) if broken else None
    if answer.kind in ("crashed", "timeout", "memory"):
        return answer.kind, answer.reason if answer.kind == "crashed" else ""
    untyped = UNTYPED.search(answer.reason)
    return ("untyped", untyped.group(1)) if untyped else None


TRACE = """
import faulthandler, importlib, sys, traceback, resource
from inspect import signature
from drystone.records import Reading
target, name, media, path, seconds = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
faulthandler.enable()
faulthandler.dump_traceback_later(float(seconds), exit=True)
module, _, attribute = target.partition(":")
parser = getattr(importlib.import_module(module), attribute)()
more = {"reading": Reading()} if "reading" in signature(parser.parse).parameters else {}
try:
    parser.parse(open(path, "rb").read(), name=name, media_type=media, **more)
except BaseException:
    traceback.print_exc()
"""


def trace(target: str, name: str, media: str, data: bytes, seconds: float) -> str:
    """Where it happens: the innermost line of ours on the stack, in a process of its own."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        done = subprocess.run([sys.executable, "-c", TRACE, target, name.replace("\0", ""), media, file.name, str(seconds)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=seconds + 60, check=False)  # fmt: skip
    lines = re.findall(
        r'File "[^"]*/(drystone/[^"]+)", line (\d+)(?:,)? in (\w+)', done.stderr.decode("utf-8", "replace")
    )
    if not lines:
        return ""
    file_, line, function = lines[-1] if b"Traceback" in done.stderr else lines[0]
    return f" at {file_}:{line} {function}"


def atheris_run(options: argparse.Namespace) -> None:
    """libFuzzer's own loop over the parsers that are named (or all), in this process: no worker stands around it."""
    try:
        import atheris  # type: ignore[import-not-found]
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    from drystone.errors import ParseFailed
    from drystone.plugins import load

    found = seeds(options.corpus, options.parser)
    with atheris.instrument_imports(include=["drystone.ingest.parsers"]):
        parsers = {name: load("parsers", name)() for name in found}
    folder = Path(tempfile.mkdtemp(prefix="atheris-"))
    names = sorted(parsers)
    for at, name in enumerate(names):
        for n, (_, _, data) in enumerate(found[name]):
            (folder / f"{name}-{n}").write_bytes(bytes([at]) + data)

    def one(data: bytes) -> None:
        if len(data) < 2:
            return
        name = names[data[0] % len(names)]
        with contextlib.suppress(ParseFailed, MemoryError):
            parsed = parsers[name].parse(data[1:], name="fuzz", media_type=parsers[name].media_types[0])
            assert not wrong(parsed), wrong(parsed)

    atheris.Setup([sys.argv[0], f"-max_total_time={int(options.seconds)}", "-timeout=20", "-rss_limit_mb=4096",
                   f"-seed={options.seed}", f"-artifact_prefix={options.out or folder}/", str(folder)], one)  # fmt: skip
    atheris.Fuzz()


@contextlib.contextmanager
def folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        if given.resolve().is_relative_to(ROOT):
            sys.exit("--out lies in the repository; findings are never committed")
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    made = Path(tempfile.mkdtemp(prefix="fuzz-"))
    yield made
    if not os.listdir(made):
        shutil.rmtree(made)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parser", action="append", default=[])
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds for one document")
    parser.add_argument("--memory", type=int, default=1024, help="MB of one worker")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--atheris", action="store_true")
    options = parser.parse_args(argv)
    unknown = set(options.parser) - set(readers())
    if unknown:
        parser.error(f"no parser {', '.join(sorted(unknown))}; there are: {', '.join(readers())}")
    warnings.simplefilter("ignore")  # zipfile's, about the names that we double on purpose
    if options.atheris:
        atheris_run(options)
        return 0
    with folder(options.out) as out:
        fuzz = Fuzz(options, out)
        try:
            fuzz.run()
        except KeyboardInterrupt:
            print("stopped early", file=sys.stderr)
        finally:
            fuzz.close()
        print(json.dumps(fuzz.summary(), indent=1))
        return 1 if fuzz.findings else 0


if __name__ == "__main__":
    sys.exit(main())
