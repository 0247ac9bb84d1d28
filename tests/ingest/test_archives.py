"""Archives: every member a part, or a note; bombs, links and encrypted members."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import pytest

from drystone.errors import ParseFailed
from drystone.ingest.parsers.archive import ArchiveParser
from drystone.ingest.parsers.names import LONGEST, Names
from drystone.records import Parsed, Reading
from drystone.testing import check_parser
from tests.ingest.build_mail import locked_zip, tarred, zipped

ZIP, TAR, GZ = "application/zip", "application/x-tar", "application/gzip"


def read(data: bytes, kind: str = ZIP, name: str = "x.zip", **reading: object) -> Parsed:
    return ArchiveParser().parse(data, name=name, media_type=kind, reading=Reading(**reading))  # type: ignore[arg-type]


def inside(parsed: Parsed) -> dict[str, bytes]:
    return {part.name: part.data for part in parsed.parts}


def refused(data: bytes, kind: str = ZIP, **reading: object) -> str:
    with pytest.raises(ParseFailed) as error:
        read(data, kind, **reading)
    return error.value.kind


def test_it_keeps_its_promises() -> None:
    check_parser(ArchiveParser(), [zipped({"a/b.txt": b"one", "c.md": b"# two"})])


def test_members_are_parts_and_their_names_are_the_text() -> None:
    parsed = read(zipped({"a/b.txt": b"one", "a/": b"", "c.bin": b"x" * 2500}))
    assert inside(parsed) == {"a/b.txt": b"one", "c.bin": b"x" * 2500}
    assert parsed.text == "a/b.txt (3 bytes)\nc.bin (2.5 kB)"
    assert [b.kind for b in parsed.blocks] == ["list", "list"] and parsed.notes == ()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_tar_in_any_compression(pack: Callable[[bytes], bytes]) -> None:
    data = pack(tarred({"./a/b.txt": b"one", "c.txt": b"two"}))
    for kind in (TAR, GZ):
        assert inside(read(data, kind, "x.tar.gz")) == {"a/b.txt": b"one", "c.txt": b"two"}


@pytest.mark.parametrize(
    ("pack", "name", "member"),
    [(gzip.compress, "notes/x.csv.gz", "x.csv"), (bz2.compress, "x.csv.BZ2", "x.csv"), (lzma.compress, "x.xz", "x"),
     (gzip.compress, "archive", "content")],
)  # fmt: skip
def test_a_single_file_keeps_its_name(pack: Callable[[bytes], bytes], name: str, member: str) -> None:
    assert inside(read(pack(b"a,b\n"), GZ, name)) == {member: b"a,b\n"}


def test_gzip_remembers_a_name_and_may_have_several_members() -> None:
    out = io.BytesIO()
    with gzip.GzipFile("report.txt", "wb", fileobj=out, mtime=0) as file:
        file.write(b"one ")
    assert inside(read(out.getvalue() + gzip.compress(b"two"), GZ, "blob")) == {"report.txt": b"one two"}


def test_what_leads_out_is_left_out() -> None:
    odd = {
        "../up.txt": b"1",
        "/root.txt": b"2",
        "C:\\x.txt": b"3",
        "a/../../b.txt": b"4",
        "..\\w.txt": b"5",
        "ok.txt": b"6",
    }
    for parsed in (read(zipped(odd)), read(tarred(odd), TAR)):
        assert inside(parsed) == {"ok.txt": b"6"}
        assert parsed.notes == ("members that lead out of the archive left out: 5",)


def test_links_and_devices_are_not_followed() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"link{kind!r}")
            member.type, member.linkname = kind, "/etc/passwd"
            packed.addfile(member)
        packed.addfile(tarfile.TarInfo("empty.txt"))
    parsed = read(out.getvalue(), TAR)
    assert inside(parsed) == {"empty.txt": b""}
    assert parsed.notes == ("links left out: 2", "devices left out: 2")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zip:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zip.writestr(link, "/etc/passwd")
    assert read(out.getvalue()).notes == ("links left out: 1",)


def test_hidden_members_are_left_out() -> None:
    parsed = read(zipped({"__MACOSX/._a.txt": b"1", ".git/config": b"2", "a/Thumbs.db": b"3", "a.txt": b"4"}))
    assert inside(parsed) == {"a.txt": b"4"} and parsed.notes == ("hidden members left out: 3",)


def test_names_are_made_unlike() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed, pytest.warns(UserWarning):
        for text in ("one", "two", "three"):
            packed.writestr("a.txt", text)
    assert inside(read(out.getvalue())) == {"a.txt": b"one", "a (2).txt": b"two", "a (3).txt": b"three"}
    names = Names()
    assert len(names.path("x" * 900 + ".txt")) <= LONGEST and names.path("a\nb//./c") == "a b/c"
    assert (
        names.file("../../etc/passwd") == "passwd"
        and names.file("..") == "part"
        and names.file("C:\\a\\b.doc") == "b.doc"
    )


@pytest.mark.parametrize("encoding", ["cp932", "cp1251", "utf-8", "cp850"])
def test_names_in_the_code_page_of_who_packed(encoding: str) -> None:
    words = {
        "cp932": "見積書と契約",
        "cp1251": "Договор поставки",
        "utf-8": "Übersicht",
        "cp850": "Geschäftsführer für Brötchen",
    }
    name = words[encoding] + ".txt"
    raw = name.encode(encoding)
    data = zipped({"n" * len(raw): b"x"}).replace(b"n" * len(raw), raw)
    assert list(inside(read(data))) == [name]


def test_bombs_are_not_unfolded() -> None:
    assert refused(zipped({"a": bytes(40 << 20)})) == "expansion"
    assert refused(gzip.compress(bytes(40 << 20)), GZ) == "expansion"
    assert refused(gzip.compress(tarred({"a": bytes(40 << 20)})), TAR) == "expansion"
    assert refused(zipped({"a": b"x" * 1000}), unpacked=999) == "expansion"
    assert refused(zipped({str(n): b"" for n in range(4)}), parts=3) == "expansion"


def test_members_that_share_bytes_are_a_bomb() -> None:
    data = zipped({"aa": b"x" * 1000, "bb": b"y" * 1000})
    at = data.rindex(b"PK\x01\x02")
    assert refused(data[: at + 42] + struct.pack("<I", 0) + data[at + 46 :]) == "expansion"


def test_a_sparse_tar_counts_what_it_unfolds_to() -> None:
    # GNU sparse: one piece of data, then a hole up to its real size
    member = tarfile.TarInfo("holes.bin")
    member.size, member.type = 512, tarfile.GNUTYPE_SPARSE
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"%011o\0%011o\0" % (0, 512)
    head[483:495] = b"%011o\0" % (60 << 30)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    assert refused(bytes(head) + b"x" * 512 + bytes(1024), TAR) == "expansion"


@pytest.mark.parametrize("aes", [0, 1, 2, 3])
def test_encrypted_members(aes: int) -> None:
    data = locked_zip({"a.txt": b"secret " * 50}, "pässword", aes)
    assert refused(data) == "encrypted"
    assert refused(data, passwords=("wrong", "other")) == "wrong_password"
    assert inside(read(data, passwords=("wrong", "pässword"))) == {"a.txt": b"secret " * 50}


def test_an_archive_that_is_encrypted_in_part() -> None:
    parsed = read(locked_zip({"a.txt": b"secret"}, "p", 3, plain={"b.txt": b"open"}))
    assert inside(parsed) == {"a.txt": b"", "b.txt": b"open"}
    assert [(part.name, part.kind) for part in parsed.parts if part.kind] == [("a.txt", "encrypted")]
    assert "a.txt (encrypted)" in parsed.text


def test_what_is_damaged_costs_no_more_than_itself() -> None:
    data = zipped({"a.txt": b"first", "b.txt": b"second"}, zipfile.ZIP_STORED).replace(b"first", b"fIrst")
    parsed = read(data)
    assert inside(parsed) == {"a.txt": b"", "b.txt": b"second"}
    assert [(part.name, part.kind) for part in parsed.parts if part.kind] == [("a.txt", "malformed")]
    cut = tarred({"a.txt": b"x" * 5000, "b.txt": b"y" * 5000})[:9000]
    parsed = read(cut, TAR)
    assert list(inside(parsed)) == ["a.txt"] and parsed.notes == ("archive damaged, read up to member: 1",)
    for junk, kind in (
        (b"PK\x03\x04 junk", ZIP),
        (b"\x1f\x8b\x08 junk", GZ),
        (b"junk", TAR),
        (zipped({"a": b"b"})[:-30], ZIP),
    ):
        assert refused(junk, kind) == "malformed"


def test_what_is_not_read_says_so() -> None:
    assert refused(b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed") == "unsupported"
    assert refused(b"Rar!\x1a\x07", "application/vnd.rar") == "unsupported"
    odd = bytearray(zipped({"a.txt": b"x"}))
    for at, offset in ((0, 8), (odd.rindex(b"PK\x01\x02"), 10)):
        odd[at + offset : at + offset + 2] = struct.pack("<H", 93)  # Zstandard
    assert refused(bytes(odd)) == "unsupported"


def test_a_gzip_that_holds_itself_is_one_part() -> None:
    nested = gzip.compress(gzip.compress(b"x"))
    assert zlib.decompress(inside(read(nested, GZ, "a.gz.gz"))["a.gz"], 31) == b"x"


def test_a_name_in_no_known_encoding_costs_nothing() -> None:
    raw = b"\xe1\xab\xe3\xa6\xa1\xa0\x94\x8d\x9194.txt"
    data = zipped({"n" * len(raw): b"x"}).replace(b"n" * len(raw), raw)
    parsed = read(data)
    assert list(inside(parsed).values()) == [b"x"] and "names of members" in parsed.notes[0]


def test_a_version_of_zip_that_nobody_reads() -> None:
    data = bytearray(zipped({"a.txt": b"first"}))
    at = data.index(b"PK\x01\x02")
    data[at + 6] = 84
    assert refused(bytes(data)) == "unsupported"
