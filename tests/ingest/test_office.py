"""Office documents: what is read, where it says that it stands, and what it refuses. Every document is built in code."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from drystone.errors import ParseFailed
from drystone.ingest.media import DOC, DOCX, ENCRYPTED, ODT, PPTX, UNKNOWN, XLS, XLSB, XLSX, media_type, sniff
from drystone.ingest.parsers import ooxml, sheets
from drystone.ingest.parsers.docx import DocxParser
from drystone.ingest.parsers.encrypted import EncryptedParser, LargeEncryptedParser
from drystone.ingest.parsers.epub import EpubParser
from drystone.ingest.parsers.legacy import DocParser, PptParser
from drystone.ingest.parsers.odf import OdfParser
from drystone.ingest.parsers.rtf import RtfParser
from drystone.ingest.parsers.sheets import LargeXlsxParser, XlsParser, XlsxParser, shown
from drystone.ingest.parsers.slides import PptxParser
from drystone.records import Parsed, Reading
from drystone.testing import check_parser
from tests.ingest.build_office import (
    S,
    W,
    book,
    doc,
    epub,
    locked,
    odf,
    odf_flat,
    odf_locked,
    p,
    ppt,
    relations,
    row,
    slides,
    sp,
    tbl,
    tc,
    word,
    xls,
    xlsb,
    zipped,
)  # fmt: skip


def parts(parsed: Parsed) -> list[tuple[str, str]]:
    return [(b.kind, parsed.text[b.start : b.end]) for b in parsed.blocks]


def places(parsed: Parsed) -> list[tuple[str, str]]:
    return [(b.place, parsed.text[b.start : b.end]) for b in parsed.blocks]


def parse(parser: Any, data: bytes, **more: Any) -> Parsed:
    return parser.parse(data, name="x", media_type="", **more)  # type: ignore[no-any-return]


def refused(parser: Any, data: bytes, **more: Any) -> str:
    with pytest.raises(ParseFailed) as error:
        parse(parser, data, **more)
    return error.value.kind


# --- Word -----------------------------------------------------------------------------------------
NUMBERING = (
    f'<w:numbering {W}><w:abstractNum w:abstractNumId="1">'
    '<w:lvl w:ilvl="0"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>'
    '<w:lvl w:ilvl="1"><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%1.%2)"/></w:lvl></w:abstractNum>'
    '<w:abstractNum w:abstractNumId="2"><w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/><w:lvlText w:val="o"/></w:lvl>'
    '</w:abstractNum><w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="2"/>'
    '</w:num><w:num w:numId="3"><w:abstractNumId w:val="1"/><w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/>'
    "</w:lvlOverride></w:num></w:numbering>"
)


def num(number: int, level: int = 0) -> str:
    return f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'


def test_word_numbers_its_lists_and_headings() -> None:
    styles = (
        f'<w:styles {W}><w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>'
        '<w:style w:type="paragraph" w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="berschrift1"/></w:style></w:styles>'
    )
    body = (
        p("Umfang", "berschrift1", num(1)) + p("Eins", "", num(1)) + p("Unter", "", num(1, 1)) + p("") + p("Drei", "", num(1))
        + p("Punkt", "", num(2)) + p("Sieben", "", num(3)) + p("Eigene", "Mine") + p("Text.")
    )  # fmt: skip
    assert parts(parse(DocxParser(), word(body, styles=styles, numbering=NUMBERING))) == [
        ("heading", "1. Umfang"), ("list", "2. Eins"), ("list", "2.a) Unter"), ("list", "3. Drei"), ("list", "- Punkt"),
        ("list", "7. Sieben"), ("heading", "Eigene"), ("paragraph", "Text."),
    ]  # fmt: skip


def test_word_tables_fill_merged_cells_and_keep_their_place() -> None:
    span, start, on = '<w:gridSpan w:val="2"/>', '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    table = tbl(
        [tc("Region"), tc("Sales"), tc("Costs")], [tc("North", start), tc("10"), tc("4")],
        [tc("", on), tc("both", span)], [tc("South"), tc("12"), tc(tbl([tc("a"), tc("b")], [tc("c"), tc("d")]) + p("end"))],
    )  # fmt: skip
    parsed = parse(DocxParser(), word(table + tbl([tc(p("In a frame.") + p("Twice."))])))
    assert places(parsed) == [
        ("table=1&cells=A1:C4", "Region | Sales | Costs\nRegion: North | Sales: 10 | Costs: 4\n"
         "Region: North | Sales: both | Costs: both\nRegion: South | Sales: 12 | Costs: a b; c d; end"),
        ("", "In a frame."), ("", "Twice."),
    ]  # fmt: skip


def test_word_keeps_what_hangs_on_a_text() -> None:
    box = f"<w:txbxContent>{p('Boxed.')}</w:txbxContent>"
    body = (
        '<w:p><w:hyperlink r:id="h"><w:r><w:t>the portal</w:t></w:r></w:hyperlink><w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
        f"<w:p><w:r><mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r></w:p>"
        '<w:p><w:r><w:drawing><wp:inline><wp:docPr id="1" descr="A wall. AI-generated content may be incorrect."/>'
        '<a:blip r:embed="i"/></wp:inline></w:drawing></w:r></w:p>'
        "<w:p><w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:ins><w:r><w:t>new</w:t></w:r></w:ins>"
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r></w:p>"
        "<w:p><m:oMath><m:f><m:num><m:r><m:t>a</m:t></m:r></m:num><m:den><m:r><m:t>b</m:t></m:r></m:den></m:f></m:oMath></w:p>"
    )
    notes = (
        f'<w:footnotes {W}><w:footnote w:id="0" w:type="separator">{p("-")}</w:footnote><w:footnote w:id="2">'
        f"{p('A note.')}</w:footnote></w:footnotes>"
    )
    comments = f'<w:comments {W}><w:comment w:id="1" w:author="Bo">{p("Why?")}</w:comment></w:comments>'
    header = f"<w:hdr {W}>{p('Policy QM-7')}{p('3')}</w:hdr>"
    rels = relations(h=("hyperlink", "https://shop.example/r"), e=("header", "header1.xml"), f=("header", "header2.xml"),
                     x=("package", "embeddings/book.xlsx"))  # fmt: skip
    inside = {"embeddings/book.xlsx": SAMPLES["xlsx"][1]}
    data = word(body, inside, footnotes=notes, comments=comments, header1=header, header2=header, rels=rels)
    parsed = parse(DocxParser(), data)
    assert [(part.name, part.data) for part in parsed.parts] == [("book.xlsx", SAMPLES["xlsx"][1])]
    assert places(parsed) == [
        ("", "the portal (https://shop.example/r)[2]"), ("", "Boxed."), ("", "[A wall.]"), ("", "new"), ("", "\\frac{a}{b}"),
        ("", "[2] A note."), ("part=comments", "Comment by Bo: Why?"), ("part=headers", "Policy QM-7"),
    ]  # fmt: skip
    assert parsed.notes == (
        "hidden text: 1 not read", "pictures: 1 not read", "tracked changes: 1 not read",
    )  # fmt: skip


def test_word_of_any_depth() -> None:
    deep = "<w:sdt><w:sdtContent>" * 20_000 + p("deep") + "</w:sdtContent></w:sdt>" * 20_000
    assert parse(DocxParser(), word(deep)).text == "deep"
    tables = "<w:tbl><w:tr><w:tc>" * 5_000 + p("deep") + "</w:tc></w:tr></w:tbl>" * 5_000
    assert parse(DocxParser(), word(tables)).text == "deep"


# --- PowerPoint -----------------------------------------------------------------------------------
def cells(*texts: str, **about: str) -> str:
    said = " ".join(f'{k}="{v}"' for k, v in about.items())
    return "".join(f"<a:tc {said}><a:txBody><a:p><a:r><a:t>{t}</a:t></a:r></a:p></a:txBody></a:tc>" for t in texts)


CHART = (
    '<c:chartSpace xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"><c:chart><c:plotArea><c:barChart><c:ser>'
    "<c:tx><c:strRef><c:strCache><c:pt idx='0'><c:v>Stoves</c:v></c:pt></c:strCache></c:strRef></c:tx><c:cat><c:strRef><c:strCache>"
    "<c:pt idx='0'><c:v>Q1</c:v></c:pt><c:pt idx='1'><c:v>Q2</c:v></c:pt></c:strCache></c:strRef></c:cat><c:val><c:numRef>"
    "<c:numCache><c:pt idx='0'><c:v>4</c:v></c:pt><c:pt idx='1'><c:v>4.2999999999999998</c:v></c:pt></c:numCache></c:numRef>"
    "</c:val></c:ser></c:barChart></c:plotArea></c:chart></c:chartSpace>"
)


def test_slides_in_order_with_their_number() -> None:
    rows = "".join(f"<a:tr>{r}</a:tr>" for r in (
        cells("Item", "Price"), cells("Stove", rowSpan="2") + cells("3"), cells("", vMerge="1") + cells("5")))  # fmt: skip
    frame = f'<p:graphicFrame><a:graphic><a:graphicData uri="t"><a:tbl>{rows}</a:tbl></a:graphicData></a:graphic></p:graphicFrame>'
    chart = (
        '<p:graphicFrame><a:graphic><a:graphicData uri="c"><c:chart xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"'
        ' r:id="chart"/></a:graphicData></a:graphic></p:graphicFrame>'
    )
    number = '<a:buAutoNum type="arabicPeriod"/>'
    group = f"<p:grpSp><p:grpSpPr><a:xfrm><a:off x='5' y='1000000'/></a:xfrm></p:grpSpPr>{sp('right', '', 5, 900)}{sp('left', '', 5, 1)}</p:grpSp>"
    first = (
        sp("Below", "", 9_000_000, 5)
        + group
        + sp("Plan für 2027", "title")
        + sp("one\ntwo", "", 3_000_000, 1, number)
        + frame
        + chart
    )
    deck = slides(first, sp("Second", "title") + sp("a\nb", "body") + sp("2", "sldNum"), notes={1: "Say\nhello."},
                  hidden=[2], chart=CHART)  # fmt: skip
    parsed = parse(PptxParser(), deck)
    assert places(parsed) == [
        ("slide=1", "Plan für 2027"), ("slide=1", "left"), ("slide=1", "right"), ("slide=1", "1. one"), ("slide=1", "2. two"),
        ("slide=1", "Below"), ("slide=1&table=1&cells=A1:B3", "Item | Price\nItem: Stove | Price: 3\nItem: Stove | Price: 5"),
        ("slide=1&table=2&cells=A1:B3", "Stoves\nQ1 | Stoves: 4\nQ2 | Stoves: 4.3"), ("slide=1", "Notes: Say\nhello."),
        ("slide=2", "Second"), ("slide=2", "- a"), ("slide=2", "- b"),
    ]  # fmt: skip
    assert all(b.page is None for b in parsed.blocks) and parsed.notes == ("hidden slides: 1 read too",)


# --- Excel ----------------------------------------------------------------------------------------
def test_sheets_with_cells_as_place() -> None:
    prices = (
        row(2, ("B", "Prices of 2027"))
        + row(3, ("B", "Item"), ("C", "Price"), ("D", "Since"))
        + row(4, ("B", "Stove"), ("C", 1234.5), style=1)[:-6]
        + '<c r="D4" s="2"><v>45352</v></c></row>'
        + row(5, ("B", "Pan & lid".replace("&", "&amp;")), ("C", 0.5), style=1, more=' hidden="1"')
        + '<row r="9"><c r="A9" t="s"><v>0</v></c><c r="B9" t="b"><v>1</v></c><c r="C9" t="str"><f>A1</f><v>done</v></c>'
        '<c r="D9"><f>SUM(A1)</f></c></row>'
    )
    merged = '<mergeCells count="1"><mergeCell ref="A1:B1"/><mergeCell ref="A2:A3"/></mergeCells>'
    regions = (
        row(1, ("A", "Both"), ("C", "Rest")) + row(2, ("A", "North"), ("B", 1), ("C", 2)) + row(3, ("B", 3), ("C", 4))
    )
    comments = f'<comments {S}><authors><author>Bo</author></authors><commentList><comment ref="C4" authorId="0"><text><t>Sure?</t></text></comment></commentList></comments>'
    data = book(
        {"Preise & mehr".replace("&", "&amp;"): prices, "Merged": f"{regions}|{merged}"},
        ['#,##0.00&quot; €&quot;', "dd.mm.yyyy"], ["yes"], ["Merged"],
        {"Preise & mehr".replace("&", "&amp;"): {"comments": comments}},
    )  # fmt: skip
    parsed = parse(XlsxParser(), data)
    assert places(parsed) == [
        ("sheet=Preise %26 mehr", "Preise & mehr"), ("sheet=Preise %26 mehr&cells=B2", "Prices of 2027"),
        ("sheet=Preise %26 mehr&cells=B3:D5", "Item | Price | Since\nItem: Stove | Price: 1,234.50 € | Since: 01.03.2024\n"
         "Item: Pan & lid | Price: 0.50 €"),
        ("sheet=Preise %26 mehr&cells=A9:C9", "yes | TRUE | done"),
        ("sheet=Preise %26 mehr&cells=C4", "Comment on C4 by Bo: Sure?"),
        ("sheet=Merged", "Merged"),
        ("sheet=Merged&cells=A1:C3", "Both | Both | Rest\nBoth: North | Both: 1 | Rest: 2\nBoth: North | Both: 3 | Rest: 4"),
    ]  # fmt: skip
    assert parsed.notes == (
        "hidden sheets: 1 read too", "hidden rows: 1 read too", "formulas without a stored value: 1 not read",
    )  # fmt: skip


def test_several_tables_on_one_sheet() -> None:
    rows = (
        row(1, ("A", "Item"), ("B", "Price"), ("E", "City"), ("F", "Shops")) + row(2, ("A", "Pan"), ("B", 3), ("E", "Bern"), ("F", 2))
        + row(3, ("A", "Pot"), ("B", 4)) + row(5, ("A", "Lid"), ("B", 5)) + row(8, ("A", "Name"), ("B", "Age")) + row(9, ("A", "Bo"), ("B", 9))
    )  # fmt: skip
    assert places(parse(XlsxParser(), book({"s": rows})))[1:] == [
        ("sheet=s&cells=A1:B3", "Item | Price\nItem: Pan | Price: 3\nItem: Pot | Price: 4"),
        ("sheet=s&cells=E1:F2", "City | Shops\nCity: Bern | Shops: 2"),
        ("sheet=s", "Item | Price"), ("sheet=s&cells=A5:B5", "Item: Lid | Price: 5"),  # an empty row was for the eye
        ("sheet=s&cells=A8:B9", "Name | Age\nName: Bo | Age: 9"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "code", "text"),
    [
        ("0.1", "", "0.1"), ("0.30000000000000004", "General", "0.3"), ("12345678901", "", "12345678901"),
        ("1234.5", "#,##0", "1,235"), ("0.125", "0.0%", "12.5%"), ("-3.5", "0.00;(0.00)", "(3.50)"), ("-3.5", "0.00", "-3.50"),
        ("7", "000", "007"), ("1500000", '0.0,,"M"', "1.5M"), ("5", "0.##", "5"), ("5.256", "0.##", "5.26"),
        ("1000", "[$€-407] #,##0.00", "€ 1,000.00"), ("3", '0 "pcs"', "3 pcs"), ("0", '0;-0;"none"', "none"),
        ("45352", "yyyy-mm-dd", "2024-03-01"), ("45352.75", "d mmm yyyy h:mm AM/PM", "1 Mar 2024 6:00 PM"),
        ("45352.5", "[$-407]d. mmmm yyyy", "2024-03-01 12:00"), ("0.5", "h:mm", "12:00"), ("1.5", "[h]:mm", "36:00"),
        ("1", "yyyy-mm-dd", "1900-01-01"), ("60.4", "mm:ss", "36:00"), ("12", "# ?/?", "12"), ("5", "@", "5"),
        ("1E+400", "0", "1E+400"), ("text", "0", "text"), ("1234567", "0.00E+00", "1.23E+06"), ("1", ";;;", ""),
    ],
)  # fmt: skip
def test_numbers_as_people_see_them(value: str, code: str, text: str) -> None:
    assert shown(value, code) == text


def test_a_long_sheet_streams_and_a_huge_one_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = row(1, ("B", "Item"), ("C", "Price")) + "".join(row(n, ("B", f"i{n}"), ("C", n)) for n in range(2, 4_201))
    data = book({"s": rows + row(4_203, ("B", "after"))})
    parsed = parse(XlsxParser(), data)
    assert [b.place for b in parsed.blocks[1:]] == [
        "sheet=s&cells=B1:C4096", "sheet=s&cells=B4097:C4200", "sheet=s&cells=B4203",
    ]  # fmt: skip
    assert parsed.text.endswith("Item: i4200 | Price: 4200\n\nafter")
    monkeypatch.setattr(sheets, "_SLOW", 1_000)
    assert refused(XlsxParser(), data) == "slow"
    assert parse(LargeXlsxParser(), data) == parsed
    closed = locked(data, "pass")
    assert refused(EncryptedParser(), closed, reading=Reading(passwords=("pass",))) == "slow" and EncryptedParser.slow
    assert parse(LargeEncryptedParser(), closed, reading=Reading(passwords=("pass",))).text == parsed.text


def test_a_sheet_that_claims_to_be_endless() -> None:
    far = row(1, ("A", "a")) + row(1_048_576, ("XFD", "z"))
    assert places(parse(XlsxParser(), book({"s": far})))[1:] == [
        ("sheet=s&cells=A1", "a"),
        ("sheet=s&cells=XFD1048576", "z"),
    ]
    assert refused(XlsxParser(), book({"s": row(1, ("ZZZZZ", "a"))})) == "malformed"


# --- OpenDocument ---------------------------------------------------------------------------------
def cell(text: str, more: str = "") -> str:
    return f"<table:table-cell {more}><text:p>{text}</text:p></table:table-cell>"


TEXT = (
    '<text:h text:outline-level="2">Grüße</text:h><text:p>One<text:s text:c="2"/>two<text:line-break/>three'
    "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>A note.</text:p></text:note-body></text:note></text:p>"
    '<text:list text:style-name="L1"><text:list-item><text:p>first</text:p><text:list><text:list-item><text:p>deep</text:p></text:list-item></text:list>'
    "</text:list-item><text:list-item><text:p>second</text:p></text:list-item></text:list>"
    "<table:table><table:table-header-rows><table:table-row>" + cell("Item") + cell("Price") + "</table:table-row></table:table-header-rows>"
    '<table:table-row><table:table-cell table:number-columns-spanned="2"><text:p>all</text:p></table:table-cell><table:covered-table-cell/></table:table-row>'
    "<table:table-row>" + cell("Pan") + cell("3") + "</table:table-row></table:table>"
    '<text:p><text:a xlink:href="https://x.example">here</text:a><text:span text:style-name="H">secret</text:span></text:p>'
)  # fmt: skip
AUTO = (
    '<text:list-style style:name="L1"><text:list-level-style-number style:num-format="1" style:num-suffix="."/>'
    '<text:list-level-style-bullet/></text:list-style><style:style style:name="H"><style:text-properties text:display="none"/></style:style>'
)
HEADER = "<office:master-styles><style:master-page><style:header><text:p>Confidential</text:p></style:header></style:master-page></office:master-styles>"
ODF_TEXT = [
    ("", "Grüße"), ("", "One two\nthree[1]"), ("", "[1] A note."), ("", "1. first"), ("", "- deep"), ("", "2. second"),
    ("table=1&cells=A1:B3", "Item | Price\nItem: all | Price: all\nItem: Pan | Price: 3"), ("", "here (https://x.example)"),
]  # fmt: skip


def test_open_documents_packed_and_flat() -> None:
    parsed = parse(OdfParser(), odf("text", TEXT, HEADER, AUTO))
    assert places(parsed) == [*ODF_TEXT, ("part=headers", "Confidential")]
    assert parsed.title == "A title" and parsed.notes == ("hidden text: 1 not read",)
    assert places(parse(OdfParser(), odf_flat("text", TEXT, AUTO).encode())) == ODF_TEXT


def test_open_sheets_are_read_as_shown() -> None:
    body = (
        '<table:table table:name="Preise"><table:table-row table:number-rows-repeated="2"/><table:table-row><table:table-cell/>'
        + cell("Item") + cell("Price") + '</table:table-row><table:table-row><table:table-cell table:number-columns-repeated="1"/>'
        + cell("Pan") + cell("3,50 €", 'office:value-type="currency" office:value="3.5"')
        + "</table:table-row><table:table-row table:number-rows-repeated=\"1048000\"><table:table-cell table:number-columns-repeated=\"16384\"/>"
        "</table:table-row></table:table>"
    )  # fmt: skip
    assert places(parse(OdfParser(), odf("spreadsheet", body))) == [
        ("sheet=Preise", "Preise"), ("sheet=Preise&cells=B3:C4", "Item | Price\nItem: Pan | Price: 3,50 €"),
    ]  # fmt: skip


def test_open_presentations() -> None:
    def frame(text: str, y: str, role: str = "") -> str:
        return f'<draw:frame svg:y="{y}" presentation:class="{role}"><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame>'

    notes = "<presentation:notes><draw:frame><draw:text-box><text:p>Say it.</text:p></draw:text-box></draw:frame></presentation:notes>"
    body = f"<draw:page>{frame('low', '9cm')}{frame('high', '4cm')}{frame('Title', '1cm', 'title')}{notes}</draw:page><draw:page>{frame('b', '1cm')}</draw:page>"
    assert places(parse(OdfParser(), odf("presentation", body))) == [
        ("slide=1", "Title"), ("slide=1", "high"), ("slide=1", "low"), ("slide=1", "Notes: Say it."), ("slide=2", "b"),
    ]  # fmt: skip


# --- RTF, EPUB ------------------------------------------------------------------------------------
RICH = (
    rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 Arial;}{\f1\fcharset204 Arial;}{\f2\fcharset128 Mincho;}}"
    rb"{\stylesheet{\s0 Normal;}{\s1 heading 1;}}{\info{\title A \'fc title}}{\*\generator x}"
    rb"{\header\pard Policy QM-7\par}"
    rb"\pard\s1 Umfang\par\pard Gr\'fc\'dfe {\f1 \'cf\'f0\'e8} {\f2\'93\'fa\'96\'7b} \u8364?\u-10179?\u-8704?{\v secret}\chftn{\footnote\chftn  A note.}\par"
    rb"{\listtext 1.\tab}\pard\ls1 first\par{\listtext\'b7\tab}\ls1 point\par\pard "
    rb'{\field{\*\fldinst HYPERLINK "https://x.example"}{\fldrslt here}}\bin4 }{\\ done{\pict 010203}\par'
    rb"\trowd\cellx1000\cellx2000\cellx3000\pard\intbl Item\cell Price\cell Tax\cell\row"
    rb"\trowd\clvmgf\cellx1000\cellx3000\pard\intbl Pan\cell 3\cell\row"
    rb"\trowd\clvmrg\cellx1000\cellx2000\cellx3000\pard\intbl\cell 4\cell 5\cell\row\pard after\par}"
)  # fmt: skip


def test_rich_text() -> None:
    parsed = parse(RtfParser(), RICH)
    assert parts(parsed) == [
        ("heading", "Umfang"), ("paragraph", "Grüße При 日本 €😀[1]"), ("list", "1. first"), ("list", "- point"),
        ("paragraph", "here (https://x.example) done"),
        ("table", "Item | Price | Tax\nItem: Pan | Price: 3 | Tax: 3\nItem: Pan | Price: 4 | Tax: 5"),
        ("paragraph", "after"), ("paragraph", "Policy QM-7"), ("paragraph", "[1] A note."),
    ]  # fmt: skip
    assert parsed.title == "A ü title" and parsed.notes == ("hidden text: 1 not read", "pictures: 1 not read")
    assert [b.place for b in parsed.blocks if b.place] == ["table=1&cells=A1:C3", "part=headers"]
    assert "damaged: its end is missing" in parse(RtfParser(), RICH[:-1]).notes
    assert parse(RtfParser(), rb"{\rtf1 " + b"{" * 100_000 + b"deep" + b"}" * 100_001).text == "deep"


def test_books_in_reading_order() -> None:
    table = "<table><tr><th>Item</th><th>Price</th></tr><tr><td>Pan</td><td>3</td></tr></table>"
    parsed = parse(EpubParser(), epub(f"<h1>One</h1><p>Ünë</p>{table}", f"<a id='x'/><h1>Two</h1>{table}"))
    assert [text for _, text in parts(parsed)] == [
        "One", "Ünë", "Item | Price\nItem: Pan | Price: 3", "Two", "Item | Price\nItem: Pan | Price: 3",
    ]  # fmt: skip
    assert parsed.title == "A book"


def test_a_protected_book_is_encrypted_and_a_scrambled_font_is_not() -> None:
    about = (
        '<encryption xmlns="urn:c"><EncryptedData><EncryptionMethod Algorithm="{}"/><CipherData><CipherReference URI="OPS/text/c0.xhtml"/>'
        "</CipherData></EncryptedData></encryption>"
    )
    assert (
        refused(EpubParser(), epub("<p>x</p>", encryption=about.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")))
        == "encrypted"
    )
    assert (
        parse(EpubParser(), epub("<p>x</p>", encryption=about.format("http://www.idpf.org/2008/embedding"))).text == "x"
    )


# --- before 2007 ----------------------------------------------------------------------------------
IN_TABLE, ROW_END = struct.pack("<HB", 0x2416, 1), struct.pack("<HBHB", 0x2416, 1, 0x2417, 1)
OLD_WORD = doc([
    ("Umfang\r", 1, b""), ("Grüße \x13HYPERLINK \"https://x.example\"\x14here\x15.\r", 0, b""),
    ("point\r", 0, struct.pack("<HH", 0x460B, 1)), ("Item\x07", 0, IN_TABLE), ("Price\x07", 0, IN_TABLE), ("\x07", 0, ROW_END),
    ("Pan\x07", 0, IN_TABLE), ("3\x07", 0, IN_TABLE), ("\x07", 0, ROW_END), ("Ende.\r", 0, b""),
])  # fmt: skip


def test_word_of_2003() -> None:
    parsed = parse(DocParser(), OLD_WORD)
    assert parts(parsed) == [
        ("heading", "Umfang"), ("paragraph", "Grüße here (https://x.example)."), ("list", "- point"),
        ("table", "Item | Price\nItem: Pan | Price: 3"), ("paragraph", "Ende."),
    ]  # fmt: skip
    assert parsed.blocks[3].place == "table=1&cells=A1:B2"


def test_powerpoint_of_2003() -> None:
    assert places(parse(PptParser(), ppt([("Plan", "one\rtwo", "Say «it»."), ("Zwei", "b", "")]))) == [
        ("slide=1", "Plan"), ("slide=1", "- one"), ("slide=1", "- two"), ("slide=1", "Notes: Say «it»."), ("slide=2", "Zwei"), ("slide=2", "b"),
    ]  # fmt: skip


def test_excel_of_2003() -> None:
    assert places(parse(XlsParser(), xls({"Größe": [["Item", "Price"], ["Pan", 3.5]], "b": [["x"]]}))) == [
        ("sheet=Größe", "Größe"), ("sheet=Größe&cells=A1:B2", "Item | Price\nItem: Pan | Price: 3.5"),
        ("sheet=b", "b"), ("sheet=b&cells=A1", "x"),
    ]  # fmt: skip


def test_binary_workbooks_of_2007() -> None:
    data = xlsb("Größe", [["Item", "Price"], ["Pan", 3.5]])
    assert places(parse(XlsParser(), data)) == [
        ("sheet=Größe", "Größe"), ("sheet=Größe&cells=A1:B2", "Item | Price\nItem: Pan | Price: 3.5"),
    ]  # fmt: skip
    assert sniff(data, UNKNOWN) == XLSB


def test_sectors_in_a_circle() -> None:
    data = bytearray(xls({"s": [["x"] * 100] * 20}))
    table = 512 + 512 * struct.unpack_from("<I", data, 76)[0]
    struct.pack_into("<I", data, table + 4 * 5, 2)  # sector 5 is followed by sector 2
    assert refused(XlsParser(), bytes(data)) == "malformed"
    data = bytearray(xls({"s": [["x"] * 100] * 20}))
    struct.pack_into("<I", data, 68, 1)  # the table of tables begins in a sector whose last word leads back to it
    struct.pack_into("<I", data, 512 * 3 - 4, 1)
    assert refused(XlsParser(), bytes(data)) == "malformed"


# --- what must hold for all -----------------------------------------------------------------------
SAMPLES = {
    "docx": (DocxParser(), word(p("Returns", "Heading1") + tbl([tc("Item"), tc("Price")], [tc("Pan"), tc("3")]))),
    "pptx": (PptxParser(), slides(sp("Plan", "title") + sp("a", "body"), notes={1: "n"})),
    "xlsx": (XlsxParser(), book({"s": row(1, ("A", "Item"), ("B", "Price")) + row(2, ("A", "Pan"), ("B", 3))})),
    "xls": (XlsParser(), xls({"s": [["Item", "Price"], ["Pan", 3]]})),
    "odf": (OdfParser(), odf("text", TEXT, HEADER, AUTO)),
    "fodt": (OdfParser(), odf_flat("text", TEXT, AUTO).encode()),
    "rtf": (RtfParser(), RICH),
    "epub": (EpubParser(), epub("<h1>One</h1><p>x</p>")),
    "doc": (DocParser(), OLD_WORD),
    "ppt": (PptParser(), ppt([("Plan", "one\rtwo", "n")])),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_parser_keeps_its_promises(kind: str) -> None:
    parser, sample = SAMPLES[kind]
    check_parser(parser, [sample])  # type: ignore[arg-type]
    assert refused(parser, b"") == "malformed"
    assert refused(parser, b"no such thing") == "malformed"
    if kind not in ("rtf", "fodt"):
        assert refused(parser, sample[: len(sample) // 2]) == "malformed"


@pytest.mark.parametrize("kind", ["docx", "pptx", "xlsx", "odf", "epub"])
def test_bombs_and_entities(kind: str) -> None:
    parser, sample = SAMPLES[kind]
    main = {"docx": "word/document.xml", "pptx": "ppt/slides/s1.xml", "xlsx": "xl/worksheets/s1.xml", "odf": "content.xml",
            "epub": "OPS/book.opf"}[kind]  # fmt: skip
    import io

    with zipfile.ZipFile(io.BytesIO(sample)) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}

    def with_main(text: str | bytes) -> bytes:
        return zipped({**files, main: text})

    assert refused(parser, with_main(b" " * 3_000_000 + files[main])) == "expansion"
    declared = b'<!DOCTYPE x [<!ENTITY a "aaaa">]>'
    body = files[main].partition(b"?>")[2] if files[main].startswith(b"<?") else files[main]
    parse(
        parser, with_main(b"<?xml version='1.0'?><!--" + b"x" * 9_000 + b"-->" + body)
    )  # as programs pad what they encrypt
    for text in (
        declared + body, b"<?xml version='1.0'?><!-- x -->\n" + declared + body,
        (declared + body).decode().encode("utf-16"), (declared + body).decode().encode("utf-16-be"),
        b"<?xml version='1.0' encoding='cp037'?>" + (declared + body).decode().encode("cp037", "replace"),
        b"<!--" + b"x" * 5_000 + b"-->" + declared + body,
    ):  # fmt: skip
        assert refused(parser, with_main(text)) in ("malformed", "encoding")


def test_parts_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = word(p("x" * 3_000), styles=f"<w:styles {W}>{'<w:style/>' * 400}</w:styles>")
    with pytest.raises(ParseFailed) as error, ooxml.package(sample, 5_000) as packed:
        assert packed.tree("word/document.xml") is not None
        packed.tree("word/styles.xml")
    assert error.value.kind == "expansion"
    monkeypatch.setattr(ooxml, "MOST_PARTS", 1)
    assert refused(DocxParser(), sample) == "expansion"


def test_text_is_bounded() -> None:
    for kind in ("docx", "pptx", "xlsx", "xls", "odf", "rtf", "epub", "doc", "ppt"):
        parser, sample = SAMPLES[kind]
        if kind != "epub":
            assert refused(parser, sample, reading=Reading(text=3)) == "expansion"


def test_nothing_outside_is_looked_up() -> None:
    rels = relations(h=("header", "http://127.0.0.1:9/x.xml"), t=("attachedTemplate", "file:///etc/passwd"))
    assert parse(DocxParser(), word(p("x"), rels=rels)).text == "x"
    with ooxml.package(
        zipped(
            {
                "word/document.xml": "<x/>",
                "word/_rels/document.xml.rels": relations(a=("header", "../../../etc/passwd")),
            }
        )
    ) as packed:
        assert packed.relations("word/document.xml")["a"].target == "etc/passwd"


# --- passwords ------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["docx", "pptx", "xlsx"])
def test_documents_under_a_password(kind: str) -> None:
    parser, sample = SAMPLES[kind]
    data = locked(sample, "höchst geheim")
    assert sniff(data, media_type(f"x.{kind}")) == ENCRYPTED
    opened = parse(EncryptedParser(), data, reading=Reading(passwords=("höchst geheim",)))
    plain = parse(parser, sample)
    assert (opened.text, opened.blocks) == (plain.text, plain.blocks)
    assert opened.notes[0] == "encrypted: opened with a password"


@pytest.mark.engines
def test_a_locked_document_without_the_right_password() -> None:
    data = locked(SAMPLES["docx"][1], "pass")
    assert refused(EncryptedParser(), data) == "encrypted"
    assert refused(EncryptedParser(), data, reading=Reading(passwords=("no", "nein"))) == "wrong_password"
    assert parse(EncryptedParser(), data, reading=Reading(passwords=("no", "pass"))).text.startswith("Returns")
    free = locked(SAMPLES["docx"][1], "VelvetSweatshop")  # locked against changes only
    assert parse(EncryptedParser(), free).text.startswith("Returns")


@pytest.mark.engines
def test_a_locked_document_that_is_damaged() -> None:
    check_parser(_Knows(EncryptedParser(), "pass"), [locked(SAMPLES["docx"][1], "pass")])  # type: ignore[arg-type]


class _Knows:
    """A parser that is given its password."""

    def __init__(self, parser: Any, password: str) -> None:
        self._parser, self._password = parser, password
        self.name, self.version, self.media_types = parser.name, parser.version, parser.media_types

    def parse(self, data: bytes, *, name: str, media_type: str) -> Parsed:
        return self._parser.parse(data, name=name, media_type=media_type, reading=Reading(passwords=(self._password,)))  # type: ignore[no-any-return]


def test_open_documents_under_a_password() -> None:
    data = odf_locked("text", "<text:p>geheim</text:p>", "pass")
    assert refused(OdfParser(), data) == "encrypted"
    assert refused(OdfParser(), data, reading=Reading(passwords=("no",))) == "wrong_password"
    parsed = parse(OdfParser(), data, reading=Reading(passwords=("no", "pass")))
    assert parsed.text == "geheim" and parsed.notes == ("encrypted: opened with a password",)


def test_binary_documents_that_are_encrypted_say_so() -> None:
    assert refused(DocParser(), doc([("x\r", 0, b"")], encrypted=True)) == "encrypted"


# --- names that are wrong -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "said", "found"),
    [("docx", XLSX, DOCX), ("xlsx", DOCX, XLSX), ("pptx", DOCX, PPTX), ("odf", DOCX, ODT), ("docx", DOCX, DOCX),
     ("doc", XLS, DOC), ("xls", DOC, XLS), ("doc", DOCX, DOC), ("xlsx", UNKNOWN, XLSX), ("rtf", DOC, "application/rtf")],
)  # fmt: skip
def test_the_content_decides_which_office_document_it_is(kind: str, said: str, found: str) -> None:
    assert sniff(SAMPLES[kind][1], said) == found


def test_a_web_page_under_the_name_of_a_workbook() -> None:
    assert sniff(b"<html><table><tr><td>1</td></tr></table></html>", XLS) == "text/html"


def test_macros_are_never_read() -> None:
    sample = book({"s": row(1, ("A", "x"))})
    import io

    with zipfile.ZipFile(io.BytesIO(sample)) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    parsed = parse(XlsxParser(), zipped({**files, "xl/vbaProject.bin": b"\0" * 100}))
    assert parsed.notes == ("macros: not read",) and parsed.text == "s\n\nx"


# --- from the folder to a hit ---------------------------------------------------------------------
def test_office_documents_end_to_end(make: Callable[..., Any]) -> None:
    prices = book({"Preise": row(3, ("B", "Item"), ("C", "Price")) + row(4, ("B", "Stove"), ("C", 1234.5))})
    outer = word(
        p("Look inside."), {"embeddings/inner.xlsx": prices}, rels=relations(x=("package", "embeddings/inner.xlsx"))
    )
    files = {
        "prices.xlsx": prices, "named-wrongly.doc": word(p("Chimney sweeping twice a year.")), "outer.docx": outer,
        "deck.pptx": slides(sp("Plan", "title"), sp("Quarry", "title") + sp("Granite blocks", "", 5)), "old.doc": OLD_WORD,
        "locked.odt": odf_locked("text", "<text:p>secret</text:p>", "pass"), "cut.docx": outer[:200],
        "text.rtf": RICH, "old.xls": xls({"s": [["Item", "Price"], ["Kettle", 7]]}), "old.ppt": SAMPLES["ppt"][1],
        "book.epub": epub("<h1>Lichen</h1><p>Grows slowly.</p>"), "flat.fodt": odf_flat("text", TEXT, AUTO),
    }  # fmt: skip
    rules = (("**", 'readers = ["group:staff"]\nclassification = "internal"'),)
    kb = make(files, ingest=False, rules=rules)
    report = kb.ingest(actor="olga")
    assert sorted((f.document, f.kind) for f in report.failures) == [
        ("docs:cut.docx", "malformed"), ("docs:locked.odt", "encrypted"),
    ]  # fmt: skip
    assert report.added == 11

    def hit(query: str, name: str) -> Any:
        return next(h for h in kb.search(query, actor="olga", limit=50) if h.document == name)

    found = hit("stove price", "docs:prices.xlsx")
    assert (found.place, found.text) == ("sheet=Preise&cells=B3:C4", "Item | Price\nItem: Stove | Price: 1234.5")
    assert hit("stove price", "docs:outer.docx!/inner.xlsx").place == found.place
    assert hit("granite blocks", "docs:deck.pptx").place == "slide=2"
    assert "Chimney" in hit("chimney sweeping", "docs:named-wrongly.doc").text
    assert hit("lichen grows", "docs:book.epub").heading == ("Lichen",)
    assert hit("kettle price", "docs:old.xls").place == "sheet=s&cells=A1:B2"
