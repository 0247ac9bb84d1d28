"""One suite over every source that we bring, each against what it really reads from."""

from __future__ import annotations

import json
import logging
from base64 import b64encode
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from drystone.errors import SourceUnavailable
from drystone.ingest import mailbox, objects, web
from drystone.ingest.files import FilesSource
from drystone.ingest.mailbox import open_mail
from drystone.ingest.objects import open_files
from drystone.ingest.rows import RowsSource
from drystone.ingest.web import WebSource
from drystone.records import Failure, Item
from drystone.settings import SourceConfig
from drystone.testing import check_source
from tests.ingest.build import config, settings
from tests.ingest.stores import KEY, SECRET, Dovecot, Proxy, Reply, Site, client, dovecot, free_port, moto
from tests.ingest.wild import project


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (objects, mailbox, web):
        monkeypatch.setattr(module, "PAUSES", (0.01, 0.01))
    monkeypatch.setenv("STORE_KEY", KEY)
    monkeypatch.setenv("STORE_SECRET", SECRET)


def table(type: str, **options: Any) -> SourceConfig:
    made = config(type, **options)
    return replace(made, options={name: value for name, value in made.options.items() if name in options})


class Text:
    def body(self, number: int, size: int) -> bytes:
        return (f"# Text {number}\n\n" + "word " * (size // 5 + 1)).encode()


class Mail:
    def body(self, number: int, size: int) -> bytes:
        head = f"From: ann@example.com\r\nSubject: Mail {number}\r\nMessage-ID: <{number}@example.com>\r\n\r\n"
        return (head + "word word word word\r\n" * (size // 20 + 1)).encode()


class Folder(Text):
    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, data: bytes) -> None:
        (self.root / name).write_bytes(data)

    def drop(self, name: str) -> None:
        (self.root / name).unlink()

    @contextmanager
    def outage(self) -> Iterator[None]:
        self.root.rename(self.root.with_name("gone"))
        try:
            yield
        finally:
            self.root.with_name("gone").rename(self.root)


def test_files(tmp_path: Path) -> None:
    root = tmp_path / "documents"
    root.mkdir()
    for name in ("a.md", "new\nline.md", "50%.md"):
        (root / name).write_text(name)
    for permissions in ("rules", "source"):
        check_source(lambda p=permissions: FilesSource(config(permissions=p), settings(tmp_path)), Folder(root))


class Table(Folder):
    """Rows of JSON Lines; ``root`` is the file."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.rows = {"first": "A text."}
        self.write()

    def write(self) -> None:
        self.root.write_text("".join(json.dumps({"id": n, "text": t}) + "\n" for n, t in self.rows.items()))

    def body(self, number: int, size: int) -> bytes:
        return json.dumps({"title": "", "text": super().body(number, size).decode(), "type": "text/plain"}).encode()

    def put(self, name: str, data: bytes) -> None:
        self.rows[name] = json.loads(data)["text"]
        self.write()

    def drop(self, name: str) -> None:
        del self.rows[name]
        self.write()


def test_rows(tmp_path: Path) -> None:
    rows = Table(tmp_path / "rows.jsonl")
    check_source(lambda: RowsSource(config("rows", "rows.jsonl"), settings(tmp_path)), rows)


class Bucket(Text):
    def __init__(self, s3: Any, name: str, proxy: Proxy) -> None:
        self.s3, self.name, self.proxy = s3, name, proxy

    def put(self, name: str, data: bytes) -> None:
        self.s3.put_object(Bucket=self.name, Key=f"docs/{name}", Body=data, Tagging="readers=group:staff%20group:hr")

    def drop(self, name: str) -> None:
        self.s3.delete_object(Bucket=self.name, Key=f"docs/{name}")

    def outage(self) -> AbstractContextManager[None]:
        return self.proxy.outage()


@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Any, Proxy]]:
    with moto() as port:
        proxy = Proxy(port)
        yield client(port), proxy
        proxy.close()


@pytest.mark.engines
@pytest.mark.parametrize("versions", ["Suspended", "Enabled"])
@pytest.mark.parametrize("permissions", ["rules", "source"])
def test_objects(tmp_path: Path, s3: tuple[Any, Proxy], versions: str, permissions: str) -> None:
    store, proxy = s3
    name = f"{versions}-{permissions}".lower()
    store.create_bucket(Bucket=name)
    store.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": versions})
    bucket = Bucket(store, name, proxy)
    for key in ("a.md", "b//c.md", "../d.md", "50%.md", "folder/"):
        bucket.put(key, b"" if key == "folder/" else key.encode())
    made = table(
        "files", path=f"s3://{name}/docs", endpoint=f"http://127.0.0.1:{proxy.port}", region="us-east-1",
        key="env:STORE_KEY", secret="env:STORE_SECRET", permissions=permissions,
    )  # fmt: skip
    check_source(lambda: open_files(made, settings(tmp_path)), bucket)


def test_objects_of_another_store(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for name in ("a.md", "b/c.md", "b-c.md"):
        store.pipe_file(f"/suite/{name}", name.encode())
    try:
        check_source(lambda: open_files(table("files", path="memory://suite"), settings(tmp_path)))
    finally:
        store.rm("/suite", recursive=True)


class Maildir(Mail, Folder):
    def put(self, name: str, data: bytes) -> None:
        new = self.root / "cur" / f"{name}:2,S"
        (self.root / "tmp" / name).write_bytes(data)
        (self.root / "tmp" / name).rename(new)

    def drop(self, name: str) -> None:
        (self.root / "cur" / f"{name}:2,S").unlink()


def test_maildir(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    for part in ("cur", "new", "tmp"):
        (root / part).mkdir(parents=True)
    world = Maildir(root)
    (root / "new" / "123.M1.host").write_bytes(world.body(9, 50))
    check_source(lambda: open_mail(table("mail", path="mail"), settings(tmp_path)), world)


class Mailbox(Mail):
    def __init__(self, server: Dovecot, proxy: Proxy) -> None:
        self.client, self.proxy, self.uids = server.client(), proxy, dict[str, str]()

    def put(self, name: str, data: bytes) -> None:
        if name in self.uids:
            self.drop(name)  # a message never changes: another comes in its place
        said = self.client.append("INBOX", "", "", data)[1][0]
        self.uids[name] = said.split(b"]")[0].split()[-1].decode()

    def drop(self, name: str) -> None:
        self.client.select("INBOX")
        self.client.uid("STORE", self.uids.pop(name), "+FLAGS", "\\Deleted")
        self.client.expunge()

    def outage(self) -> AbstractContextManager[None]:
        return self.proxy.outage()


@pytest.mark.engines
def test_imap(tmp_path: Path) -> None:
    with dovecot() as server:
        proxy = Proxy(server.plain)
        box = Mailbox(server, proxy)
        box.put("there", box.body(9, 50))
        made = table("mail", host="127.0.0.1", port=proxy.port, tls=False, user="bo", password="env:STORE_SECRET")
        check_source(lambda: open_mail(made, settings(tmp_path)), box)
        box.client.logout()
        proxy.close()


class Pages(Text):
    """A site whose map lists its pages: a start page that linked to them would change with them."""

    def __init__(self, site: Site) -> None:
        self.site, self.names = site, dict[str, None]()
        self.write()

    def write(self) -> None:
        self.site.pages["/sitemap.xml"] = Reply(
            "<urlset>" + "".join(f"<url><loc>{self.site.url}{n}</loc></url>" for n in self.names) + "</urlset>",
            "application/xml",
        )

    def put(self, name: str, data: bytes) -> None:
        self.names[name] = None
        self.site.pages[f"/{name}"] = Reply(data, "text/plain")
        self.write()

    def drop(self, name: str) -> None:
        del self.names[name], self.site.pages[f"/{name}"]
        self.write()

    @contextmanager
    def outage(self) -> Iterator[None]:
        self.site.broken = True
        try:
            yield
        finally:
            self.site.broken = False


def test_web(tmp_path: Path) -> None:
    site = Site()
    site.pages["/"] = Reply('<a href="/a.html">a</a> <a href="http://example.com/">x</a> <a href="/gone">gone</a>')
    site.pages["/a.html"] = Reply('<a href="/">home</a>', headers={"etag": '"1"'})
    made = table("web", url=site.url, delay=0)
    check_source(lambda: WebSource(made, settings(tmp_path)), Pages(site))
    site.close()


REFUSALS = {
    "objects": f"HTTP/1.1 403 Forbidden\r\ncontent-type: application/xml\r\ncontent-length: %d\r\n\r\n<Error><Code>AccessDenied</Code><Message>{KEY} {SECRET}</Message></Error>",
    "mail": f"* BYE no {SECRET}\r\n",
    "web": f"HTTP/1.1 403 {SECRET}\r\nx-said: {SECRET}\r\ncontent-length: 0\r\n\r\n",
}  # fmt: skip
TABLES = {
    "objects": 'type = "files"\npath = "s3://bucket"\nregion = "x"\nendpoint = "http://127.0.0.1:{}"\nkey = "env:STORE_KEY"\n'
               'secret = "env:STORE_SECRET"\ntoken = "env:STORE_SECRET"',
    "mail": 'type = "mail"\nhost = "127.0.0.1"\nport = {}\ntls = false\nuser = "bo"\npassword = "env:STORE_SECRET"',
    "web": 'type = "web"\nurl = "http://127.0.0.1:{}/"\ndelay = 0\nuser = "bo"\npassword = "env:STORE_SECRET"',
}  # fmt: skip


@pytest.mark.engines
@pytest.mark.parametrize("kind", REFUSALS)
def test_no_credential_is_said_or_written(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """A server that refuses and repeats what it was told, and one that is not there: errors, logs, state."""
    caplog.set_level(logging.DEBUG)
    proxy, spoken = Proxy(free_port()), []
    body = REFUSALS[kind].partition("\r\n\r\n")[2]
    with project(tmp_path / "p", TABLES[kind].format(proxy.port)) as kb:
        for answers in ([REFUSALS[kind].replace("%d", str(len(body))).encode()] * 50, []):
            proxy.answers, proxy.down = answers, not answers
            with pytest.raises(SourceUnavailable) as caught:
                kb.ingest(actor="olga")
            assert caught.value.__suppress_context__, "what the library said is not shown with it"
            spoken += [str(caught.value), repr(caught.value), json.dumps(caught.value.to_dict())]
        spoken.append(json.dumps(kb.status(actor="olga"), default=str))
    proxy.close()
    written = b"".join(path.read_bytes() for path in (tmp_path / "p" / ".drystone").rglob("*") if path.is_file())
    basic = b64encode(f"bo:{SECRET}".encode()).decode()
    for canary in (SECRET, KEY, basic):
        assert canary not in "\n".join((*spoken, caplog.text)) and canary.encode() not in written


class Flawed:
    """A source with one flaw, which the suite must find."""

    name = "flawed"

    def __init__(self, world: Folder, flaw: str) -> None:
        self.world, self.flaw, self.count, self.known = world, flaw, 0, dict[str, bytes]()

    def watched(self) -> list[str]:
        return []

    def list(self) -> Iterator[Item | Failure]:
        try:
            names = sorted(path.name for path in self.world.root.iterdir())
        except OSError:
            if self.flaw != "an outage is an empty listing":
                raise SourceUnavailable("The folder is gone.", todo="Put it back.") from None
            names = []
        self.count += 1
        for n, name in enumerate(reversed(names) if self.flaw == "order" and self.count % 2 else names):
            data = (self.world.root / name).read_bytes()
            stamp = {"stamps are of the time": self.count, "stamps are of the name": name}.get(self.flaw, data[:30])
            size = len(data) + (self.flaw == "size")
            id = {"ids count": str(n), "ids do not fit on a line": name + "\n"}.get(self.flaw, name)
            yield Item(id, repr(stamp), size, "text/plain")
            if self.flaw == "twice":
                yield Item(id, repr(stamp), size, "text/plain")

    def read(self, item: Item) -> bytes:
        if self.flaw == "what is gone can be read":
            path = self.world.root / item.id
            self.known[item.id] = path.read_bytes() if path.exists() else self.known.get(item.id, b"")
            return self.known[item.id]
        if self.flaw == "another error":
            return (self.world.root / item.id).read_bytes() if (self.world.root / item.id).exists() else {}[item.id]
        names = sorted(path.name for path in self.world.root.iterdir())
        name = names[int(item.id)] if self.flaw == "ids count" else item.id.strip()
        data = (self.world.root / name).read_bytes()
        return data[: 1 << 20] if self.flaw == "the first megabyte" else data


@pytest.mark.parametrize(
    "flaw",
    ["an outage is an empty listing", "order", "stamps are of the time", "stamps are of the name", "size", "ids count",
     "ids do not fit on a line", "twice", "what is gone can be read", "another error", "the first megabyte"],
)  # fmt: skip
def test_the_suite_finds(tmp_path: Path, flaw: str) -> None:
    root = tmp_path / "documents"
    root.mkdir()
    (root / "zero.txt").write_text("zero")
    (root / "zzz.txt").write_text("zzz")
    with pytest.raises(AssertionError):
        check_source(Flawed(Folder(root), flaw), Folder(root))


def test_the_suite_finds_nothing_where_there_is_nothing(tmp_path: Path) -> None:
    root = tmp_path / "documents"
    root.mkdir()
    (root / "zero.txt").write_text("zero")
    check_source(Flawed(Folder(root), ""), Folder(root))
