"""Blobs: kept once, encrypted, private, whole or not at all, and never read back changed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drystone.errors import DigestMismatch, NotFound, StateUnavailable
from drystone.lake import Lake, blobs

META: dict[str, Any] = {"document": "d:x", "source": "d", "media_type": "text/plain", "title": "x", "fingerprint": "f"}


def files(lake: Lake) -> list[Path]:
    return [p for p in lake.blobs.shelf.folder.rglob("*") if p.is_file()]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=100))
def test_what_is_kept_is_read_back(lake: Lake, data: bytes) -> None:
    old, blobs.FRAME = blobs.FRAME, 16  # so that a hundred bytes are several frames
    try:
        asset = lake.keep(data, **META)
        assert lake.bytes(asset.digest) == data and asset.size == len(data)
        assert all(len(piece) <= 16 for piece in lake.blobs.pieces(asset.digest))
    finally:
        blobs.FRAME = old


def test_equal_bytes_are_kept_once_and_nothing_is_legible(lake: Lake) -> None:
    one, two = lake.keep(b"the secret of the fox", **META), lake.keep(b"the secret of the fox", **META)
    assert one.digest == two.digest and one.digest.startswith("b:")
    (path,) = files(lake)
    assert b"secret" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert lake.blobs.size() == path.stat().st_size == lake.sizes()["blobs"]


def test_any_change_of_the_file_is_noticed(lake: Lake, monkeypatch: Any) -> None:
    monkeypatch.setattr(blobs, "FRAME", 64)
    digest = lake.keep(os.urandom(200), **META).digest
    (path,) = files(lake)
    whole = path.read_bytes()
    frame = blobs.HEAD.size + blobs.HEAD.unpack(whole[4:9])[1]
    head, frames = whole[:4], [whole[4 + i * frame : 4 + (i + 1) * frame] for i in range(4)]
    spoiled = [
        whole[:-1], whole + b"x", whole[:100], b"", b"nope" + whole[4:],
        head + b"".join(frames[:3]), head + b"".join(frames[1:]), head + b"".join([*frames[::2], *frames[1::2]]),
        *(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(0, len(whole), 7)),
    ]  # fmt: skip
    for data in spoiled:
        path.write_bytes(data)
        with pytest.raises(DigestMismatch):
            lake.bytes(digest)
    path.write_bytes(whole)
    assert len(lake.bytes(digest)) == 200


def test_another_blobs_file_is_noticed(lake: Lake) -> None:
    one, two = lake.keep(b"one", **META), lake.keep(b"two", **META)
    lake.blobs.shelf.path(one.digest[2:]).write_bytes(lake.blobs.shelf.path(two.digest[2:]).read_bytes())
    with pytest.raises(DigestMismatch):
        lake.bytes(one.digest)


def test_an_erased_blob_is_gone_and_can_come_again(lake: Lake) -> None:
    digest = lake.keep(b"gone", **META).digest
    lake.ledger.keys.destroy(digest)
    with pytest.raises(NotFound):
        lake.bytes(digest)
    assert lake.keep(b"gone", **META).digest == digest and lake.bytes(digest) == b"gone"


@pytest.mark.parametrize("digest", ["b:../../ledger", "b:", "v:abc", "", "b:abcdefghijklmnopqrstuv"])
def test_an_unknown_digest_is_not_found(lake: Lake, digest: str) -> None:
    with pytest.raises(NotFound):
        lake.bytes(digest)


def test_a_disk_that_refuses_leaves_nothing_behind(lake: Lake, monkeypatch: Any) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(StateUnavailable, match="No space"):
        patch.setattr(os, "fsync", full)
        lake.keep(b"x" * 100, **META)
    assert files(lake) == []


def test_unfinished_files_are_swept_when_they_are_old(lake: Lake) -> None:
    lake.keep(b"kept", **META)
    (folder,) = [p for p in lake.blobs.shelf.folder.iterdir() if p.is_dir()]
    for name, age in (("old.new", 7200), ("young.new", 0)):
        path = folder / name
        path.write_bytes(b"half")
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    assert lake.maintain().files == 1
    assert sorted(p.suffix for p in files(lake)) == ["", ".new"]
