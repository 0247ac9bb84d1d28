"""An S3 store in a process of its own: moto's server, which counts requests and fails when told to.

``python -m tests.lake.store`` prints its port. ``GET /-/log`` gives and forgets the requests since the last time;
``PUT /-/fault`` (JSON: method, path, status, times, wait) makes the next matching requests fail.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
KEY, SECRET = "CANARYKEY", "CANARYSECRET"


class Store:
    """What a test holds of the server."""

    def __init__(self, port: int) -> None:
        self.port, self.endpoint, self.made = port, f"http://127.0.0.1:{port}", 0

    def bucket(self, name: str = "") -> str:
        self.made += 1
        name = name or f"bucket{self.made}"
        self._call(f"/{name}", "PUT")
        return name

    def log(self) -> list[tuple[str, str, int, int]]:
        """Method, path, bytes in and out of each request since the last call."""
        return [tuple(line) for line in json.loads(self._call("/-/log"))]

    def fault(self, *, method: str = ".", path: str = ".", status: int = 503, times: int = 1_000_000, wait: float = 0,
              body: str = "") -> None:  # fmt: skip
        found = {"method": method, "path": path, "status": status, "times": times, "wait": wait, "body": body}
        self._call("/-/fault", "PUT", json.dumps(found).encode())

    def heal(self) -> None:
        self._call("/-/fault", "PUT", b"{}")

    def settings(self) -> dict[str, Any]:
        """[storage] as ``settings.load`` would give it; the keys are in the environment (``KEYS``)."""
        return {"endpoint": self.endpoint, "key": "env:STORE_KEY", "secret": "env:STORE_SECRET"}

    def toml(self) -> str:
        return "[storage]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in self.settings().items())

    def _call(self, path: str, method: str = "GET", data: bytes | None = None) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self.endpoint + path, data, method=method)) as answer:
            return bytes(answer.read())


KEYS = {"STORE_KEY": KEY, "STORE_SECRET": SECRET}


@contextmanager
def serving() -> Iterator[Store]:
    child = subprocess.Popen([sys.executable, "-m", "tests.lake.store"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        try:
            yield Store(int(child.stdout.readline()))
        finally:
            child.kill()


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    moto = DomainDispatcherApplication(create_backend_app)
    log: list[tuple[str, str, int, int]] = []
    fault: dict[str, Any] = {}

    def app(environ: dict[str, Any], start: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        if path == "/-/log":
            found, log[:] = list(log), []
            start("200 OK", [])
            return [json.dumps(found).encode()]
        if path == "/-/fault":
            fault.clear()
            fault.update(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
            start("200 OK", [])
            return [b""]
        query = environ.get("QUERY_STRING", "")
        chunked = environ.get("HTTP_TRANSFER_ENCODING") == "chunked"
        whole = f"{path}?{query}" if query else path
        fails = (
            bool(fault)
            and fault["times"] > 0
            and re.search(fault["method"], method)
            and re.search(fault["path"], whole)
        )
        if fails:
            fault["times"] -= 1
            time.sleep(fault["wait"])
            if fault["status"] == -1:  # done, and the answer is lost
                b"".join(moto(environ, start))
                raise ConnectionError
            if fault["status"]:
                log.append((method, whole, 0, 0))
                environ["wsgi.input"].read(-1 if chunked else int(environ.get("CONTENT_LENGTH") or 0))
                body = b"" if method == "HEAD" else fault["body"].encode()
                start(
                    f"{fault['status']} fault",
                    [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))],
                )
                return [body]
        body = b"".join(moto(environ, start))
        log.append((method, whole, int(environ.get("CONTENT_LENGTH") or 0), 0 if method == "HEAD" else len(body)))
        return [body]

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept

    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
