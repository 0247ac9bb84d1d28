"""What every parser must hold."""

from __future__ import annotations

import random
from collections.abc import Sequence

from drystone.errors import ParseFailed
from drystone.ports import Parser
from drystone.records import Parsed

KINDS = {"heading", "paragraph", "list", "table", "code"}


def check_parser(parser: Parser, samples: Sequence[bytes]) -> None:
    """``samples`` are documents that it reads. Raises ``AssertionError``, or what the parser should not have raised."""
    assert parser.name and parser.version, "a parser has a name and a version"
    assert parser.media_types and all("/" in t for t in parser.media_types), "and says which media types it reads"
    chance = random.Random(0)
    for data in samples:
        parsed = parser.parse(data, name="sample", media_type=parser.media_types[0])
        assert parsed.text.strip(), "a sample has text"
        _check(parsed)
        again = parser.parse(data, name="sample", media_type=parser.media_types[0])
        assert again == parsed, "the same bytes, the same text"
        for _ in range(20):  # damaged bytes: a text, or a typed refusal
            hurt = bytearray(data[: chance.randrange(len(data) + 1)])
            for _ in range(min(5, len(hurt))):
                hurt[chance.randrange(len(hurt))] = chance.randrange(256)
            try:
                _check(parser.parse(bytes(hurt), name="sample", media_type=parser.media_types[0]))
            except ParseFailed as error:
                assert error.kind and error.happened, "a refusal has a kind and says what happened"


def _check(parsed: Parsed) -> None:
    parsed.text.encode()  # valid Unicode
    assert "\r" not in parsed.text, "line ends are \\n"
    at = 0
    for block in parsed.blocks:
        assert block.kind in KINDS, "a block's kind is one that we know"
        assert at <= block.start < block.end <= len(parsed.text), "blocks ascend inside the text and do not overlap"
        assert block.page is None or block.page >= 1, "pages count from 1"
        at = block.end
