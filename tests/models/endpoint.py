"""A real HTTP endpoint in a thread that misbehaves as told. Each request takes the next of ``script``."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from drystone.records import Classification
from drystone.settings import ModelConfig

GOOD: dict[str, Any] = {
    "model": "big-1",
    "system_fingerprint": "fp7",
    "choices": [{"message": {"content": "Items may be returned within 45 days. [1]"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 500},
}


class Endpoint(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Any] = []
        self.seen: list[tuple[dict[str, str], dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is part of these tests."""


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((dict(self.headers), body))
        step = self.server.script.pop(0) if self.server.script else GOOD
        if callable(step):
            step(self)
        elif isinstance(step, int):
            self.answer(step, b"no")
        else:
            self.answer(200, step if isinstance(step, bytes) else json.dumps(step).encode())

    def answer(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def streaming(*parts: str, done: bool = True, garbage: bool = False) -> Any:
    def step(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        for part in parts:
            event = {"choices": [{"delta": {"content": part}}]}
            handler.wfile.write(b": ping\n\ndata: " + json.dumps(event).encode() + b"\n\n")
            handler.wfile.flush()
        if garbage:
            handler.wfile.write(b"data: {nonsense\n\n")
        if done:
            handler.wfile.write(b"data: [DONE]\n\n")
        handler.close_connection = True

    return step


def slow(seconds: float) -> Any:
    def step(handler: Handler) -> None:
        time.sleep(seconds)
        handler.answer(200, json.dumps(GOOD).encode())

    return step


def dripping(handler: Handler) -> None:
    """Sends a byte now and then for ever: no read ever times out."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


def hanging_up(handler: Handler) -> None:
    handler.close_connection = True


@contextmanager
def running() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def config(name: str, kind: str = "openai", *, clearance: str = "public", **options: Any) -> ModelConfig:
    regions, purposes = options.pop("regions", frozenset({"eu"})), options.pop("purposes", None)
    return ModelConfig(name, kind, Classification.parse(clearance), regions, purposes, options)
