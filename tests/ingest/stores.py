"""Servers that the tests of sources talk to, each a process or a thread of its own on this machine."""

from __future__ import annotations

import grp
import imaplib
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

KEY, SECRET = "AKIACANARYCANARY", "canary-secret/of+this-test"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def reachable(port: int, within: float = 30.0) -> None:
    end = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@contextmanager
def moto() -> Iterator[int]:
    """moto's S3 server as a process. Its port."""
    pytest.importorskip("moto")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "MOTO_S3_CUSTOM_ENDPOINTS": ""},
    )  # fmt: skip
    try:
        reachable(port)
        yield port
    finally:
        server.terminate()
        server.wait()


def client(port: int) -> Any:
    """Of an S3 server on this machine, to prepare it with."""
    import botocore.session

    return botocore.session.get_session().create_client(
        "s3", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id=KEY, aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )  # fmt: skip


# -- mail --------------------------------------------------------------------------------------------
def certificate(folder: Path) -> Path:
    """A certificate of this machine's names and its key, in one file each: ``cert.pem`` and ``key.pem``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
    return folder / "cert.pem"


@dataclass(frozen=True)
class Dovecot:
    """A real mail server of the user ``bo``, whose password is ``SECRET``."""

    folder: Path
    plain: int
    tls: int
    ca: Path

    def client(self) -> imaplib.IMAP4:
        client = imaplib.IMAP4("127.0.0.1", self.plain, timeout=10)
        client.login("bo", SECRET)
        return client


@contextmanager
def dovecot() -> Iterator[Dovecot]:
    program = shutil.which("dovecot", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("needs dovecot (apt-get install dovecot-imapd)")
    folder = Path(tempfile.mkdtemp(prefix="mail", dir="/tmp"))  # a short path: it makes sockets in it
    own = pwd.getpwuid(os.getuid()) if os.getuid() else pwd.getpwnam("nobody")  # it refuses to run as root
    try:
        folder.chmod(0o755)
        (folder / "home").mkdir()
        os.chown(folder / "home", own.pw_uid, own.pw_gid)
        plain, tls, ca = free_port(), free_port(), certificate(folder)
        group = grp.getgrgid(own.pw_gid).gr_name
        (folder / "dovecot.conf").write_text(f"""
protocols = imap
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
ssl = yes
auth_failure_delay = 0
ssl_cert = <{folder}/cert.pem
ssl_key = <{folder}/key.pem
disable_plaintext_auth = no
default_internal_user = {own.pw_name}
default_internal_group = {group}
default_login_user = {own.pw_name}
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:{folder}/home/mail
mailbox_list_index = no
passdb {{
  driver = static
  args = password={SECRET}
}}
userdb {{
  driver = static
  args = uid={own.pw_uid} gid={own.pw_gid} home={folder}/home
}}
namespace inbox {{
  inbox = yes
  separator = .
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = 127.0.0.1
    port = {plain}
  }}
  inet_listener imaps {{
    address = 127.0.0.1
    port = {tls}
  }}
}}
""")
        server = subprocess.Popen(
            [program, "-F", "-c", str(folder / "dovecot.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            reachable(plain)
            yield Dovecot(folder, plain, tls, ca)
        finally:
            server.terminate()
            server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# -- between a source and its server --------------------------------------------------------------------
class Proxy:
    """Hands bytes on to a server of this machine. ``down``: breaks every connection. ``answer``: what to say instead,
    a number of times, to whoever connects."""

    def __init__(self, port: int) -> None:
        self.down, self.answers, self.wait, self.connections = False, list[bytes](), 0.0, 0
        self._to = port
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        self._open.add(client)
        try:
            with client:
                if self.down:
                    return
                if self.answers:
                    client.settimeout(0.5)
                    with suppress(TimeoutError):  # where the server speaks first
                        client.recv(1 << 16)
                    client.sendall(self.answers.pop(0))
                    return
                time.sleep(self.wait)
                with socket.create_connection(("127.0.0.1", self._to)) as server:
                    self._open.add(server)
                    back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
                    back.start()
                    self._pump(client, server)
                    back.join()
                    self._open.discard(server)
        except OSError:
            return
        finally:
            self._open.discard(client)

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(1 << 16):
                if self.down:
                    break
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    @contextmanager
    def outage(self) -> Iterator[None]:
        self.down = True
        self.hang_up()
        try:
            yield
        finally:
            self.down = False

    def hang_up(self) -> None:
        for end in list(self._open):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def close(self) -> None:
        self._listener.close()
        self.hang_up()


# -- a web site ------------------------------------------------------------------------------------------
@dataclass
class Reply:
    body: bytes | str = ""
    kind: str = "text/html"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Site:
    """``pages``: path to reply. ``asked``: each request's path and headers. ``broken``: every answer is 503.

    ``tls``: a folder with a ``certificate``.
    """

    def __init__(self, tls: Path | None = None) -> None:
        self.pages: dict[str, Reply] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.broken = False
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 16  # head and body in one go

            def do_GET(self) -> None:
                given = {name.lower(): value for name, value in self.headers.items()}
                site.asked.append((self.path, given))
                reply = site.pages.get(self.path, Reply(status=404))
                if site.broken:
                    reply = Reply(status=503)
                status = reply.status
                if status == 200 and "etag" in reply.headers and given.get("if-none-match") == reply.headers["etag"]:
                    status = 304
                body = (reply.body.encode() if isinstance(reply.body, str) else reply.body) if status == 200 else b""
                self.send_response(status)
                for name, value in {
                    "content-type": reply.kind,
                    "content-length": str(len(body)),
                    **reply.headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: object, address: object) -> None:
                return  # a client that hangs up in the middle

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}/"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
