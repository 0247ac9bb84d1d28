"""What every source must hold. ``check_source`` looks at a source as it lies; given a ``World``, what the source reads
from, it also changes, removes and breaks things there and looks at what the source makes of that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from drystone.errors import DrystoneError, SourceUnavailable
from drystone.ports import LiveSource, Source
from drystone.records import Failure, Item

Listing = tuple[Mapping[str, Item], Mapping[str, Failure]]


class World(Protocol):
    """What a source reads from, for a test to change. Names are plain: ``one.txt``."""

    def body(self, number: int, size: int) -> bytes:
        """A document of at least ``size`` bytes; another number gives other bytes."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Add it, or put other bytes in its place; then the source reads exactly these bytes as one of its items."""
        ...

    def drop(self, name: str) -> None: ...

    def outage(self) -> AbstractContextManager[None]:
        """While it lasts, the source cannot reach what it reads from."""
        ...


def check_source(source: Source | Callable[[], Source], world: World | None = None) -> None:
    """Raises ``AssertionError`` saying what does not hold. Nobody else may change anything meanwhile.

    ``source``: one that is built, or what builds one; then several are built and must agree.
    """
    build = source if not isinstance(source, Source) else lambda: source
    made = build()
    assert isinstance(made.name, str) and made.name, "a source has a name"
    assert all(isinstance(path, str) for path in made.watched()), "watched paths are text"
    _as_it_lies(made)
    _threads(made, build())
    if isinstance(made, LiveSource):
        _looks(made)
    if world is not None:
        _changes(build, world)
        _large(build(), world)
        _outage(build, world)


def _listing(source: Source) -> Listing:
    found = list(source.list())
    assert all(isinstance(one, (Item, Failure)) for one in found), "a listing holds items and failures"
    items = {one.id: one for one in found if isinstance(one, Item)}
    failures = {one.document: one for one in found if isinstance(one, Failure)}
    assert len(items) + len(failures) == len(found), "an id is listed once"
    assert isinstance(getattr(source, "partial", ""), str), "partial is a text"
    return items, failures


def _as_it_lies(source: Source) -> None:
    first = list(source.list())
    assert list(source.list()) == first, "what did not change is listed alike, fingerprints and order included"
    items, failures = _listing(source)
    for item in items.values():
        assert item.id and item.fingerprint and item.media_type, "an item has an id, a fingerprint and a media type"
        _printable(item.id, "an id")
        _printable(item.title, "a title")
        item.fingerprint.encode()
        data = _read(source, item)
        assert data == _read(source, item), "reading gives the same bytes again"
        assert item.size in (-1, len(data)), "the size is that of the bytes, or -1"
        for parts in (item.permissions, item.beside):
            assert parts is None or isinstance(parts, Mapping), "permissions are raw label parts"
    for item in reversed(list(items.values())):
        _read(source, item)
    assert list(source.list()) == first, "reading changes nothing"
    for failure in failures.values():
        assert failure.kind and failure.reason, "a failure has a kind and a reason"
        assert failure.document.startswith(f"{source.name}:"), "a failure names its document"
        _printable(failure.document + failure.reason, "a failure")
    _begun(source)


def _begun(source: Source) -> None:
    """A listing may be left in the middle, and two may be under way at once."""
    left: Iterator[Item | Failure] = iter(source.list())
    begun = next(left, None)
    assert next(iter(source.list()), None) == begun, "two listings do not disturb each other"
    del left


def _printable(text: str, what: str) -> None:
    text.encode()  # it is valid Unicode
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029" for c in text), f"{what} fits on a line"


def _read(source: Source, item: Item) -> bytes:
    data = source.read(item)
    assert isinstance(data, bytes), "reading gives bytes"
    return data


def _threads(source: Source, other: Source) -> None:
    """Four threads list and read at once, two of them with a source of their own."""
    expected = list(source.list())
    assert list(other.list()) == expected, "two sources of one configuration list alike"
    bodies = {one.id: _read(source, one) for one in expected[:50] if isinstance(one, Item)}
    wrong: list[str] = []

    def work(mine: Source) -> None:
        try:
            found = list(mine.list())
            if found != expected:
                wrong.append("it listed something else")
            wrong.extend(f"{one.id} was read differently" for one in found[:50]
                         if isinstance(one, Item) and mine.read(one) != bodies[one.id])  # fmt: skip
        except Exception as error:
            wrong.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(one,)) for one in (source, source, other, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, f"several threads may use a source: {wrong[0]}"


def _looks(source: LiveSource) -> None:
    for item in _listing(source)[0].values():
        now = source.look(item.id)
        assert now is not None and now.id == item.id, "an item that is listed can be looked at"
        assert now.permissions == item.permissions, "a look gives the permissions that the listing gives"
    gone = _looked(source, "there is no such item/9f2c")
    assert gone is None or not gone.permissions, "what is not there has no readers"


def _looked(source: LiveSource, id: str) -> Item | None:
    try:
        return source.look(id)
    except Exception as error:
        raise AssertionError(f"a look that finds nothing gives None, and raised {type(error).__name__}") from error


def _changes(build: Callable[[], Source], world: World) -> None:
    source = build()
    before = _listing(source)[0]
    bodies = [world.body(number, 100) for number in range(3)]
    assert len(set(bodies)) == 3, "each number gives other bytes"
    world.put("one.txt", bodies[0])
    world.put("two.txt", bodies[1])
    both, _ = _listing(source)
    new = _new(both, before)
    assert len(new) == 2, "what is new is listed"
    assert _rest(both, new) == before, "what did not change is listed as before"
    at = {_read(source, item): item for item in new.values()}
    assert set(at) == {bodies[0], bodies[1]}, "reading gives the bytes, whole"
    one, two = at[bodies[0]], at[bodies[1]]

    again, _ = _listing(build())
    assert again == both, "ids and fingerprints outlive the source that listed them"

    world.put("one.txt", bodies[2])
    changed, _ = _listing(source)
    assert changed.get(one.id) != one, "other bytes have another fingerprint"
    assert changed[two.id] == two, "a change of one is no change of another"
    now = [item for id, item in changed.items() if before.get(id) != item and id != two.id]
    assert [_read(source, item) for item in now] == [bodies[2]], "reading gives the bytes that are there now"

    world.drop("one.txt")
    less, _ = _listing(source)
    assert less == {**before, two.id: two}, "what is gone is not listed, and the rest as before"
    _unreadable(source, now[0], "what is gone")
    _unreadable(source, Item("no such/item 9f2c", one.fingerprint, -1, one.media_type), "what never was")
    world.drop("two.txt")
    left, _ = _listing(source)
    assert left == before, "all is as it was"


def _large(source: Source, world: World) -> None:
    before, _ = _listing(source)
    data = world.body(7, 9 << 20)
    world.put("large.txt", data)
    new = _new(_listing(source)[0], before)
    assert [_read(source, item) == data for item in new.values()] == [True], "9 MB are read whole"
    world.drop("large.txt")


def _outage(build: Callable[[], Source], world: World) -> None:
    """An outage is one error, whoever meets it: never an empty or a shorter listing."""
    world.put("one.txt", world.body(0, 100))
    source = build()
    item = next(iter(_listing(source)[0].values()))
    with world.outage():
        for one in (source, build):
            try:
                found: Sequence[object] = list((one if isinstance(one, Source) else one()).list())
            except SourceUnavailable as error:
                assert error.todo, "the error says what to do"
                _printable(str(error), "an error")
            except Exception as error:
                raise AssertionError(f"an outage is SourceUnavailable, not {type(error).__name__}") from error
            else:
                raise AssertionError(f"an outage is SourceUnavailable, and {len(found)} were listed")
        try:
            source.read(item)  # it may hold the bytes still
        except (OSError, SourceUnavailable) as error:
            _printable(str(error), "an error")
        except Exception as error:
            raise AssertionError(f"what cannot be read is an OSError, not {type(error).__name__}") from error
        if isinstance(source, LiveSource):
            now = _looked(source, item.id)
            assert now is None or not now.permissions, "what cannot be asked has no readers"
    assert item.id in _listing(source)[0], "a source comes back by itself"
    world.drop("one.txt")


def _unreadable(source: Source, item: Item, what: str) -> None:
    try:
        source.read(item)
    except OSError as error:
        assert not isinstance(error, DrystoneError)
        _printable(str(error), "an error")
    except Exception as error:
        raise AssertionError(f"{what} is an OSError when it is read, not {type(error).__name__}") from error
    else:
        raise AssertionError(f"{what} can be read")


def _new(now: Mapping[str, Item], before: Mapping[str, Item]) -> dict[str, Item]:
    return {id: item for id, item in now.items() if id not in before}


def _rest(now: Mapping[str, Item], new: Mapping[str, Item]) -> dict[str, Item]:
    return {id: item for id, item in now.items() if id not in new}
