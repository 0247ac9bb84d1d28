"""What every source must hold."""

from __future__ import annotations

from drystone.ports import Source
from drystone.records import Failure, Item


def check_source(source: Source) -> None:
    """Lists twice, reads everything once; raises ``AssertionError``. Nothing may change meanwhile."""
    assert isinstance(source.name, str) and source.name, "a source has a name"
    first = list(source.list())
    items = [found for found in first if isinstance(found, Item)]
    assert all(isinstance(found, (Item, Failure)) for found in first), "a listing holds items and failures"
    assert list(source.list()) == first, "what did not change is listed alike, fingerprints and order included"
    ids = [item.id for item in items]
    assert len(set(ids)) == len(ids), "an id is listed once"
    for item in items:
        assert item.id and item.fingerprint and item.media_type, "an item has an id, a fingerprint and a media type"
        item.id.encode()  # an id is valid Unicode
        assert not any(ord(c) < 32 for c in item.id), "an id fits on a line"
        data = source.read(item)
        assert isinstance(data, bytes) and data == source.read(item), "reading gives the same bytes again"
        assert item.size in (-1, len(data)), "the size is that of the bytes, or -1"
        assert item.permissions is None or isinstance(item.permissions, dict), "permissions are raw label parts"
    for item in reversed(items):
        assert isinstance(source.read(item), bytes), "items can be read in any order"
    for failure in (found for found in first if isinstance(found, Failure)):
        assert failure.kind and failure.reason, "a failure has a kind and a reason"
        assert failure.document.startswith(f"{source.name}:"), "a failure names its document"
    assert all(isinstance(path, str) for path in source.watched()), "watched paths are text"
