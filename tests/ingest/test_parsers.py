"""Formats: structure, spans, odd encodings, and files that want to do harm."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.errors import ParseFailed
from drystone.ingest.media import DOCX, sniff
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.docx import DocxParser
from drystone.ingest.parsers.html import HtmlParser
from drystone.ingest.parsers.markdown import MarkdownParser, render
from drystone.ingest.parsers.pdf import PdfParser
from drystone.ingest.parsers.tabular import CsvParser, JsonParser
from drystone.ingest.parsers.text import TextParser, decode
from drystone.records import Parsed
from drystone.testing import check_parser
from tests.ingest.build import ENCRYPTED, docx, paragraph, pdf

MARKDOWN = """---
title: "Returns policy"
---
# Returns

You have **45 days** to `return` an item, see [the portal](https://shop.example/r_(1)) or [this](other.md).

- new items
- [x] used items

| Item | Price |
|---|--:|
| Stove | 3 |

```
x = 1
```
"""
HTML = b"""<html><head><title>T</title><script>bad()</script></head><body><nav>menu</nav>
<main><h1>Returns</h1><p>Within <b>45</b> days.</p><ul><li>one<li>two</ul>
<table><tr><th>Item</th><th>Price</th></tr><tr><td>Stove</td><td>3</td></tr></table></main></body></html>"""
WORD = docx(
    paragraph("Returns", "Heading1") + paragraph("Within 45 days.") + paragraph("one", "ListBullet")
    + "<w:tbl><w:tr><w:tc>" + paragraph("Item") + "</w:tc></w:tr><w:tr><w:tc>" + paragraph("Stove")
    + "</w:tc></w:tr></w:tbl>"
)  # fmt: skip


def parts(parsed: Parsed) -> list[tuple[str, str]]:
    return [(b.kind, parsed.text[b.start : b.end]) for b in parsed.blocks]


def parse(parser: object, data: bytes, media_type: str = "") -> Parsed:
    return parser.parse(data, name="x", media_type=media_type)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("parser", "sample"),
    [(TextParser(), b"Within 45 days.\r\n\r\nNext."), (MarkdownParser(), MARKDOWN.encode()), (HtmlParser(), HTML),
     (CsvParser(), b"item,price\nStove,3\n"), (JsonParser(), b'{"a": [1, {"b": "c"}]}'),
     (PdfParser(), pdf("Within 45 days.", "Second.")), (DocxParser(), WORD)],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_every_parser_keeps_its_promises(parser: object, sample: bytes) -> None:
    check_parser(parser, [sample])  # type: ignore[arg-type]


def test_markdown_reads_like_text() -> None:
    parsed = render(MARKDOWN)
    assert parsed.title == "Returns policy"
    assert parts(parsed) == [
        ("heading", "Returns"),
        ("paragraph", "You have 45 days to return an item, see the portal (https://shop.example/r_(1)) or this."),
        ("list", "- new items"),
        ("list", "- used items"),
        ("table", "Item | Price\nItem: Stove | Price: 3"),
        ("code", "x = 1"),
    ]


@pytest.mark.parametrize("text", ["snake_case_name", "2*3*4", "a * b * c", "C:\\path", "1 < 2", "AT&T", "[1]"])
def test_markdown_leaves_what_is_no_mark(text: str) -> None:
    assert render(text).text == text


@given(st.text(alphabet="ab*_`[]()#>|-\n\\ <!&~1.", max_size=120))
def test_markdown_takes_anything(source: str) -> None:
    parsed = render(source)
    at = 0
    for block in parsed.blocks:
        assert at <= block.start < block.end <= len(parsed.text)
        at = block.end


def test_html_is_the_main_content() -> None:
    parsed = parse(HtmlParser(), HTML)
    assert parsed.title == "T"
    assert parts(parsed) == [
        ("heading", "Returns"), ("paragraph", "Within 45 days."), ("list", "- one"), ("list", "- two"),
        ("table", "Item | Price\nItem: Stove | Price: 3"),
    ]  # fmt: skip


def test_html_of_any_depth() -> None:
    assert parse(HtmlParser(), b"<div>" * 4_000 + b"deep").text == "deep"


def test_html_in_the_encoding_that_it_names() -> None:
    parsed = parse(HtmlParser(), '<meta charset="windows-1251"><p>Привет</p>'.encode("cp1251"))
    assert parsed.text == "Привет" and "windows-1251" in parsed.notes[0]


def test_tables_name_every_cell() -> None:
    assert parse(CsvParser(), b"item;price\nStove;3\nPan;4\n").text.split("\n")[1:] == [
        "item: Stove | price: 3", "item: Pan | price: 4"]  # fmt: skip
    assert parse(JsonParser(), b'{"a": {"b": [{"c": 1}, {"c": null}]}, "d": [1, 2]}').text == "a.b[1].c: 1\nd: 1, 2"
    lines = parse(JsonParser(), b'{"id": 1}\n{"id": 2}\n', "application/x-ndjson")
    assert lines.text == "id: 1\nid: 2"


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ParseFailed) as error:
        parse(JsonParser(), b"[" * 200_000)
    assert error.value.kind == "malformed"


def test_word_structure() -> None:
    assert parts(parse(DocxParser(), WORD)) == [
        ("heading", "Returns"), ("paragraph", "Within 45 days."), ("list", "- one"), ("table", "Item\nStove"),
    ]  # fmt: skip


def test_a_zip_bomb_is_not_unfolded() -> None:
    bomb = docx("<w:p/>" * 5_000_000)
    assert len(bomb) < 200_000
    with pytest.raises(ParseFailed) as error:
        parse(DocxParser(), bomb)
    assert error.value.kind == "expansion"


def test_entities_are_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("word/document.xml", '<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>')
    with pytest.raises(ParseFailed) as error:
        parse(DocxParser(), out.getvalue())
    assert error.value.kind == "malformed"


def test_pdf_pages_and_failures() -> None:
    parsed = parse(PdfParser(), pdf("First page.", "", "Third page."))
    assert [(b.page, parsed.text[b.start : b.end]) for b in parsed.blocks] == [(1, "First page."), (3, "Third page.")]
    assert parsed.notes == ("pages without text: 2",)
    for data, kind in ((ENCRYPTED, "encrypted"), (b"%PDF-1.7 junk", "malformed")):
        with pytest.raises(ParseFailed) as error:
            parse(PdfParser(), data)
        assert error.value.kind == kind


@pytest.mark.parametrize(
    ("data", "text", "note"),
    [
        ("héllo".encode(), "héllo", None),
        (b"\xef\xbb\xbfx", "x", None),
        ("नमस्ते 世界 שלום".encode(), "नमस्ते 世界 שלום", None),
        ("hello".encode("utf-16"), "hello", "encoding: utf-16"),
        ("hello world".encode("utf-16-le"), "hello world", "encoding: utf-16-le guessed"),
        ("hello world".encode("utf-16-be"), "hello world", "encoding: utf-16-be guessed"),
        (b"a\r\nb\rc", "a\nb\nc", "line ends: normalised"),
    ],
)
def test_encodings(data: bytes, text: str, note: str | None) -> None:
    assert decode(data) == (text, (note,) if note else ())


def test_a_guess_is_noted_and_binary_is_refused() -> None:
    text, notes = decode("Das Mädchen grüßt die Bäckerei für die schönen Brötchen.".encode("cp1252"))
    assert "Mädchen grüßt" in text and "guessed" in notes[0]
    for junk in (bytes(range(256)) * 4, b"\x7fELF\x01\x01\x01\x00\x00\x00"):
        with pytest.raises(ParseFailed) as error:
            decode(junk)
        assert error.value.kind == "unsupported"


def test_first_bytes_know_better_than_the_name() -> None:
    assert sniff(b"%PDF-1.7", "text/plain") == "application/pdf"
    assert sniff(b"PK\x03\x04...", DOCX) == DOCX
    assert sniff(b"PK\x03\x04...", "text/plain") == "application/zip"
    assert sniff(b"<!DOCTYPE html><p>", "application/octet-stream") == "text/html"
    assert sniff(b"<!DOCTYPE html>", "text/markdown") == "text/markdown"


def test_too_much_text_stops_at_once() -> None:
    out = TextBuilder(limit=10)
    with pytest.raises(ParseFailed) as error:
        out.add("paragraph", "x" * 11)
    assert error.value.kind == "expansion"
