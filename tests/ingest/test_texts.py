"""Texts in any encoding, and the formats that are text: tables, data, markup, pages, notebooks."""

from __future__ import annotations

import json
import time

import pytest

from drystone.errors import ParseFailed
from drystone.ingest.parsers.html import HtmlParser
from drystone.ingest.parsers.html import render as page
from drystone.ingest.parsers.markdown import render as markdown
from drystone.ingest.parsers.markup import AsciidocParser, OrgParser, RstParser
from drystone.ingest.parsers.notebook import NotebookParser
from drystone.ingest.parsers.tabular import LARGE, CsvParser, JsonParser, LargeCsvParser, headed
from drystone.ingest.parsers.tex import TexParser
from drystone.ingest.parsers.text import decode, decode_as
from drystone.ingest.parsers.xml import XmlParser
from drystone.records import Parsed, Reading
from drystone.testing import check_parser

SENTENCES = {
    "Das Mädchen grüßt die Bäckerei für die schönen Brötchen.": ("cp1252", "iso-8859-15", "cp850"),
    "Le contrat a été signé à l'hôtel, où ça coûte très cher.": ("cp1252", "cp850"),
    "¿Cuándo llegará la próxima edición? El señor Muñoz pagó.": ("cp1252",),
    "Zażółć gęślą jaźń. Należność zostanie zwrócona na rachunek.": ("cp1250", "iso-8859-2"),
    "Příliš žluťoučký kůň úpěl ďábelské ódy. Děkujeme za zájem.": ("cp1250",),
    "Договор вступает в силу с момента подписания.": ("cp1251", "koi8-r", "cp866", "iso-8859-5"),
    "Η σύμβαση τίθεται σε ισχύ από την υπογραφή της.": ("cp1253", "iso-8859-7"),
    "Sözleşme imzalandığı tarihte yürürlüğe girer, teşekkür ederiz.": ("cp1254",),
    "החוזה נכנס לתוקף עם חתימתו. תודה שבחרתם בנו.": ("cp1255",),
    "يدخل العقد حيز التنفيذ عند التوقيع. شكرا لكم.": ("cp1256",),
    "契約は署名の日から有効になります。お問い合わせはこちら。": ("shift_jis", "euc-jp", "iso-2022-jp"),
    "合同自签字之日起生效。买方可以在三十天内退货。": ("gb18030", "utf-16-le", "utf-32-be"),
    "合約自簽字之日起生效。買方可以在三十天內退貨。": ("big5",),
    "계약은 서명한 날부터 효력이 발생합니다. 감사합니다.": ("euc-kr",),
    "สัญญามีผลบังคับใช้ตั้งแต่วันที่ลงนาม ขอบคุณ": ("cp874",),
}


def parts(parsed: Parsed) -> list[tuple[str, str]]:
    return [(b.kind, parsed.text[b.start : b.end]) for b in parsed.blocks]


def places(parsed: Parsed) -> list[str]:
    return [b.place for b in parsed.blocks if b.kind == "table"]


def read(parser: object, data: bytes | str, media_type: str = "", **reading: int) -> Parsed:
    raw = data.encode() if isinstance(data, str) else data
    more = {"reading": Reading(**reading)} if reading else {}  # type: ignore[arg-type]
    return parser.parse(raw, name="x", media_type=media_type, **more)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(("text", "encoding"), [(t, e) for t, encodings in SENTENCES.items() for e in encodings])
def test_encodings_are_found_and_said(text: str, encoding: str) -> None:
    text = f"{text}\n{text}"
    found, notes = decode(text.encode(encoding))
    assert found == text and "guessed" in notes[0]


def test_what_a_document_says_of_its_encoding() -> None:
    assert decode_as("Договор".encode("cp1251"), "windows-1251", "the page") == (
        "Договор",
        ("encoding: windows-1251 as the page says",),
    )
    assert decode_as("Ünï".encode(), "gb2312", "x") == ("Ünï", ())
    assert decode_as("契約".encode("iso-2022-jp"), "iso-2022-jp", "x")[0] == "契約"
    assert decode_as(b"<p>x", "utf-16", "x")[0] == "<p>x"
    assert decode_as(b"abc", "no-such", "the page")[1] == ("encoding: the page names one that does not exist",)
    assert decode(b"Hello\0 there, " * 20)[1] == () or "zero bytes" in decode(b"Hello there, " * 20 + b"\0")[1][0]


@pytest.mark.parametrize(
    ("parser", "sample"),
    [(XmlParser(), b"<a><b>x</b><b>y</b></a>"), (RstParser(), b"T\n=\n\n- a\n\n.. note:: b\n"), (OrgParser(), b"* T\n- a\n"),
     (AsciidocParser(), b"= T\n\n|===\n|a |b\n|===\n"), (TexParser(), b"\\section{T} $x$ \\begin{itemize}\\item a\\end{itemize}"),
     (NotebookParser(), b'{"cells": [{"cell_type": "markdown", "source": ["# T"]}]}')],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_every_parser_keeps_its_promises(parser: object, sample: bytes) -> None:
    check_parser(parser, [sample])  # type: ignore[arg-type]


# Tables and data


@pytest.mark.parametrize(
    ("data", "lines", "note"),
    [
        ("a;b\n1,5;2\n", ["a | b", "a: 1,5 | b: 2"], ""),
        ('a,b\n"x\ny","1,2"\n', ["a | b", "a: x y | b: 1,2"], ""),
        ("1,2,3\na,b,c\nd,e,f\n", ["1 | 2 | 3", "1: a | 2: b | 3: c", "1: d | 2: e | 3: f"], ""),
        ("1,2\n3,4\n", ["1 | 2", "3 | 4"], "csv: no header"),
        ("a,b\n1\n1,2,3\n", ["a | b", "a: 1", "a: 1 | b: 2 | 3"], "csv: rows of different lengths"),
        ("name\nAnn\nBob\n", ["name", "name: Ann", "name: Bob"], ""),
        ("a|b|c\nx|y, z|w\n", ["a | b | c", "a: x | b: y, z | c: w"], ""),
        ("id,id\n1,2\n", ["id | id", "id: 1 | id: 2"], ""),
    ],
)
def test_csv(data: str, lines: list[str], note: str) -> None:
    parsed = read(CsvParser(), data, "text/csv")
    assert parsed.text.split("\n") == lines and parsed.notes == ((note,) if note else ())


def test_rows_keep_their_cells() -> None:
    parsed = read(CsvParser(), "a,b\n1,2\n\n3,4\n", "text/csv")
    assert places(parsed) == ["table=1&cells=A1:B2", "table=1&cells=A4:B4"]


def test_a_header_that_would_make_too_much_text_is_written_once() -> None:
    data = "a_very_long_name_of_a_column,another_long_name\n" + "1,2\n" * 1000
    parsed = read(CsvParser(), data, "text/csv", text=20_000)
    assert parsed.text.count("another_long_name") == 1 and "written once" in parsed.notes[0]


def test_what_is_large_is_read_where_there_is_time() -> None:
    data = b"a,b\n" + bytes(1) * LARGE
    with pytest.raises(ParseFailed) as error:
        read(CsvParser(), data, "text/csv")
    assert error.value.kind == "slow" and CsvParser.slow.endswith(":LargeCsvParser") and not LargeCsvParser.slow


def test_headers_are_found() -> None:
    assert headed([["Year", "Sum"], ["2024", "3"]]) and headed([["Name"], ["Ann"]]) and headed([["1"], ["a"]])
    assert (
        not headed([["2024", "3"], ["2025", "4"]])
        and not headed([["a"]])
        and not headed([["a", "b"], ["a", "c"], ["a", "d"]])
    )


def test_json_by_line() -> None:
    parsed = read(JsonParser(), '{"a": 1}\nbroken\n{"a": 2}\n', "application/x-ndjson")
    assert parsed.text == "a: 1\nbroken\na: 2" and parsed.notes == ("lines that are not JSON: 1",)
    with pytest.raises(ParseFailed):
        read(JsonParser(), "no\nno\n", "application/x-ndjson")


# Pages


def test_cells_stand_where_their_spans_put_them() -> None:
    parsed = page("<table><tr><th>Year<th colspan=2>Sum</tr><tr><th><th>EUR<th>USD</tr>"
                  "<tr><td rowspan=2>2025<td>1<td>2</tr><tr><td>3<td>4</tr></table>")  # fmt: skip
    assert parsed.text.split("\n") == ["Year | Sum EUR | Sum USD", "Year: 2025 | Sum EUR: 1 | Sum USD: 2",
                                       "Year: 2025 | Sum EUR: 3 | Sum USD: 4"]  # fmt: skip
    assert places(parsed) == ["table=1", "table=1&cells=A3:C4"]


def test_tables_that_lay_out_are_content_and_nested_ones_are_kept() -> None:
    layout = page("<table><tr><td><h1>Title</h1><p>One.</p><p>Two.</p></td></tr></table>")
    assert [kind for kind, _ in parts(layout)] == ["heading", "paragraph", "paragraph"]
    nested = page("<table><tr><th>A<th>B</tr><tr><td>x<td><table><tr><td>1<td>2</tr></table></tr></table>")
    assert nested.text == "A | B\nA: x | B: 1 2"


def test_what_a_page_hides_is_left_out() -> None:
    assert page("<p>a<p style='display:none'>b<p hidden>c<p STYLE='color:red; DISPLAY: none'>d<p>e").text == "a\n\ne"
    assert page("<body><noscript>Please switch on scripts.</noscript><p>Text</p>").text == "Text"
    lone = page("<body><noscript><p>All there is.</p></noscript></body>")
    assert lone.text == "All there is." and lone.notes


@pytest.mark.parametrize("tags", ["<div>", "<div><p>", "<table><tr><td>", "<custom>", "<b><p>", "<ul><li>"])
def test_pages_of_any_depth_in_time(tags: str) -> None:
    started = time.perf_counter()
    parsed = page(tags * 8_000 + "deep")
    assert "deep" in parsed.text and "flattened" in parsed.notes[0] and time.perf_counter() - started < 5


def test_descriptions_links_and_captions() -> None:
    parsed = page("<dl><dt>CPU<dd>The brain</dl><figure><img alt='A duck'><figcaption>Fig 1</figcaption></figure>"
                  "<p><a href='https://x.example/a'>Form</a> <a href='/local'>here</a></p>")  # fmt: skip
    assert parts(parsed) == [("list", "- CPU"), ("list", "The brain"), ("paragraph", "A duck"), ("paragraph", "Fig 1"),
                             ("paragraph", "Form (https://x.example/a) here")]  # fmt: skip
    assert read(HtmlParser(), b"<meta charset=nonsense><p>x").notes == (
        "encoding: the page names one that does not exist",
    )


def test_markdown_with_everything() -> None:
    parsed = markdown("See [docs][d] and [d], note[^1].<br>New\n\n<table><tr><th>A</tr>\n\n<tr><td>1</tr></table>\n\n"
                      "| a | b |\n|---|---|\n| 1 | 2 |\n\n[^1]: The note.\n[d]: https://x.example\n")  # fmt: skip
    assert parts(parsed) == [
        ("paragraph", "See docs (https://x.example) and d (https://x.example), note[1].\nNew"), ("table", "A\nA: 1"),
        ("table", "a | b\na: 1 | b: 2"), ("paragraph", "[1] The note.")]  # fmt: skip
    assert places(parsed) == ["table=1&cells=A1:A2", "table=2&cells=A1:B2"]


# XML


def test_xml_as_data_and_as_a_document() -> None:
    data = '<c owner="Ann"><book id="1"><t>X</t></book><book id="2"><t>Y</t></book><end>z</end></c>'
    assert read(XmlParser(), data).text == "owner: Ann\nid: 1 | t: X\nid: 2 | t: Y\nend: z"
    book = (
        "<book><title>M</title><chapter><title>C</title><para>One <em>two</em>.</para><para>B</para></chapter></book>"
    )
    assert parts(read(XmlParser(), book)) == [
        ("heading", "M"),
        ("heading", "C"),
        ("paragraph", "One two."),
        ("paragraph", "B"),
    ]


def test_xml_asks_for_nothing_and_unfolds_nothing() -> None:
    for entity in ('a "aaaa"', 'a SYSTEM "file:///etc/passwd"', '% a SYSTEM "http://x.example/a.dtd"'):
        with pytest.raises(ParseFailed) as error:
            read(XmlParser(), f"<!DOCTYPE x [<!ENTITY {entity}>]><x>&a;</x>")
        assert error.value.kind == "malformed"
    assert read(XmlParser(), '<!DOCTYPE x SYSTEM "file:///etc/passwd"><x>a&nbsp;b</x>').text == "x: a b"
    assert read(XmlParser(), "<x><y>").notes == ("xml: not well-formed, read as plain text",)
    assert "x" in read(XmlParser(), "<a>" * 20_000 + "x" + "</a>" * 20_000).text


def test_articles_feeds_drawings_and_reports() -> None:
    article = ("<article><front><article-meta><title-group><article-title>T</article-title></title-group><contrib-group><contrib>"
               "<name><surname>Doe</surname><given-names>Ann</given-names></name></contrib></contrib-group><abstract><p>Short.</p>"
               "</abstract></article-meta></front><body><sec><title>Intro</title><p>Text <xref>1</xref>.</p><table-wrap><label>Table 1"
               "</label><caption><p>Cap</p></caption><table><tr><th>A</th></tr><tr><td>1</td></tr></table></table-wrap></sec></body>"
               "<back><ref-list><title>References</title><ref><mixed-citation>Doe. <year>2020</year>.</mixed-citation></ref></ref-list>"
               "</back></article>")  # fmt: skip
    assert parts(read(XmlParser(), article)) == [
        ("heading", "T"), ("paragraph", "Ann Doe"), ("heading", "Abstract"), ("paragraph", "Short."), ("heading", "Intro"),
        ("paragraph", "Text 1."), ("paragraph", "Table 1 Cap"), ("table", "A\nA: 1"), ("heading", "References"),
        ("list", "- Doe. 2020.")]  # fmt: skip
    feed = "<rss><channel><title>News</title><item><title>One</title><description>&lt;p&gt;Hello&lt;/p&gt;</description></item></channel></rss>"
    assert parts(read(XmlParser(), feed)) == [("heading", "News"), ("heading", "One"), ("paragraph", "Hello")]
    assert (
        read(XmlParser(), "<svg><text>Hello <tspan>there</tspan></text></svg>", "image/svg+xml").text == "Hello there"
    )
    report = ('<xbrl><context id="c"><period><instant>2025-12-31</instant></period></context><unit id="u"><measure>iso4217:USD</measure>'
              '</unit><NetIncomeLoss contextRef="c" unitRef="u">5</NetIncomeLoss><PolicyTextBlock contextRef="c">&lt;p&gt;We.&lt;/p&gt;'
              "</PolicyTextBlock></xbrl>")  # fmt: skip
    assert read(XmlParser(), report).text == "We.\n\nNet Income Loss: 5 USD (2025-12-31)"


# Markup


def test_rst() -> None:
    source = ("Title\n=====\n\n:Author: Ann\n\n*A* ``b`` `c <https://x.example>`_ [1]_.\n\n- one\n- two\n\nCode::\n\n    x = 1\n\n"
              ".. note:: Be careful.\n\n.. include:: other.rst\n\n+---+---+\n| A | B |\n+===+===+\n| 1 | 2 |\n+---+---+\n\n"
              ".. hidden\n\n.. [1] Foot.\n")  # fmt: skip
    parsed = read(RstParser(), source)
    assert parts(parsed) == [
        ("heading", "Title"), ("paragraph", "Author: Ann"), ("paragraph", "A b c (https://x.example) [1]."), ("list", "- one"),
        ("list", "- two"), ("paragraph", "Code:"), ("code", "x = 1"), ("paragraph", "Note: Be careful."),
        ("table", "A | B\nA: 1 | B: 2"), ("paragraph", "[1] Foot.")]  # fmt: skip
    assert parsed.notes == ("files to include left out: 1",)


def test_asciidoc() -> None:
    source = ("= Title\n:url: https://x.example\n\nSee {url}[site] and *bold*.\n\n== Part\n\n* one\n** two\n\nCPU:: Brain\n\n"
              '[cols="1,1"]\n|===\n|A |B\n\n.2+|tall |1\n|2\n|===\n\n----\nx = 1\n----\n\n// hidden\n')  # fmt: skip
    assert parts(read(AsciidocParser(), source)) == [
        ("heading", "Title"), ("paragraph", "See site (https://x.example) and bold."), ("heading", "Part"), ("list", "- one"),
        ("list", "- two"), ("list", "- CPU: Brain"), ("table", "A | B\nA: tall | B: 1\nA: tall | B: 2"), ("code", "x = 1")]  # fmt: skip


def test_org() -> None:
    source = "#+TITLE: T\n* Head :tag:\n:PROPERTIES:\n:ID: x\n:END:\nSome /text/ [[https://x.example][link]].\n- one\nAfter.\n| A | B |\n|---+---|\n| 1 | 2 |\n#+BEGIN_SRC\nx\n#+END_SRC\n"
    parsed = read(OrgParser(), source)
    assert parsed.title == "T" and parts(parsed) == [
        ("heading", "T"), ("heading", "Head"), ("paragraph", "Some text link (https://x.example)."), ("list", "- one"),
        ("paragraph", "After."), ("table", "A | B\nA: 1 | B: 2"), ("code", "x")]  # fmt: skip


def test_latex() -> None:
    source = (r"\documentclass{article}\newcommand{\us}{Acme}\title{T}\begin{document}\maketitle % hidden" "\n"
              r"\section{Intro \emph{now}} \us{} pays \textbf{5\,\%}~\cite{doe}, caf\'e, na\"{\i}ve. $a_1$" "\n\n"
              r"\begin{enumerate}\item one\item two\end{enumerate}\begin{tabular}{|l|r|}\hline A & B \\ \hline 1 & 2 \\ \end{tabular}"
              r"\begin{verbatim}" "\nx = 1\n" r"\end{verbatim}\input{other}\end{document} after")  # fmt: skip
    parsed = read(TexParser(), source)
    assert parsed.title == "T" and parsed.notes == ("files to include left out: 1",)
    assert parts(parsed) == [
        ("heading", "T"), ("heading", "Intro now"), ("paragraph", "Acme pays 5 % [doe], café, naïve. $a_1$"), ("list", "1. one"),
        ("list", "2. two"), ("table", "A | B\nA: 1 | B: 2"), ("code", "x = 1")]  # fmt: skip


@pytest.mark.parametrize("source", ["\\section{", "{", "\\item[", "\\begin{equation}", "\\def\\x", "$$a", "\\'{"])
def test_latex_takes_anything_in_time(source: str) -> None:
    started = time.perf_counter()
    read(TexParser(), source * 5000)
    assert time.perf_counter() - started < 3


def test_notebooks() -> None:
    book = {"cells": [
        {"cell_type": "markdown", "source": ["# Head\n", "Text"]},
        {"cell_type": "code", "source": "x = 1", "outputs": [
            {"output_type": "stream", "text": ["one\n", "\x1b[31mred\x1b[0m"]},
            {"output_type": "display_data", "data": {"image/png": "xxx", "text/plain": "<Figure>"}},
            {"output_type": "execute_result", "data": {"text/html": "<table><tr><th>A</tr><tr><td>1</tr></table>"}}]}]}  # fmt: skip
    parsed = read(NotebookParser(), json.dumps(book))
    assert parts(parsed) == [
        ("heading", "Head"),
        ("paragraph", "Text"),
        ("code", "x = 1"),
        ("code", "one\nred"),
        ("table", "A\nA: 1"),
    ]
    assert parsed.notes == ("outputs that are no text left out: 1",)
    for junk in ("[]", "{", '{"cells": 3}'):
        with pytest.raises(ParseFailed):
            read(NotebookParser(), junk)


def test_a_heading_of_org_with_a_long_run_of_spaces_is_read_at_once() -> None:
    parsed = read(OrgParser(), "* Hello" + " " * 200_000 + "x\n* Plan   :work:now:\n")
    assert [parsed.text[b.start : b.end] for b in parsed.blocks][1] == "Plan"
