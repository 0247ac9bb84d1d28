"""A web site as a source: what it asks for, what it leaves, what a stopped crawl means."""

from __future__ import annotations

import gzip
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drystone.errors import SettingsError, SourceUnavailable
from drystone.ingest import web
from drystone.ingest.web import WebSource, _canonical, _Robots, _scan
from drystone.records import Failure, Item
from tests.ingest.build import settings
from tests.ingest.stores import SECRET, Reply, Site, certificate, free_port
from tests.ingest.test_sources_suite import table
from tests.ingest.wild import known, project


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PAUSES", (0.01,))
    monkeypatch.setenv("SITE_SECRET", SECRET)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def source(tmp_path: Path, site: Site, **options: Any) -> WebSource:
    return WebSource(table("web", **{"url": site.url, "delay": 0, **options}), settings(tmp_path))


def ids(source: WebSource, site: Site) -> list[str]:
    return [i.id.removeprefix(site.host) for i in source.list() if isinstance(i, Item)]


def skips(source: WebSource, site: Site) -> dict[str, str]:
    return {
        f.document.removeprefix("docs:").replace(site.host, ""): f.kind for f in source.list() if isinstance(f, Failure)
    }


def links(*urls: str) -> Reply:
    return Reply("".join(f'<a href="{url}">x</a>' for url in urls))


# -- addresses and pages ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "is_"),
    [
        ("HTTP://Example.COM:80", "http://example.com/"),
        ("https://example.com:443/a/../b/./c/..", "https://example.com/b/"),
        ("/a b%7e%c3%a4%2F?q=ä#part", "https://h/a%20b~%C3%A4%2F?q=%C3%A4"),
        ("x.zip!/y", "https://h/x.zip%21/y"),
        ("100%", "https://h/100%25"),
        ("//other/x", "https://other/x"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://h:8443/", "https://h:8443/"),
        ("mailto:a@b", None),
        ("javascript:alert(1)", None),
        ("https://user:pw@h/", None),
        ("https://h:99999/", None),
        ("http://[::1", None),
        ("https://a b/", None),
    ],
)
def test_addresses_have_one_form(url: str, is_: str | None) -> None:
    assert _canonical(url, "https://h/") == is_
    assert is_ is None or _canonical(is_, "https://h/") == is_


def test_links_of_a_page() -> None:
    page = """<base href="/docs/"><A HREF=a.html>a</A> <a class=x href='b.html?x=1&amp;y=2'>b</a>
    <!-- <a href=comment> --> <script>"<a href=script>"</script> <a rel="nofollow noopener" href=n>n</a>
    <area href=map><a name=top><a href="mailto:x@y"><link rel=canonical href=/own><meta name="ROBOTS" content="NoIndex">"""
    found, words, canonical, cut = _scan(page, "https://h/x")
    assert found == ("https://h/docs/a.html", "https://h/docs/b.html?x=1&y=2", "https://h/docs/map")
    assert (words, canonical, cut) == ({"noindex"}, "https://h/own", False)


@pytest.mark.parametrize(
    "piece", ["<!--", "<a href=x ", "<script>", "<a " + "x" * 50, "<meta name=robots content=", "<"]
)
def test_hostile_pages_take_linear_time(piece: str) -> None:
    began = time.monotonic()
    _scan(piece * (2_000_000 // len(piece)), "https://h/")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("charset", ["idna", "punycode", "rot13", "undefined", "no such", "ISO-8859-1", "utf-16"])
def test_a_page_may_name_any_encoding(tmp_path: Path, site: Site, charset: str) -> None:
    body = '<a href="/ä">'.encode(charset if charset[0] in "Iu" and charset != "undefined" else "utf-8")
    site.pages = {"/": Reply(body, f"text/html; charset={charset}"), "/%C3%A4": Reply("ä")}
    assert ids(source(tmp_path, site), site) == ["/", "/%C3%A4"]


def test_robots() -> None:
    rules = _Robots(
        "User-agent: other\nDisallow: /\n\nUser-Agent: Drystone/1.0\nUser-agent: x\nDisallow: /a # why\n"
        "Allow: /a/b\nDisallow: /*.pdf$\nDisallow: /q*x*y\nDisallow:\nCrawl-delay: 1.5\nSitemap: https://h/map.xml\n"
        "\nuser-agent: *\ndisallow: /everything\n"
    )
    assert (rules.delay, rules.sitemaps) == (1.5, ["https://h/map.xml"])
    allowed = ["/", "/a/b/c", "/x.pdf?y", "/everything", "/qx", "/robots.txt", "/Aa"]
    refused = ["/a", "/abc", "/d/x.pdf", "/q1x2y3"]
    assert [p for p in allowed if not rules.allow(p)] == [] and [p for p in refused if rules.allow(p)] == []
    began = time.monotonic()
    assert _Robots("User-agent: *\nDisallow: /" + "*a" * 4000 + "$").allow("/" + "a" * 3000)
    assert time.monotonic() - began < 1
    assert not _Robots("user-agent: *\ndisallow: /p").allow("/p") and _Robots("disallow: /").allow("/")


# -- a crawl ---------------------------------------------------------------------------------------------
def test_what_comes_in_and_what_is_said(tmp_path: Path, site: Site) -> None:
    site.pages = {
        "/": links("a.html", "doc.pdf", "/private/x", "/gone", "/off", "/moved", "http://example.com/", "/no", "/self"),
        "/a.html": Reply('<a href="/a.html#part">x</a><a rel="nofollow" href="/nofollow">x</a>'),
        "/doc.pdf": Reply(b"%PDF", "application/pdf"),
        "/off": Reply(status=302, headers={"location": "http://example.com/"}),
        "/moved": Reply(status=301, headers={"location": "/there"}),
        "/there": Reply("there"),
        "/no": Reply('<meta name="robots" content="noindex"><a href="/behind">x</a>'),
        "/behind": Reply("behind", headers={"x-robots-tag": "otherbot: noindex"}),
        "/self": Reply('<link rel="canonical" href="/own?x=1">'),
        "/own?x=1": Reply("own"),
        "/robots.txt": Reply("User-agent: *\nDisallow: /private", "text/plain"),
        "/sitemap.xml": Reply(
            f"<sitemapindex><sitemap><loc>{site.url}more.xml.gz</loc></sitemap></sitemapindex>", "application/xml"
        ),
        "/more.xml.gz": Reply(
            gzip.compress(f"<urlset><loc> {site.url}map?a=1&amp;b=2 </loc></urlset>".encode()), "x/y"
        ),
        "/map?a=1&b=2": Reply("map"),
    }
    made = source(tmp_path, site)
    assert ids(made, site) == ["/", "/a.html", "/doc.pdf", "/map?a=1&b=2", "/there", "/behind", "/own?x=1"]
    assert made.partial == ""
    assert not {"/private/x", "/nofollow"} & set(site.paths())
    assert skips(made, site) == {
        "/ -> /private/x": "link", "/ -> /gone": "link_broken", "/ -> /off": "link_outside", "/ -> /no": "link",
        "/ -> /self": "link",
    }  # fmt: skip
    kinds = {i.id.removeprefix(site.host): i.media_type for i in made.list() if isinstance(i, Item)}
    assert kinds["/doc.pdf"] == "application/pdf" and kinds["/"] == "text/html"


def test_it_says_who_it_is_and_keeps_no_cookie(tmp_path: Path, site: Site) -> None:
    site.pages = {"/": Reply('<a href="/a">', headers={"set-cookie": "x=1"}), "/a": Reply("a")}
    ids(source(tmp_path, site), site)
    assert all(headers["user-agent"].startswith("drystone/") for _, headers in site.asked)
    assert not any("cookie" in headers for _, headers in site.asked)


def test_include_exclude_and_depth(tmp_path: Path, site: Site) -> None:
    site.pages = {
        "/": links("/a", "/x"),
        "/a": links("/a/b"),
        "/a/b": links("/a/b/c"),
        "/a/b/c": Reply("c"),
        "/x": Reply(),
    }
    assert ids(source(tmp_path, site, exclude=["*/x"]), site) == ["/", "/a", "/a/b", "/a/b/c"]
    assert "/x" not in site.paths()
    assert ids(source(tmp_path, site, include=["*/a/**"]), site) == ["/a/b", "/a/b/c"]
    made = source(tmp_path, site, depth=1)
    assert (ids(made, site), made.partial) == (["/", "/a", "/x"], ""), "a depth is a scope"
    assert skips(made, site) == {"depth 1": "link"}


def test_a_delay_is_kept(tmp_path: Path, site: Site) -> None:
    site.pages = {"/": links("/a"), "/a": Reply(), "/robots.txt": Reply("User-agent: *\nCrawl-delay: 0.1")}
    began = time.monotonic()
    ids(source(tmp_path, site), site)
    assert time.monotonic() - began >= 0.2


def test_limits_make_a_crawl_partial(tmp_path: Path, site: Site) -> None:
    site.pages = {"/": links(*(f"/{n}" for n in range(9)))} | {f"/{n}": Reply("x" * 300_000) for n in range(9)}
    made = source(tmp_path, site, pages=4)
    assert ids(made, site) == ["/", "/0", "/1", "/2"]
    assert made.partial == "pages = 4 was reached with 6 addresses to go"
    made = source(tmp_path, site, megabytes=1)
    assert len(ids(made, site)) == 5 and made.partial.startswith("megabytes = 1 was reached")
    made = source(tmp_path, site)
    assert len(ids(made, site)) == 10 and made.partial == ""


def test_a_site_without_end_ends(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.pages = {f"/?{n}": links(*(f"/?{n}{m}" for m in range(400))) for n in ("", *range(9))}
    site.pages["/"] = links(*(f"/?{m}" for m in range(9)))
    made = source(tmp_path, site, pages=5)
    assert len(ids(made, site)) == 5 and "was reached" in made.partial


def test_pages_that_do_not_answer_are_kept_and_a_site_that_does_not_is_an_outage(tmp_path: Path, site: Site) -> None:
    site.pages = {"/": links("/a", "/b"), "/a": Reply(status=500), "/b": Reply("b")}
    made = source(tmp_path, site)
    found = {i.id.removeprefix(site.host): i for i in made.list() if isinstance(i, Item)}
    assert list(found) == ["/", "/a", "/b"] and made.partial == "1 pages could not be reached"
    with pytest.raises(OSError, match="HTTP 500"):
        made.read(found["/a"])
    site.pages["/"] = links(*(f"/{n}" for n in range(20)))
    site.pages |= {f"/{n}": Reply(status=403) for n in range(20)}
    with pytest.raises(SourceUnavailable, match="HTTP 403"):
        ids(made, site)
    for page, text in (("/robots.txt", "robots.txt of"), ("/", "HTTP 500")):
        site.pages = {"/": Reply(), page: Reply(status=500)}
        with pytest.raises(SourceUnavailable, match=text):
            ids(made, site)
    site.pages = {"/": Reply(), "/robots.txt": Reply("User-agent: *\nDisallow: /")}
    with pytest.raises(SourceUnavailable, match="does not let us in"):
        ids(made, site)
    for reply, text in (
        (Reply(status=404), "HTTP 404"),
        (Reply(status=302, headers={"location": "https://www.example.com/"}), "another host, www.example.com"),
        (Reply(status=302, headers={"location": "/"}), "leads to itself"),
    ):
        site.pages = {"/": reply}
        with pytest.raises(SourceUnavailable, match=text):
            ids(made, site)
    down = WebSource(table("web", url=f"http://127.0.0.1:{free_port()}/"), settings(tmp_path))
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        list(down.list())


def test_what_did_not_change_is_not_loaded_again(tmp_path: Path, site: Site) -> None:
    site.pages = {
        "/": Reply('<a href="/a"><a href="/b.pdf"><a href="/c.pdf">', headers={"etag": '"start"'}),
        "/a": Reply("<a href=/d>", headers={"last-modified": "Thu, 01 Jan 2026 00:00:00 GMT"}),
        "/b.pdf": Reply(b"%PDF" + b"x" * 3_000_000, "application/pdf", headers={"etag": '"b"'}),
        "/c.pdf": Reply(b"%PDF c", "application/pdf"),
        "/d": Reply("d"),
    }
    made = source(tmp_path, site)
    first = list(made.list())
    site.asked.clear()
    assert list(source(tmp_path, site).list()) == first, "another source of the same table remembers"
    asked = dict(site.asked)
    assert asked["/"]["if-none-match"] == '"start"' and "if-none-match" not in asked["/c.pdf"]
    assert asked["/a"]["if-modified-since"].startswith("Thu")
    site.pages["/b.pdf"] = Reply(b"%PDF other", "application/pdf", headers={"etag": '"b2"'})
    site.pages["/"] = Reply('<a href="/b.pdf">', headers={"etag": '"start2"'})
    changed = {i.id: i for i in made.list() if isinstance(i, Item)}
    assert [i.removeprefix(site.host) for i in changed] == ["/", "/b.pdf"]
    assert '"b2"' in changed[f"{site.host}/b.pdf"].fingerprint
    assert made.read(changed[f"{site.host}/b.pdf"]) == b"%PDF other"


def test_what_is_too_large_is_listed_with_its_size(tmp_path: Path, site: Site) -> None:
    site.pages = {"/": links("/a.bin"), "/a.bin": Reply(b"x" * (2 << 20), "application/pdf")}
    made = WebSource(table("web", url=site.url, delay=0), settings(tmp_path, ingest__max_file_mb=1))
    item = {i.id.removeprefix(site.host): i for i in made.list() if isinstance(i, Item)}["/a.bin"]
    assert item.size == 2 << 20
    with pytest.raises(OSError, match="more than 1 MB"):
        made.read(item)


def test_a_compressed_bomb_is_cut_short(tmp_path: Path, site: Site) -> None:
    bomb = gzip.compress(bytes(64 << 20), 9)
    site.pages = {"/": links("/a"), "/a": Reply(bomb, "text/plain", headers={"content-encoding": "gzip"})}
    made = WebSource(table("web", url=site.url, delay=0), settings(tmp_path, ingest__max_file_mb=1))
    found = {i.id.removeprefix(site.host): i for i in made.list() if isinstance(i, Item)}
    assert found["/a"].size > 1 << 20


# -- where it may go -----------------------------------------------------------------------------------
@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1"])
def test_a_name_does_not_lead_into_a_private_network(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (address, 0))])
    made = WebSource(table("web", url="http://docs.example.com/"), settings(tmp_path))
    with pytest.raises(SourceUnavailable, match="not public"):
        list(made.list())
    assert site.asked == []


def test_addresses_are_looked_up_once_a_crawl(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: str, *args: Any, **named: Any) -> list[Any]:
        if host != "docs.example.com":
            return real(host, *args, **named)
        calls.append(host)
        return real("127.0.0.1" if len(calls) == 1 else "10.9.9.9", *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    site.pages = {"/": links("/a"), "/a": Reply("a")}
    made = source(tmp_path, site, url=f"http://docs.example.com:{site.port}/", private=True)
    items = [i for i in made.list() if isinstance(i, Item)]
    assert [i.id for i in items] == [f"docs.example.com:{site.port}/", f"docs.example.com:{site.port}/a"]
    assert len(calls) == 1
    assert site.asked[0][1]["host"] == f"docs.example.com:{site.port}"


def test_certificates_are_verified_for_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate(tmp_path)
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: real("127.0.0.1" if host == "h.example" else host, *a, **k)
    )
    site = Site(tmp_path)
    try:
        site.pages = {"/": Reply("start")}
        assert ids(source(tmp_path, site, ca="cert.pem"), site) == ["/"]
        for options in ({}, {"ca": "cert.pem", "private": True, "url": f"https://h.example:{site.port}/"}):
            with pytest.raises(SourceUnavailable, match="certificate does not hold"):
                list(source(tmp_path, site, **options).list())
    finally:
        site.close()


def test_only_named_hosts_are_asked(tmp_path: Path, site: Site) -> None:
    other = Site()
    try:
        site.pages = {"/": links(f"{other.url}x"), "/to": Reply(status=302, headers={"location": f"{other.url}x"})}
        other.pages = {"/x": Reply("x")}
        assert ids(source(tmp_path, site), site) == ["/"] and other.asked == []
        made = source(tmp_path, site, hosts=[other.url])
        assert [i.id for i in made.list() if isinstance(i, Item)] == [f"{site.host}/", f"{other.host}/x"]
        with pytest.raises(OSError, match="do not let us"):
            source(tmp_path, site).read(Item(f"{other.host}/x", "", -1, "text/html"))
        with pytest.raises(OSError, match="another host"):
            source(tmp_path, site).read(Item(f"{site.host}/to", "", -1, "text/html"))
    finally:
        other.close()


# -- secrets -------------------------------------------------------------------------------------------
def test_a_credential_goes_to_its_host_alone_and_is_never_said(
    tmp_path: Path, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    other = Site()
    caplog.set_level(logging.DEBUG)
    try:
        site.pages = {"/": links(f"{other.url}x"), "/a": Reply(status=401)}
        other.pages = {"/x": Reply("x")}
        made = source(tmp_path, site, hosts=[other.url], token="env:SITE_SECRET")
        list(made.list())
        assert {headers.get("authorization") for _, headers in site.asked} == {f"Bearer {SECRET}"}
        assert not any("authorization" in headers for _, headers in other.asked)
        site.broken = True
        with pytest.raises(SourceUnavailable) as caught:
            list(made.list())
        with pytest.raises(OSError) as unread:
            made.read(Item(f"{site.host}/a", "", -1, "text/html"))
        spoken = "\n".join((str(caught.value), repr(caught.value), str(unread.value), repr(made), caplog.text))
        assert SECRET not in spoken
    finally:
        other.close()


@pytest.mark.parametrize(
    "options",
    [
        {}, {"url": "ftp://example.com"}, {"url": f"https://bo:{SECRET}@example.com/"}, {"url": "https://example.com", "x": 1},
        {"url": "http://example.com", "token": "env:SITE_SECRET"}, {"url": "https://example.com", "user": "bo"},
        {"url": "https://example.com", "token": SECRET}, {"url": "https://example.com", "permissions": "source"},
        {"url": "https://example.com", "pages": -1}, {"url": "https://example.com", "ca": "nowhere.pem"},
        {"url": "https://example.com", "hosts": ["bo:x@y"]}, {"url": "https://example.com", "delay": "soon"},
    ],
)  # fmt: skip
def test_wrong_tables_are_said_without_their_values(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        WebSource(table("web", **options), settings(tmp_path))
    assert SECRET not in str(caught.value)


# -- whole -----------------------------------------------------------------------------------------------
def test_a_partial_crawl_removes_nothing_and_a_whole_one_does(tmp_path: Path, site: Site) -> None:
    pages = {f"/{n}": Reply(f"<p>Text {n}: returns within {n} days.</p>") for n in range(3)}
    site.pages = {"/": Reply("<p>Start.</p>" + "".join(f'<a href="{p}">{p}</a>' for p in pages)), **pages}
    table = f'type = "web"\nurl = "{site.url}"\ndelay = 0'
    with project(tmp_path / "p", table) as kb:
        assert kb.ingest(actor="olga").added == 4
        assert kb.ingest(actor="olga").commit is None
        site.pages["/1"] = Reply(status=503)
        report = kb.ingest(actor="olga")
        assert (report.removed, report.failed, report.failures[0].kind) == (0, 1, "unreadable")
        assert "docs: 1 pages could not be reached" in report.notes
        assert len(known(kb)) == 4
    with project(tmp_path / "p", table + "\npages = 2") as kb:
        report = kb.ingest(actor="olga")
        assert report.removed == 0 and any("pages = 2 was reached" in note for note in report.notes)
    tight = '[[sources.labels]]\nmatch = "**"\nreaders = ["group:hr"]\nclassification = "internal"\n'
    with project(tmp_path / "p", table + "\npages = 2", tight) as kb:
        assert kb.ingest(actor="olga").relabelled == 4, "a rule holds for what was not reached, too"
    del site.pages["/1"], site.pages["/2"]
    with project(tmp_path / "p", table) as kb:
        report = kb.ingest(actor="olga")
        assert (report.removed, report.skipped) == (2, 2)
        assert known(kb) == {f"{site.host}/", f"{site.host}/0"}
        site.broken = True
        with pytest.raises(SourceUnavailable):
            kb.ingest(actor="olga")
        assert len(known(kb)) == 2
