"""A web site as a source: its pages and what they link to, as far as the site lets us.

Guarantees: only the named hosts are asked, at addresses that were looked up once a crawl and, unless said otherwise,
are public ones; TLS is verified; no cookie is kept, no proxy of the environment used. ``robots.txt`` (RFC 9309, with
``Crawl-delay``), ``nofollow`` and ``noindex`` are respected. A site that does not answer is ``SourceUnavailable``; a
page that does not answer is listed and cannot be read, so that it stays as it was; a crawl that stopped early is
``partial``, so that what it did not reach stays too. What a page leads to and does not come in is said. Pages are
looked at for links by a scanner that takes time linear in their size; parsing is left to the worker.
"""

from __future__ import annotations

import html
import re
import socket
import ssl
import threading
import time
import weakref
import zlib
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

import certifi

from drystone.errors import SettingsError, SourceUnavailable
from drystone.ingest.media import UNKNOWN, media_type
from drystone.ingest.names import COMMON, Wanted, check, hush, loopback, number, strings
from drystone.records import Failure, Item
from drystone.settings import Settings, SourceConfig, seconds

if TYPE_CHECKING:
    import httpx

AGENT = "drystone"
PAUSES = (0.5, 2.0, 8.0)  # seconds before each further attempt
LONGEST_S = 120.0  # one answer
_OPTIONS = COMMON | {
    "url", "hosts", "depth", "pages", "megabytes", "minutes", "delay", "private", "ca", "user", "password", "token",
}  # fmt: skip
_HTML = {"text/html", "application/xhtml+xml"}
_LINKS_IN = 4 << 20  # characters of a page that are looked at for links
_HELD = 64 << 20  # bytes of pages that wait to be read
_SILENT = 10  # pages in a row that do not answer: the site is down
_ROBOTS_MOST, _SITEMAP_MOST, _SITEMAPS = 512 << 10, 50 << 20, 100
_LONGEST = 2000  # characters of an address
_TAG = re.compile(r"<(a|area|base|link|meta)(?=[\s/>])([^<>]{0,8192})>", re.I)
_ATTRIBUTE = re.compile(r"""(?<![\w-])([a-zA-Z-]{1,20})\s{0,9}=\s{0,9}(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_LOC = re.compile(r"<loc>\s{0,99}(?:<!\[CDATA\[)?([^<\]]{1,4096})")
_PERCENT = re.compile("%([0-9A-Fa-f]{2})")
_CHARSET = re.compile(
    r"utf-?(8|16|16le|16be)|us-ascii|iso-8859-([1-9]|1[0134-6])|windows-125[0-8]|koi8-[ru]|gbk|gb2312|gb18030|big5"
    r"|shift_jis|euc-(jp|kr)",
    re.I,
)
_CARRY = (bytes(12), bytes(10) + b"\xff\xff", bytes.fromhex("0064ff9b") + bytes(8))  # an IPv4 address in the last four
_LOCAL = (IPv6Network("64:ff9b:1::/48"), IPv6Network("fec0::/10"))
_UNRESERVED = re.compile("[A-Za-z0-9._~-]")


class _Unreachable(Exception):
    """A page does not answer as it should. The text is ours."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes | None  # None: not asked for, or larger than allowed
    size: int  # -1 where unknown


@dataclass(frozen=True, slots=True)
class _Page:
    """What a crawl keeps of a page: enough not to load it again while the site says that it is the same."""

    fingerprint: str
    size: int
    media_type: str
    links: tuple[str, ...] = ()
    index: bool = True
    canonical: str = ""
    validators: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False  # it was not looked at for links to its end


_SEEN: dict[str, Mapping[str, _Page]] = {}  # by source and start: pages of the last crawl of this process


class WebSource:
    """Options: ``url`` (where to start), ``hosts`` (further hosts), ``depth`` (links from the start; none by default),
    ``pages`` (1,000), ``megabytes`` (1,024) and ``minutes`` (120) of one crawl, ``delay`` between requests (0.2 s, or
    what robots.txt asks for), ``private`` (true allows addresses that are not public), ``ca`` (a file of
    certificates), ``user`` and ``password`` or ``token`` (places of secrets; sent to the host of ``url`` alone),
    ``include``, ``exclude``, ``parsers``. An id is the address without ``https://``."""

    def __init__(self, config: SourceConfig, settings: Settings) -> None:
        options = check(config, _OPTIONS, ("url",))
        self.name, self.partial = config.name, ""
        if config.permissions == "source":
            raise self._wrong('has permissions = "source", and a web site names no readers')
        self._wanted = Wanted(config)
        self._depth = number(config, "depth", 0)
        self._pages = number(config, "pages", 1000)
        self._bytes = number(config, "megabytes", 1024) << 20
        self._minutes = number(config, "minutes", 120)
        self._delay = seconds(options.get("delay", 0.2), f"delay of the source {self.name!r}")
        self._most = int(settings["ingest.max_file_mb"]) << 20
        self._private = options.get("private") is True
        self._schemes: dict[str, str] = {}
        start = self._place(options["url"])
        for host in strings(config, "hosts"):
            self._place(host if "://" in host else f"https://{host}/")
        self._start, self._first = start, start.partition("/")[0]
        self._auth = self._credentials(config, settings)
        hush("httpx", "httpcore")
        try:
            self._tls = ssl.create_default_context(
                cafile=settings.folder / str(options["ca"]) if "ca" in options else certifi.where()
            )
        except OSError:
            raise self._wrong("has a ca that is no file of certificates") from None
        self._lock = threading.Lock()
        self._clients: dict[str, httpx.Client] = {}  # one a host, so that no connection speaks for another
        self._addresses: dict[str, Sequence[str]] = {}
        self._robots: dict[str, _Robots] = {}
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._lost: dict[str, str] = {}
        self._next = 0.0  # when the next request may be made
        weakref.finalize(self, _close, self._clients)

    def _wrong(self, what: str, todo: str = "") -> SettingsError:
        return SettingsError(f"The source {self.name!r} {what}.", todo=todo)

    def _place(self, url: object) -> str:
        """The id of an address that the source's table names; its host is one of ours from now on."""
        found = _canonical(str(url), str(url))
        if found is None:
            raise self._wrong("has an address that is no http(s) one, or has a user in it")
        scheme, _, id = found.partition("://")
        self._schemes[id.partition("/")[0]] = scheme
        return id

    def _credentials(self, config: SourceConfig, settings: Settings) -> str:
        options = config.options
        kinds = {"user", "password", "token"} & set(options)
        if not kinds:
            return ""
        if kinds not in ({"user", "password"}, {"token"}):
            raise self._wrong("has a part of a credential", "Write user and password, or token.")
        if self._schemes[self._first] == "http" and not loopback(_host(self._first)[0]):
            raise self._wrong("would send a credential without TLS", "Write https://.")
        name = "token" if "token" in kinds else "password"
        secret = settings.secret(options[name], f"the {name} of the source {self.name!r}")
        if name == "token":
            return f"Bearer {secret}"
        return "Basic " + b64encode(f"{options['user']}:{secret}".encode()).decode()

    def watched(self) -> Sequence[str]:
        return ()

    # -- listing -------------------------------------------------------------------------------------
    def list(self) -> Iterator[Item | Failure]:
        """From the start outwards. Raises ``SourceUnavailable``."""
        self.partial, self._lost, self._robots, self._addresses = "", {}, {}, {}
        with self._lock:
            self._held.clear()
        crawl = _Crawl(self._start, time.monotonic() + 60 * self._minutes)
        key = f"{self.name} {self._schemes[self._first]}://{self._start}"
        before, now = _SEEN.get(key, {}), dict[str, _Page]()
        robots = self._rules(self._first)
        if not robots.allow(_path(self._start)):
            raise self._down("its robots.txt does not let us in", "Ask its owner.")
        crawl.add(self._start, 0, "url")
        first = True
        while crawl.queue:
            if limit := self._limit(crawl):
                crawl.reasons.append(f"{limit} was reached with {len(crawl.queue)} addresses to go")
                break
            id, depth, found_on = crawl.queue.popleft()
            crawl.asked += 1
            try:
                found = self._visit(id, before.get(id), crawl)
            except _Unreachable as error:
                crawl.silent += 1
                if id == self._start or crawl.silent >= _SILENT:
                    raise self._down(str(error)) from None
                crawl.lost += 1
                self._lost[id] = str(error)
                yield Item(id, "unreachable", -1, media_type(_path(id)))
                continue
            crawl.silent = 0
            if isinstance(found, str):  # it leads elsewhere, or is gone
                yield from self._turned(id, found, depth, found_on, crawl)
            else:
                if found.validators:
                    now[id] = found
                yield from self._taken(id, found, depth, found_on, crawl)
            if first:
                first = False
                for link in self._sitemap(crawl):
                    yield from self._link(link, 1, "sitemap", crawl)
        _SEEN[key] = now
        if crawl.deep:
            yield self._skip(f"depth {self._depth}", "link", f"{crawl.deep} addresses lie deeper.")
        if crawl.lost:
            crawl.reasons.append(f"{crawl.lost} pages could not be reached")
        if crawl.cut:
            crawl.reasons.append(f"{crawl.cut} pages are too large to be looked at for links to their end")
        self.partial = "; ".join(crawl.reasons)

    def _limit(self, crawl: _Crawl) -> str:
        if crawl.asked >= self._pages:
            return f"pages = {self._pages}"
        if crawl.bytes >= self._bytes:
            return f"megabytes = {self._bytes >> 20}"
        return f"minutes = {self._minutes}" if max(time.monotonic(), self._next) > crawl.end else ""

    def _visit(self, id: str, known: _Page | None, crawl: _Crawl) -> _Page | str:
        """A page; or the address it leads to; or "" if it is gone. Raises ``_Unreachable``."""
        answer = self._ask(id, known.validators if known else {})
        crawl.bytes += len(answer.body or b"")
        if answer.status == 304 and known:
            return known
        if answer.status in (301, 302, 303, 307, 308):
            return self._target(id, answer)
        if answer.status in (404, 410):
            if id == self._start:
                raise _Unreachable(f"it answered HTTP {answer.status}")
            return ""
        if answer.status != 200:
            raise _Unreachable(f"it answered HTTP {answer.status}")
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in ("", UNKNOWN, "binary/octet-stream"):
            kind = media_type(_path(id))
        validators = {
            ask: answer.headers[said]
            for ask, said in (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified"))
            if said in answer.headers
        }
        if answer.body is None:  # too large, or no page and the site says by what it would show a change
            stamp = ":".join((*validators.values(), str(answer.size)))
            return _Page(stamp, answer.size, kind, validators=validators, cut=kind in _HTML)
        fingerprint = blake2b(answer.body, digest_size=16).hexdigest()
        self._hold(id, answer.body)
        said = _robot_words(answer.headers.get("x-robots-tag", ""))
        if kind not in _HTML:
            return _Page(fingerprint, len(answer.body), kind, index="noindex" not in said, validators=validators)
        charset = re.search(r"charset=[\"']?([\w-]+)", answer.headers.get("content-type", ""))
        links, words, canonical, cut = _scan(_decoded(answer.body, charset[1] if charset else "utf-8"), self._url(id))
        said |= words
        return _Page(
            fingerprint, len(answer.body), kind, () if "nofollow" in said else links, "noindex" not in said,
            canonical, validators, cut,
        )  # fmt: skip

    def _turned(self, id: str, to: str, depth: int, found_on: str, crawl: _Crawl) -> Iterator[Item | Failure]:
        if not to:
            yield self._skip(f"{found_on} -> {id}", "link_broken", "The page is gone.")
            return
        target = self._inside(to)
        if target is None:
            if id == self._start:
                raise self._down(f"it leads to another host, {urlsplit(to).hostname}", "Write that host in url.")
            yield self._skip(f"{found_on} -> {id}", "link_outside", "It leads to another host.")
        elif target == id:
            host = id.partition("/")[0]
            if self._schemes[host] == "http" and to.startswith("https:"):
                self._schemes[host] = "https"
                crawl.queue.appendleft((id, depth, found_on))
                return
            raise self._down("it leads to itself, as sites do that want cookies")
        else:
            yield from self._link(to, depth, found_on, crawl)

    def _taken(self, id: str, page: _Page, depth: int, found_on: str, crawl: _Crawl) -> Iterator[Item | Failure]:
        if page.cut:
            crawl.cut += 1
        own = self._inside(page.canonical) if page.canonical else None
        if own and own != id and own not in crawl.aliases and not self._wanted.excluded(own):
            crawl.aliases.add(id)
            yield from self._link(page.canonical, depth, id, crawl)
            yield self._skip(f"{found_on} -> {id}", "link", f"It says that its own address is {own}.")
        elif not page.index:
            yield self._skip(f"{found_on} -> {id}", "link", "It says noindex.")
        elif self._wanted(id):
            title = "" if id.rpartition("/")[2] else id
            yield Item(id, page.fingerprint, page.size, page.media_type, title)
        for link in page.links:
            yield from self._link(link, depth + 1, id, crawl)

    def _link(self, url: str, depth: int, found_on: str, crawl: _Crawl) -> Iterator[Failure]:
        id = self._inside(url)
        if id is None or id in crawl.seen or self._wanted.excluded(id):
            return
        if self._depth and depth > self._depth:
            crawl.deep += 1
            return
        if len(crawl.seen) > 20 * self._pages + 1000:  # a site without end
            if not crawl.endless:
                crawl.reasons.append("it has more addresses than can be kept in mind")
            crawl.endless = True
            return
        if len(id) > _LONGEST:
            crawl.seen.add(id)
            yield self._skip(f"{found_on} -> {id[:80]}...", "link", "Its address is too long.")
        elif not self._rules(id.partition("/")[0]).allow(_path(id)):
            crawl.seen.add(id)
            yield self._skip(f"{found_on} -> {id}", "link", "robots.txt does not let us in.")
        else:
            crawl.add(id, depth, found_on)

    def _skip(self, what: str, kind: str, reason: str) -> Failure:
        """Named by the way there, not by the page: a page that was known and vanished counts as vanished."""
        return Failure(f"{self.name}:{what}", kind, reason)

    def _sitemap(self, crawl: _Crawl) -> Iterator[str]:
        """Addresses of the site's maps: those that robots.txt names, else ``/sitemap.xml``."""
        found = [self._inside(url) for url in self._rules(self._first).sitemaps]
        maps = deque(id for id in found or [f"{self._first}/sitemap.xml"] if id is not None)
        read: set[str] = set()
        while maps and len(read) < _SITEMAPS:
            id = maps.popleft()
            if id in read or not self._rules(id.partition("/")[0]).allow(_path(id)):
                continue
            read.add(id)
            try:
                answer = self._followed(id, _SITEMAP_MOST)
            except (_Unreachable, OSError):
                crawl.reasons.append(f"the site map {id} could not be read")
                continue
            if answer.status in (404, 410):
                continue
            body = answer.body or b""
            if body[:2] == b"\x1f\x8b":
                try:
                    body = zlib.decompressobj(31).decompress(body, _SITEMAP_MOST)
                except zlib.error:
                    body = b""
            crawl.bytes += len(body)
            if answer.status != 200 or not body:
                crawl.reasons.append(f"the site map {id} could not be read")
                continue
            text = _decoded(body, "utf-8")
            urls = (html.unescape(match[1]).strip() for match in _LOC.finditer(text))
            if "<sitemapindex" in text[:4096]:
                maps.extend(inside for url in urls if (inside := self._inside(url)) is not None)
            else:
                yield from urls
        if maps:
            crawl.reasons.append(f"it has more than {_SITEMAPS} site maps")

    # -- reading -------------------------------------------------------------------------------------
    def read(self, item: Item) -> bytes:
        """The page as it was listed, or loaded again. Raises ``OSError``."""
        with self._lock:
            held = self._held.get(item.id)
        if held is not None:
            return held
        if item.id in self._lost:
            raise OSError(self._lost[item.id])
        try:
            if self._inside(self._url(item.id)) != item.id or not self._rules(item.id.partition("/")[0]).allow(
                _path(item.id)
            ):
                raise OSError("the source's settings or robots.txt do not let us read it")
            answer = self._followed(item.id, self._most)
        except (_Unreachable, SourceUnavailable) as error:
            raise OSError(str(error)) from None
        if answer.status != 200:
            raise OSError(f"it answered HTTP {answer.status}")
        if answer.body is None:
            raise OSError(f"it has more than {self._most >> 20} MB")
        return answer.body

    def _hold(self, id: str, body: bytes) -> None:
        with self._lock:
            self._held[id] = body
            self._held.move_to_end(id)
            room = sum(map(len, self._held.values()))
            while room > _HELD:
                room -= len(self._held.popitem(last=False)[1])

    # -- addresses -----------------------------------------------------------------------------------
    def _url(self, id: str) -> str:
        return f"{self._schemes.get(id.partition('/')[0], 'https')}://{id}"

    def _inside(self, url: str) -> str | None:
        """The id of an address on one of our hosts."""
        found = _canonical(url, url)
        id = found.partition("://")[2] if found else ""
        return id if id.partition("/")[0] in self._schemes else None

    def _target(self, id: str, answer: _Answer) -> str:
        to = _canonical(answer.headers.get("location", ""), self._url(id))
        if to is None:
            raise _Unreachable("it leads to no address")
        return to

    def _rules(self, host: str) -> _Robots:
        if host not in self._robots:
            try:
                answer = self._followed(f"{host}/robots.txt", _ROBOTS_MOST)
            except (_Unreachable, OSError) as error:
                raise self._down(f"robots.txt of {host}: {error}") from None
            if answer.status == 429 or answer.status >= 500 or answer.status < 200:
                raise self._down(f"robots.txt of {host} answered HTTP {answer.status}")
            text = _decoded(answer.body or b"", "utf-8") if answer.status == 200 else ""
            if answer.status == 200 and answer.body is None:
                raise self._down(f"robots.txt of {host} has more than {_ROBOTS_MOST >> 10} KB")
            self._robots[host] = _Robots(text)
        return self._robots[host]

    def _down(self, why: str, todo: str = "") -> SourceUnavailable:
        return SourceUnavailable(
            f"The site of the source {self.name!r} could not be crawled: {why}.",
            looked=f"We began at {self._url(self._start)}.",
            todo=f"Nothing was removed. {todo}".strip(),
        )

    # -- asking --------------------------------------------------------------------------------------
    def _followed(self, id: str, most: int) -> _Answer:
        """With up to five redirects, all on our hosts."""
        for _ in range(6):
            answer = self._ask(id, {}, most)
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            to = self._target(id, answer)
            target = self._inside(to)
            if target is None:
                raise _Unreachable(f"it leads to another host, {urlsplit(to).hostname}")
            if target == id and to.startswith("https:"):
                self._schemes[id.partition("/")[0]] = "https"
            id = target
        raise _Unreachable("it leads from one address to the next without end")

    def _ask(self, id: str, validators: Mapping[str, str], most: int = 0) -> _Answer:
        """One answer, after several attempts if need be. ``most``: bytes that are wanted whatever it is; 0: all of a
        page, and of anything else only where the site does not say by what a change would show."""
        for pause in (*PAUSES, None):
            try:
                answer = self._once(id, validators, most)
                if pause is None or not (answer.status in (408, 425, 429) or answer.status >= 500):
                    return answer
                said = answer.headers.get("retry-after", "")
                pause = min(max(pause, float(said)), 30.0) if said.isdecimal() else pause
            except _Unreachable:
                if pause is None:
                    raise
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _once(self, id: str, validators: Mapping[str, str], most: int) -> _Answer:
        import httpx

        host = id.partition("/")[0]
        client, addresses = self._client(host)
        rules = self._robots.get(host)
        headers = {"Host": host, **validators}
        if self._auth and host == self._first:
            headers["Authorization"] = self._auth
        for at, address in enumerate(addresses):
            with self._lock:  # one request after the other
                wait = self._next - time.monotonic()
                self._next = time.monotonic() + max(wait, 0.0) + max(self._delay, rules.delay if rules else 0.0)
            if wait > 0:
                time.sleep(wait)
            url = httpx.URL(self._url(id)).copy_with(host=address)
            try:
                request = client.build_request("GET", url, headers=headers)
                request.extensions["sni_hostname"] = _host(host)[0]
                answer = client.send(request, stream=True)
                try:
                    return self._received(answer, most)
                finally:
                    answer.close()
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if at == len(addresses) - 1:
                    bad = "CERTIFICATE_VERIFY_FAILED" in str(error)
                    raise _Unreachable("its certificate does not hold" if bad else "it cannot be reached") from None
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
                raise _Unreachable(f"it broke off ({type(error).__name__})") from None
        raise _Unreachable("its host has no address")

    def _received(self, answer: httpx.Response, most: int) -> _Answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        length = headers.get("content-length", "")
        size = int(length) if length.isdecimal() and "content-encoding" not in headers else -1
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        lazy = not most and kind not in _HTML and ("etag" in headers or "last-modified" in headers)
        most = most or self._most
        if headers.get("content-encoding", "identity") not in ("identity", "gzip"):
            raise _Unreachable("it answered in an encoding that we did not ask for")
        if answer.status_code != 200 or lazy or size > most:
            return _Answer(answer.status_code, headers, None, size)
        body, end = bytearray(), time.monotonic() + LONGEST_S
        for piece in answer.iter_bytes(1 << 16):
            body += piece
            if len(body) > most:
                return _Answer(200, headers, None, len(body))
            if time.monotonic() > end:
                raise _Unreachable(f"it took more than {LONGEST_S:.0f} s")
        return _Answer(200, headers, bytes(body), len(body))

    def _client(self, host: str) -> tuple[httpx.Client, Sequence[str]]:
        """What asks a host, and the addresses that it may use."""
        with self._lock:
            if host not in self._clients:
                import httpx

                self._clients[host] = httpx.Client(
                    verify=self._tls, trust_env=False, follow_redirects=False,
                    timeout=httpx.Timeout(30.0, connect=10.0),
                    cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                    headers={"User-Agent": f"{AGENT}/{version('drystone')}", "Accept-Encoding": "gzip"},
                )  # fmt: skip
            client, found = self._clients[host], self._addresses.get(host)
        if found is None:
            found = self._addresses[host] = self._looked_up(*_host(host))
        return client, found

    def _looked_up(self, host: str, port: int) -> Sequence[str]:
        """Where a host lies. A name that leads into a private network needs ``private = true``."""
        try:
            infos = socket.getaddrinfo(host, port or None, type=socket.SOCK_STREAM)
        except OSError:
            raise _Unreachable(f"{host} has no address") from None
        found = list(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in infos))
        itself = loopback(host) or host in found
        if not self._private and not itself and not all(map(_public, found)):
            raise self._down(f"{host} lies at an address that is not public", "If that is meant, write private = true.")
        return found


def _close(clients: dict[str, httpx.Client]) -> None:
    for client in clients.values():
        client.close()


@dataclass(slots=True)
class _Crawl:
    start: str
    end: float
    queue: deque[tuple[str, int, str]] = field(default_factory=deque)  # id, depth, the page that leads there
    seen: set[str] = field(default_factory=set)
    aliases: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    asked: int = 0
    bytes: int = 0
    deep: int = 0
    lost: int = 0
    cut: int = 0
    silent: int = 0
    endless: bool = False

    def add(self, id: str, depth: int, found_on: str) -> None:
        self.seen.add(id)
        self.queue.append((id, depth, found_on))


class _Robots:
    """``robots.txt`` for our agent: the longest rule that matches decides, and of equal ones the one that allows."""

    def __init__(self, text: str) -> None:
        self.delay, self.sitemaps = 0.0, list[str]()
        groups: list[tuple[set[str], list[tuple[str, str]]]] = []
        open = False  # are we among the agents of a group?
        for line in text.removeprefix("\ufeff").splitlines():
            name, _, value = line.partition("#")[0].partition(":")
            name, value = name.strip().lower(), value.strip()
            if name == "sitemap":
                self.sitemaps.append(value)
            elif name == "user-agent":
                if not open:
                    groups.append((set(), []))
                groups[-1][0].add(value.lower().partition("/")[0])
                open = True
            elif name in ("allow", "disallow", "crawl-delay"):
                open = False
                if groups:
                    groups[-1][1].append((name, value))
        ours = [rules for agents, rules in groups if AGENT in agents] or [r for agents, r in groups if "*" in agents]
        self._rules: list[tuple[str, bool]] = []
        for name, value in (rule for rules in ours for rule in rules):
            if name == "crawl-delay":
                if re.fullmatch(r"\d{1,5}(\.\d{1,3})?", value):
                    self.delay = max(self.delay, float(value))
            elif value:
                self._rules.append((_quoted(value), name == "allow"))

    def allow(self, path: str) -> bool:
        matching = [(len(rule), allows) for rule, allows in self._rules if _matches(rule, path)]
        return path == "/robots.txt" or not matching or max(matching)[1]


def _matches(rule: str, path: str) -> bool:
    """Does a path begin as a rule says? ``*`` is anything, a ``$`` at the end is the path's end."""
    whole = rule.endswith("$")
    first, *rest = rule.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    for n, part in enumerate(rest):
        if whole and n == len(rest) - 1:
            return len(path) - len(part) >= at and path.endswith(part)
        found = path.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return not whole or at == len(path)


def _scan(text: str, base: str) -> tuple[tuple[str, ...], set[str], str, bool]:
    """Of a page: the addresses that it links to, what it tells robots, its own address, and whether we saw all."""
    cut = len(text) > _LINKS_IN
    text = text[:_LINKS_IN]
    for opens, closes in (("<!--", "-->"), ("<script", "</script"), ("<style", "</style")):
        text = _without(text, opens, closes)
    links: dict[str, None] = {}
    words: set[str] = set()
    canonical = ""
    for tag, inside in _TAG.findall(text):
        tag = tag.lower()
        said = {a.lower(): html.unescape(b or c or d).strip() for a, b, c, d in reversed(_ATTRIBUTE.findall(inside))}
        rel = said.get("rel", "").lower().split()
        if tag == "meta" and said.get("name", "").lower() in ("robots", AGENT):
            words |= _robot_words(said.get("content", ""))
        elif tag == "base" and "href" in said:
            base = _joined(base, said["href"])
        elif tag == "link" and "canonical" in rel and "href" in said:
            canonical = canonical or _canonical(said["href"], base) or ""
        elif tag in ("a", "area") and "href" in said and "nofollow" not in rel:
            found = _canonical(said["href"], base)
            if found:
                links[found] = None
    return tuple(links), words, canonical, cut


def _joined(base: str, href: str) -> str:
    try:
        return urljoin(base, href)
    except ValueError:
        return base


def _without(text: str, opens: str, closes: str) -> str:
    """Without what stands between, to the end where nothing closes it. In linear time."""
    low, kept, at = text.lower(), [], 0
    if len(low) != len(text):  # a letter whose small form is longer
        low = text
    while (start := low.find(opens, at)) >= 0:
        kept.append(text[at:start])
        end = low.find(closes, start + len(opens))
        if end < 0:
            return "".join(kept)
        at = end + len(closes)
    return "".join((*kept, text[at:]))


def _robot_words(said: str) -> set[str]:
    """Of a robots tag or header: what it says to all robots or to ours."""
    words: set[str] = set()
    agent = ""
    for part in said.lower().split(","):
        name, mark, rest = part.partition(":")
        if mark and not name.strip().startswith(("max-", "unavailable_after")):
            agent, part = name.strip(), rest
        if agent in ("", AGENT):
            words.add(part.strip())
    return words | ({"noindex", "nofollow"} if "none" in words else set())


def _canonical(url: str, base: str) -> str | None:
    """One way to write an address, without its fragment; ``None`` for what is none of ours."""
    try:
        split = urlsplit(urljoin(base, url.strip()))
        port = split.port
        host = (split.hostname or "").rstrip(".")
        host = host if host.isascii() else host.encode("idna").decode()
    except (ValueError, UnicodeError):
        return None
    if split.scheme not in ("http", "https") or not host or "@" in split.netloc or re.search(r"[^\w.:-]", host):
        return None
    host = f"[{host}]" if ":" in host else host
    if port is not None and port != (443 if split.scheme == "https" else 80):
        host += f":{port}"
    parts: list[str] = []
    segments = _quoted(split.path).split("/")[1:]
    for part in segments:
        if part == "..":
            del parts[-1:]
        elif part != ".":
            parts.append(part)
    if segments and segments[-1] in (".", ".."):
        parts.append("")
    rest = "/" + "/".join(parts) + (f"?{_quoted(split.query)}" if split.query else "")
    rest = rest.replace("!/", "%21/")  # which names a document inside another
    return f"{split.scheme}://{host}{rest}"


def _quoted(text: str) -> str:
    """With ``%XX`` for what an address does not hold, and only for that."""

    def plain(match: re.Match[str]) -> str:
        char = chr(int(match[1], 16))
        return char if _UNRESERVED.fullmatch(char) else match[0].upper()

    text = _PERCENT.sub(plain, re.sub("%(?![0-9A-Fa-f]{2})", "%25", text))
    return quote(text, safe="%/:@!$&'()*+,;=-._~?[]")


def _path(id: str) -> str:
    return "/" + id.partition("/")[2]


def _host(place: str) -> tuple[str, int]:
    """Host and port (0: that of the scheme) of ``host:port``."""
    split = urlsplit(f"//{place}")
    return split.hostname or "", split.port or 0


def _public(address: str) -> bool:
    found: Any = ip_address(address)
    if isinstance(found, IPv6Address):
        if any(found in network for network in _LOCAL):
            return False
        carried = found.packed[-4:] if found.packed[:12] in _CARRY else b""
        found = IPv4Address(carried) if carried else found.sixtofour or found.teredo and found.teredo[1] or found
    return bool(found.is_global) and not found.is_multicast


def _decoded(body: bytes, charset: str) -> str:
    """With the encoding that a server names, if it is one of the web's: others of Python's may fail or take long."""
    return body.decode(charset if _CHARSET.fullmatch(charset) else "utf-8", "replace")
