"""A folder as a source: what counts, what does not, odd names, links, permissions of the file system."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drystone.errors import SettingsError, SourceUnavailable
from drystone.ingest import posix
from drystone.ingest.files import FilesSource
from drystone.ingest.globs import matcher
from drystone.records import Failure, Item
from drystone.testing import check_source
from tests.ingest.build import config, settings


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "documents").mkdir()
    yield tmp_path / "documents"


def source(root: Path, **more: Any) -> FilesSource:
    return FilesSource(config(**more), settings(root.parent))


def write(root: Path, name: str, data: bytes | str = "text") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def listed(root: Path, **more: Any) -> dict[str, Item]:
    return {i.id: i for i in source(root, **more).list() if isinstance(i, Item)}


def failures(root: Path, **more: Any) -> dict[str, str]:
    return {f.document: f.kind for f in source(root, **more).list() if isinstance(f, Failure)}


def test_it_is_a_source(root: Path) -> None:
    for name in ("a.md", "b/c d.txt", 'b/it\'s "q".html', "new\nline.md", "50%.md", "ü.md"):
        write(root, name)
    os.symlink(root / "a.md", root / "link.md")
    check_source(source(root))


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("**", ["a", "a/b/c.md"], []),
        ("hr/**", ["hr/a", "hr/b/c"], ["hrx/a", "x/hr/a", "hr"]),
        ("**/secret.md", ["secret.md", "a/b/secret.md"], ["xsecret.md"]),
        ("*.md", ["a.md"], ["a/b.md", "a.mdx"]),
        ("hr/*.m?", ["hr/a.md"], ["hr/a/b.md", "hr/a.mdx"]),
        ("[!a]*", ["b"], ["a", "b/c"]),
        ("a.b", ["a.b"], ["axb"]),
        ("hr/", ["hr/a"], ["hr"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    assert all(matcher(pattern).match(path) for path in yes)
    assert not any(matcher(pattern).match(path) for path in no)


def test_hidden_state_and_labels_are_no_documents(root: Path) -> None:
    for name in (".hidden", ".git/config", "a.md", "a.md.label.toml", "x/.y/z.md"):
        write(root, name, 'readers = ["everyone"]')
    items = listed(root)
    assert list(items) == ["a.md"] and items["a.md"].beside == {"readers": ["everyone"]}
    whole = FilesSource(config(path="."), settings(root.parent, project__state="kept"))
    write(root.parent, "kept/ledger.db")
    write(root.parent, "drystone.toml")
    write(root.parent, "users.toml")
    write(root.parent, "policies/a.cedar")
    assert [i.id for i in whole.list() if isinstance(i, Item)] == ["documents/a.md"]


def test_include_and_exclude(root: Path) -> None:
    for name in ("a.md", "b.txt", "drafts/c.md", "d/drafts/e.md"):
        write(root, name)
    assert set(listed(root, include=["**/*.md"], exclude=["**/drafts/**"])) == {"a.md"}


def test_odd_names_have_one_rule_and_can_be_read(root: Path) -> None:
    names = {b"plain.md": "plain.md", b"\xff\xfe.md": "%FF%FE.md", b"a\nb.md": "a%0Ab.md", b"5%\n.md": "5%25%0A.md",
             b"100%.md": "100%.md", "d\u00fc r/x y.md".encode(): "dü r/x y.md", b"d\xff/in.md": "d%FF/in.md"}  # fmt: skip
    for name in names:
        path = os.fsencode(root) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(name)
    made = source(root)
    items = {i.id: i for i in made.list() if isinstance(i, Item)}
    assert {items[shown].id: made.read(items[shown]) for shown in names.values()} == {s: n for n, s in names.items()}


def test_links_never_leave_the_folder(root: Path, tmp_path: Path) -> None:
    secret = write(tmp_path, "secret.md", "secret")
    write(root, "a.md")
    write(root, "..data/k.md", "kubernetes")
    write(root, ".drystone-like/x.md")
    os.symlink(secret, root / "out.md")
    os.symlink(tmp_path, root / "up")
    os.symlink("a.md", root / "again.md")
    os.symlink("..data/k.md", root / "k.md")
    os.symlink("nothing", root / "broken.md")
    made = source(root)
    items = {i.id: i for i in made.list() if isinstance(i, Item)}
    assert set(items) == {"a.md", "k.md"} and made.read(items["k.md"]) == b"kubernetes"
    assert failures(root) == {
        "docs:out.md": "link_outside", "docs:up": "link_outside", "docs:broken.md": "link_broken"
    }  # fmt: skip
    (root / "a.md").unlink()
    os.symlink(secret, root / "a.md")
    with pytest.raises(OSError):
        made.read(items["a.md"])  # exchanged after it was listed
    (root / "..data").rename(root / "..gone")
    os.symlink(tmp_path, root / "..data")
    with pytest.raises(OSError):
        made.read(items["k.md"])


def test_devices_are_listed_and_never_opened(root: Path) -> None:
    os.mkfifo(root / "pipe.md")
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(root)  # the address of a socket is short
        try:
            s.bind("sock.md")
        finally:
            os.chdir(here)
    assert failures(root) == {"docs:pipe.md": "not_a_file", "docs:sock.md": "not_a_file"}


def test_a_folder_that_cannot_be_read_is_an_outage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "a.md")
    write(root, "closed/b.md")
    true = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return true(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(SourceUnavailable, match="Permission denied"):
        list(source(root).list())
    with pytest.raises(SourceUnavailable):
        list(source(root, path="nowhere").list())
    with pytest.raises(SourceUnavailable):
        list(source(root, path="nowhere", permissions="source").list())


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else for a moment")
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_folder_that_somebody_else_may_not_read_or_pass(mode: int) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folders are closed to others
        root = Path(name) / "documents"
        write(root, "closed/b.md")
        os.chmod(name, 0o755)
        (root / "closed").chmod(mode)
        os.seteuid(65534)
        try:
            with pytest.raises(SourceUnavailable, match="Permission denied"):
                list(source(root).list())
        finally:
            os.seteuid(0)


def test_options_are_checked() -> None:
    for more in ({"include": "*.md"}, {"paht": "x"}, {"path": "s3://bucket"}):
        with pytest.raises(SettingsError):
            FilesSource(config(**more), settings(Path("/tmp")))


def test_a_fingerprint_changes_with_bytes_and_mode(root: Path) -> None:
    path = write(root, "a.md")
    before = listed(root)["a.md"].fingerprint
    assert listed(root)["a.md"].fingerprint == before
    path.chmod(0o600)
    assert listed(root)["a.md"].fingerprint != before


# -- permissions of the file system --------------------------------------------------------------------
def who(mode: int, raw: bytes = b"", right: int = posix.READ) -> set[str]:
    posix.forget_names()
    return set(posix.principals(mode, 70001, 70002, raw, right))


def entries(*given: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in given)


def test_modes_are_readers() -> None:
    assert who(0o600) == {"user:#70001"}
    assert who(0o640) == {"user:#70001", "group:#70002"}
    assert who(0o644) == {"user:#70001", "group:#70002", "everyone"}
    assert who(0o000) == set() and who(0o040) == {"group:#70002"}
    assert who(0o604) == {"user:#70001"}, "the group is denied, and everyone would include it"
    assert who(0o711, right=posix.PASS) == {"user:#70001", "group:#70002", "everyone"}
    posix.forget_names()
    assert "user:root" in posix.principals(0o600, 0, 0, b"", posix.READ)


def test_acls_are_readers() -> None:
    none = 0xFFFFFFFF
    base = ((1, 6, none), (4, 4, none), (0x20, 4, none))
    assert who(0o644, entries(*base, (2, 4, 70003), (0x10, 4, none))) == {
        "user:#70001", "user:#70003", "group:#70002", "everyone"}  # fmt: skip
    assert who(0o644, entries(*base, (2, 4, 70003), (0x10, 0, none))) == {"user:#70001"}, "the mask takes all"
    assert who(0o644, entries(*base, (2, 0, 70003), (0x10, 7, none))) == {"user:#70001"}, (
        "a denied user may be a member"
    )
    assert who(0o644, entries(*base, (8, 0, 70004), (0x10, 7, none))) == {"user:#70001", "group:#70002"}
    assert who(0o644, b"\x09\0\0\0") == set() and who(0o644, b"xx") == set(), "an unknown format admits nobody"


def test_folders_above_count(root: Path) -> None:
    for folder in ("open", "shut"):
        write(root, f"{folder}/a.md").chmod(0o644)
    root.chmod(0o755)
    (root / "open").chmod(0o755)
    (root / "shut").chmod(0o700)
    items = listed(root, permissions="source")
    assert "everyone" in items["open/a.md"].permissions["readers"][0]  # type: ignore[index]
    assert len(items["open/a.md"].permissions["readers"]) == 1  # type: ignore[index]
    assert items["shut/a.md"].permissions["readers"][1] == [posix.user(os.getuid())]  # type: ignore[index]


def test_a_real_acl_is_read(root: Path) -> None:
    path = write(root, "a.md")
    path.chmod(0o640)
    none = 0xFFFFFFFF
    raw = entries((1, 6, none), (2, 4, 70003), (4, 4, none), (0x10, 4, none), (0x20, 0, none))
    try:
        os.setxattr(path, posix.ACL, raw)
    except OSError:
        pytest.skip("this file system keeps no ACLs")
    assert "user:#70003" in listed(root, permissions="source")["a.md"].permissions["readers"][0]  # type: ignore[index]
