"""Object stores: names, order, label files, versions, tags, errors, and what is never said."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.errors import DrystoneError, MassRemoval, SettingsError, SourceUnavailable
from drystone.ingest import objects
from drystone.ingest.files import FilesSource
from drystone.ingest.names import original, safe
from drystone.ingest.objects import ObjectsSource, open_files
from drystone.ports import LiveSource
from drystone.records import Item
from tests.ingest.build import settings
from tests.ingest.stores import KEY, SECRET, Proxy, client, moto
from tests.ingest.test_sources_suite import table
from tests.ingest.wild import known, project

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "PAUSES", (0.01, 0.01))
    monkeypatch.setenv("STORE_KEY", KEY)
    monkeypatch.setenv("STORE_SECRET", SECRET)


# -- names ---------------------------------------------------------------------------------------------
@given(st.text(st.characters() | st.sampled_from("/.%!2FE5A\n"), max_size=20))
def test_names_become_safe_ids_and_back(name: str) -> None:
    id = safe(name)
    assert original(id) == name
    assert not set(id.split("/")) & {"", ".", ".."} and "!/" not in id
    id.encode()
    assert id.isprintable() or not any(ord(c) < 32 for c in id)


def test_plain_names_stay_as_they_are() -> None:
    for name in ("a/b c.md", "ü.md", "50%.md", "a!b", "x%2f.md", "..a/b.."):
        assert safe(name) == name


# -- any store of fsspec --------------------------------------------------------------------------------
@pytest.fixture
def memory() -> Iterator[Any]:
    store = fsspec.filesystem("memory")
    yield store
    if store.exists("/here"):
        store.rm("/here", recursive=True)


def listed(tmp_path: Path, **options: Any) -> dict[str, Item]:
    return {i.id: i for i in ObjectsSource(table("files", **options), settings(tmp_path)).list()}


def test_a_path_decides_which_source_it_is(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    assert isinstance(open_files(table("files", path="documents"), settings(tmp_path)), FilesSource)
    assert isinstance(open_files(table("files", path="memory://here"), settings(tmp_path)), ObjectsSource)


def test_label_files_markers_hidden_names_and_patterns(tmp_path: Path, memory: Any) -> None:
    files = {
        "a.md": "a", "a.md.label.toml": 'readers = ["group:hr"]', "a.md-2": "x", "a.mdx": "y", "a/b.md": "b",
        "a/b.md.label.toml": "not = [toml", ".hidden": "", "a/.git/x": "", "z.tmp": "z", "alone.label.toml": "x = 1",
    }  # fmt: skip
    for name, text in files.items():
        memory.pipe_file(f"/here/{name}", text.encode())
    found = listed(tmp_path, path="memory://here", exclude=["*.tmp"])
    assert list(found) == ["a.md-2", "a.md", "a.mdx", "a/b.md"], "a document waits for its label file"
    assert found["a.md"].beside == {"readers": ["group:hr"]}
    assert found["a/b.md"].beside == {"": "it is not readable TOML"}
    assert found["a.mdx"].beside is None
    assert list(listed(tmp_path, path="memory://here", include=["a/**"])) == ["a/b.md"]


def test_what_is_not_there_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="nothing at this address"):
        listed(tmp_path, path="memory://nowhere")


def test_a_store_that_shows_no_change_is_not_trusted(
    tmp_path: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.pipe_file("/here/a.md", b"a")
    monkeypatch.setattr(type(memory), "ls", lambda *_, **__: [{"name": "/here/a.md", "size": 1, "type": "file"}])
    with pytest.raises(SourceUnavailable, match="neither digest nor time"):
        listed(tmp_path, path="memory://here")


@pytest.mark.parametrize(
    "options",
    [
        {"path": "file:///etc"},
        {"path": "https://example.com/x"},
        {"path": f"s3://{KEY}:{SECRET}@bucket/x"},
        {"path": "simplecache::s3://bucket"},
        {"path": "nosuch://bucket"},
        {"path": "s3://bucket", "key": "env:STORE_KEY"},
        {"path": "s3://bucket", "key": SECRET, "secret": SECRET},
        {"path": "s3://bucket", "endpoint": "http://store.example.com"},
        {"path": "s3://bucket", "endpoint": f"https://{KEY}:{SECRET}@store.example.com"},
        {"path": "s3://bucket", "storage": {"secret": SECRET}},
        {"path": "s3://bucket", "sekret": SECRET},
        {"path": "memory://here", "endpoint": "https://example.com"},
        {"path": "memory://here", "permissions": "source"},
        {"path": "memory://here", "storage": {"account_key": "env:NOT_THERE"}},
    ],
)
def test_wrong_tables_are_said_without_their_values(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        open_files(table("files", **options), settings(tmp_path))
    assert SECRET not in str(caught.value) and KEY not in str(caught.value)


# -- S3 ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def s3() -> Iterator[tuple[Any, Proxy]]:
    with moto() as port:
        proxy = Proxy(port)
        yield client(port), proxy
        proxy.close()


def options(proxy: Proxy, path: str, **more: Any) -> dict[str, Any]:
    return {
        "path": path, "endpoint": f"http://127.0.0.1:{proxy.port}", "region": "us-east-1", "key": "env:STORE_KEY",
        "secret": "env:STORE_SECRET", **more,
    }  # fmt: skip


def source(tmp_path: Path, proxy: Proxy, path: str, **more: Any) -> ObjectsSource:
    made = open_files(table("files", **options(proxy, path, **more)), settings(tmp_path))
    assert isinstance(made, ObjectsSource)
    return made


def ids(source: ObjectsSource) -> list[str]:
    return [item.id for item in source.list()]


@pytest.mark.engines
def test_pages_and_an_error_between_them(
    tmp_path: Path, s3: tuple[Any, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, proxy = s3
    monkeypatch.setattr(objects, "PAGE", 50)
    store.create_bucket(Bucket="pages")
    for n in range(123):
        store.put_object(Bucket="pages", Key=f"p/{n:05}.md", Body=b"x")
    store.put_object(Bucket="pages", Key="p-other/no.md", Body=b"x")
    found = source(tmp_path, proxy, "s3://pages/p")
    assert ids(found) == [f"{n:05}.md" for n in range(123)]
    listing = iter(found.list())
    some = [next(listing) for _ in range(45)]
    assert len(some) == 45
    with proxy.outage(), pytest.raises(SourceUnavailable, match="could not be listed"):
        list(listing)


@pytest.mark.engines
def test_odd_keys_come_in_under_safe_ids(tmp_path: Path, s3: tuple[Any, Proxy]) -> None:
    store, proxy = s3
    store.create_bucket(Bucket="odd")
    keys = ["p/a//b", "p/../x", "p/50%.md", "p/%0A", "p/folder/", "p/full/", "p/ü & <b>.md", "p/a!/b", "p//", "p/./y"]
    for key in keys:
        store.put_object(Bucket="odd", Key=key, Body=b"" if key == "p/folder/" else key.encode())
    made = source(tmp_path, proxy, "s3://odd/p")
    assert {i.id: made.read(i).decode() for i in made.list()} == {
        "a/%2F/b": "p/a//b", "%2E%2E/x": "p/../x", "50%.md": "p/50%.md", "%250A": "p/%0A", "full/%2F": "p/full/",
        "ü & <b>.md": "p/ü & <b>.md", "a%21/b": "p/a!/b", "%2F/%2F": "p//", "%2E/y": "p/./y",
    }  # fmt: skip


@pytest.mark.engines
def test_versions_delete_markers_and_what_vanished_since(tmp_path: Path, s3: tuple[Any, Proxy]) -> None:
    store, proxy = s3
    store.create_bucket(Bucket="versions")
    store.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    first = store.put_object(Bucket="versions", Key="a.md", Body=b"same")
    store.put_object(Bucket="versions", Key="b.md", Body=b"b")
    made = source(tmp_path, proxy, "s3://versions")
    before = {i.id: i for i in made.list()}
    assert first["VersionId"] in before["a.md"].fingerprint and first["ETag"] in before["a.md"].fingerprint
    second = store.put_object(Bucket="versions", Key="a.md", Body=b"same")
    store.delete_object(Bucket="versions", Key="b.md")
    after = {i.id: i for i in made.list()}
    assert list(after) == ["a.md"] and second["VersionId"] in after["a.md"].fingerprint
    with pytest.raises(OSError, match="nothing at this address"):
        made.read(before["b.md"])


@pytest.mark.engines
def test_tags_name_readers_and_can_be_asked_at_any_time(tmp_path: Path, s3: tuple[Any, Proxy]) -> None:
    store, proxy = s3
    store.create_bucket(Bucket="tags")
    store.put_object(
        Bucket="tags", Key="a.md", Body=b"a", Tagging="readers=group:hr%20user:bo&classification=restricted&x=y"
    )
    store.put_object(Bucket="tags", Key="b.md", Body=b"b")
    made = source(tmp_path, proxy, "s3://tags", permissions="source")
    assert isinstance(made, LiveSource)
    found = {i.id: i.permissions for i in made.list()}
    assert found == {"a.md": {"readers": ["group:hr", "user:bo"], "classification": "restricted"}, "b.md": {}}
    store.put_object_tagging(Bucket="tags", Key="a.md", Tagging={"TagSet": [{"Key": "readers", "Value": "user:bo"}]})
    now = made.look("a.md")
    assert now is not None and now.permissions == {"readers": ["user:bo"]}
    assert made.look("c.md") is None
    with proxy.outage():
        assert made.look("a.md") is None, "what cannot be asked is permitted to nobody"


@pytest.mark.engines
def test_a_look_waits_three_seconds_at_most(
    tmp_path: Path, s3: tuple[Any, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, proxy = s3
    store.create_bucket(Bucket="slow")
    store.put_object(Bucket="slow", Key="a.md", Body=b"a", Tagging="readers=user:bo")
    made = source(tmp_path, proxy, "s3://slow", permissions="source")
    monkeypatch.setattr(objects, "LOOK_S", 0.3)
    proxy.wait = 5.0
    try:
        began = time.monotonic()
        assert made.look("a.md") is None and time.monotonic() - began < 2
    finally:
        proxy.wait = 0.0
        proxy.hang_up()


def said(status: str, code: str) -> bytes:
    """What a store answers, with a credential in its words."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{KEY} {SECRET}</Message></Error>"
    return f"HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()


@pytest.mark.engines
def test_passing_errors_pass_and_lasting_ones_are_said(
    tmp_path: Path, s3: tuple[Any, Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    store, proxy = s3
    store.create_bucket(Bucket="errors")
    store.put_object(Bucket="errors", Key="a.md", Body=b"a")
    caplog.set_level(logging.DEBUG)
    for answers in ([said("503 Slow Down", "SlowDown")] * 2, [said("500 Error", "InternalError")], [b""]):
        proxy.answers = list(answers)
        assert ids(source(tmp_path, proxy, "s3://errors")) == ["a.md"], "it passed"
    words = []
    for answers, text in (
        ([said("403 Forbidden", "InvalidAccessKeyId")] * 9, "refuses these credentials"),
        ([said("403 Forbidden", "SignatureDoesNotMatch")] * 9, "refuses these credentials"),
        ([said("503 Slow Down", "SlowDown")] * 9, "did not answer as it should"),
        ([said("400 Bad", f"Odd {SECRET}")] * 9, "did not answer as it should"),
    ):
        proxy.answers = list(answers)
        made = source(tmp_path, proxy, "s3://errors", token="env:STORE_SECRET")
        with pytest.raises(SourceUnavailable, match=text) as caught:
            ids(made)
        proxy.answers = list(answers)
        with pytest.raises(OSError) as unread:
            made.read(Item("a.md", "x", 1, "text/plain"))
        words += [str(caught.value), repr(caught.value), str(caught.value.to_dict()), str(unread.value), repr(made)]
        assert caught.value.__cause__ is None and caught.value.__suppress_context__
    proxy.answers = []
    with pytest.raises(SourceUnavailable, match="no such bucket") as caught:
        ids(source(tmp_path, proxy, "s3://nosuchbucket/x"))
    spoken = "\n".join((*words, str(caught.value), caplog.text))
    assert SECRET not in spoken and KEY not in spoken


@pytest.mark.engines
def test_an_object_that_has_grown_is_not_taken_into_memory(tmp_path: Path, s3: tuple[Any, Proxy]) -> None:
    store, proxy = s3
    store.create_bucket(Bucket="grown")
    store.put_object(Bucket="grown", Key="a.md", Body=b"a")
    made = open_files(table("files", **options(proxy, "s3://grown")), settings(tmp_path, ingest__max_file_mb=1))
    item = next(iter(made.list()))
    assert isinstance(item, Item)
    store.put_object(Bucket="grown", Key="a.md", Body=b"a" * (2 << 20))
    with pytest.raises(OSError, match="changed since it was listed"):  # its tags may be others by now
        made.read(item)
    with pytest.raises(OSError, match="more than 1 MB"):
        made.read(replace(item, fingerprint=""))


@pytest.mark.engines
def test_an_ingestion_from_a_bucket(tmp_path: Path, s3: tuple[Any, Proxy]) -> None:
    store, proxy = s3
    store.create_bucket(Bucket="whole")
    for n in range(12):
        store.put_object(Bucket="whole", Key=f"{n}.md", Body=f"# Text {n}\n\nReturns within {n} days.".encode())
    lines = "\n".join(f'{k} = "{v}"' for k, v in options(proxy, "s3://whole").items())
    with project(tmp_path / "p", f'type = "files"\n{lines}') as kb:
        assert kb.ingest(actor="olga").added == 12
        again = kb.ingest(actor="olga")
        assert (again.added, again.changed, again.commit) == (0, 0, None)
        with proxy.outage(), pytest.raises(SourceUnavailable):
            kb.ingest(actor="olga")
        for n in range(11):
            store.delete_object(Bucket="whole", Key=f"{n}.md")
        with pytest.raises(MassRemoval):
            kb.ingest(actor="olga")
        store.delete_object(Bucket="whole", Key="11.md")
        with pytest.raises(DrystoneError, match="empty"):
            kb.ingest(actor="olga")
        assert len(known(kb)) == 12
    state = b"".join(p.read_bytes() for p in (tmp_path / "p" / ".drystone").rglob("*") if p.is_file())
    assert SECRET.encode() not in state and KEY.encode() not in state
