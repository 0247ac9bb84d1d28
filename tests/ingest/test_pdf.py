"""PDF: reading order, tables, headings, forms, passwords, attachments, scans; damaged files say so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from drystone.errors import ParseFailed
from drystone.ingest.parsers import ocr
from drystone.ingest.parsers.pdf import PdfParser, PdfReader
from drystone.records import Parsed, Reading
from tests.ingest.build_pdf import Page, at, document, lines

EVAL = Path(__file__).resolve().parents[3] / "shared" / "eval"
LEFT = ["The first column tells how the", "harvest was brought in by the", "people of the village, who had", "waited for the rain to end and",
        "then worked day and night."]  # fmt: skip
RIGHT = ["A second column is about what", "the merchants paid for it when", "they came down from the hills,", "and why they would not return",
         "in the following spring."]  # fmt: skip


def parse(data: bytes, parser: type[PdfParser] = PdfParser, **reading: object) -> Parsed:
    found = parser().parse(data, name="x.pdf", media_type="application/pdf", reading=Reading(**reading))  # type: ignore[arg-type]
    for block in found.blocks:
        assert found.text[block.start : block.end].strip()
    return found


def parts(parsed: Parsed) -> list[tuple[str, str]]:
    return [(b.kind, parsed.text[b.start : b.end]) for b in parsed.blocks]


def refused(data: bytes, **reading: object) -> ParseFailed:
    with pytest.raises(ParseFailed) as caught:
        parse(data, **reading)
    return caught.value


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "installed", lambda: False)


@pytest.mark.parametrize("interleaved", [False, True])
def test_columns_are_read_one_after_the_other(interleaved: bool) -> None:
    head = at(60, 740, "A title that stands above both of the columns of this page", size=18)
    if interleaved:
        rows = zip(LEFT, RIGHT, strict=True)
        body = "".join(at(60, 700 - 14 * n, a) + at(330, 700 - 14 * n, b) for n, (a, b) in enumerate(rows))
    else:
        body = lines(60, 700, LEFT) + lines(330, 700, RIGHT)
    text = parse(document(head + body)).text
    assert (
        text.index("A title") < text.index("The first column") < text.index("day and night.") < text.index("A second")
    )
    assert "brought in by the people of the village, who had waited" in text
    assert "paid for it when they came down from the hills, and why" in text


@pytest.mark.parametrize(("rotate", "turn", "x", "y"), [
    (90, (1, 0, 0, 1), 72, 700), (0, (0, 1, -1, 0), 100, 100), (0, (-1, 0, 0, -1), 500, 300), (270, (0, -1, 1, 0), 300, 700),
])  # fmt: skip
def test_turned_pages_and_turned_text(rotate: int, turn: tuple[int, ...], x: int, y: int) -> None:
    down = (-turn[2] * 14, -turn[3] * 14)  # to the next line
    told = ["The heating is switched on in", "October, and switched off in", "April."]
    body = "".join(at(x - n * -down[0], y + n * down[1], line, turn=turn) for n, line in enumerate(told))
    assert parse(document(Page(body, rotate=rotate))).text == " ".join(told)


def test_a_table_keeps_its_cells() -> None:
    rows = [
        ("Product", "Price", "Stock"),
        ("Stove", "450.00", "12"),
        ("Kettle", "35.50", "140"),
        ("Lamp", "18.00", "7"),
    ]
    body = at(72, 740, "Prices of this year are below.")
    for number, row in enumerate(rows):
        body += "".join(at(72 + 150 * column, 700 - 20 * number, cell) for column, cell in enumerate(row))
    body += at(72, 560, "They hold until the end of March.")
    found = parse(document(body))
    assert parts(found) == [
        ("paragraph", "Prices of this year are below."),
        ("table", "Product | Price | Stock"),
        ("table", "Product: Stove | Price: 450.00 | Stock: 12\nProduct: Kettle | Price: 35.50 | Stock: 140\n"
         "Product: Lamp | Price: 18.00 | Stock: 7"),
        ("paragraph", "They hold until the end of March."),
    ]  # fmt: skip
    assert found.blocks[2].place == "table=1&cells=A2:C4" and found.blocks[2].page == 1


def test_cells_of_several_lines_and_heads_over_several_columns() -> None:
    body = at(300, 720, "Months ended June") + at(72, 706, "Costs") + at(280, 706, "2025") + at(380, 706, "2024")
    body += at(72, 680, "Rent of the") + at(280, 680, "1,200") + at(380, 680, "(950)") + at(72, 668, "northern hall")
    body += at(72, 640, "Heating") + at(280, 640, "$ 80") + at(380, 640, "$ 75")
    assert parse(document(body)).text == (
        "Costs | Months ended June 2025 | Months ended June 2024\n"
        "Costs: Rent of the northern hall | Months ended June 2025: 1,200 | Months ended June 2024: (950)\n"
        "Costs: Heating | Months ended June 2025: $ 80 | Months ended June 2024: $ 75"
    )


def test_pairs_of_a_form_letter_are_no_header() -> None:
    body = "".join(
        at(72, 700 - 20 * n, a) + at(200, 700 - 20 * n, b) + at(330, 700 - 20 * n, c) + at(450, 700 - 20 * n, d)
        for n, (a, b, c, d) in enumerate([("Name:", "Ada Winter", "Room:", "B 12"), ("Office:", "Kassel", "Since:", "2019"),
                                          ("Role:", "Buyer", "Phone:", "555 01")])
    )  # fmt: skip
    assert parse(document(body)).text.split("\n") == [
        "Name: | Ada Winter | Room: | B 12", "Office: | Kassel | Since: | 2019", "Role: | Buyer | Phone: | 555 01",
    ]  # fmt: skip


def test_headings_by_size_weight_and_bookmarks() -> None:
    prose = [
        "Goods may be returned within forty-five days of the day on which",
        "they were delivered, if they are as they were sent to you then.",
    ]

    def page(head: str) -> str:
        return (
            at(72, 760, "Rules of the house", size=14) + head + lines(72, 640, prose) + at(300, 30, "Page 3", size=16)
        )

    found = parse(document(
        page(at(72, 700, "Returns", size=24)), page(at(72, 700, "Who pays", font="F2")),
        page(at(72, 700, "Exchange of goods")), page(""), page(""), marks=[("Exchange of goods", 3)],
    ))  # fmt: skip
    heads = [(b.level, b.page, found.text[b.start : b.end]) for b in found.blocks if b.kind == "heading"]
    assert heads == [(1, 1, "Returns"), (2, 2, "Who pays"), (1, 3, "Exchange of goods")]
    assert found.text.count("Rules of the house") == 5, "running heads are kept, and are no headings"
    assert " ".join(prose) in found.text
    assert {b.page for b in found.blocks} == {1, 2, 3, 4, 5} and found.title == "Returns"


def test_hyphens_lists_and_paragraphs() -> None:
    body = lines(
        72,
        700,
        [
            "The committee decided to pay the full compen-",
            "sation to everyone who had lost a well-known",
            "tool in the fire.",
        ],
    )
    body += lines(
        72, 630, ["1. Write down what was lost", "2. Send it to the office", "\u2022 by post", "\u2022 by hand"]
    )
    assert parts(parse(document(body))) == [
        ("paragraph", "The committee decided to pay the full compensation to everyone who had lost a well-known tool in the fire."),
        ("list", "1. Write down what was lost"), ("list", "2. Send it to the office"), ("list", "\u2022 by post"), ("list", "\u2022 by hand"),
    ]  # fmt: skip


def test_double_spaced_prose_is_one_paragraph() -> None:
    told = ["A protocol is set with double space, so that it can be", "written on, and its lines are far from one another, yet", "they are one text all the same, as anyone can see who", "reads it to its end."]  # fmt: skip
    assert parse(document(lines(72, 700, told, pitch=27.6))).text == " ".join(told)


def test_forms_and_comments() -> None:
    notes = [
        "<< /Type /Annot /Subtype /Widget /FT /Tx /T (surname) /V (Winterbottom) /Rect [72 600 200 620] >>",
        "<< /Type /Annot /Subtype /Widget /FT /Tx /T (f1) /TU (First name) /V (Ada) /Rect [72 500 200 520] >>",
        "<< /Type /Annot /Subtype /Widget /FT /Btn /T (agrees) /V /Yes /AS /Yes /Rect [72 560 84 572] "
        "/AP << /N << /Yes null /Off null >> >> >>",
        "<< /Type /Annot /Subtype /Widget /FT /Btn /T (newsletter) /V /Off /AS /Off /Rect [72 540 84 552] >>",
        "<< /Type /Annot /Subtype /Widget /FT /Ch /Ff 131072 /T (country) /V (Nepal) /Opt [(India) (Nepal)] /Rect [72 520 90 530] >>",
        "<< /Type /Annot /Subtype /Text /Contents (Is this still so?) /Rect [300 600 320 620] >>",
        "<< /Type /Annot /Subtype /FreeText /Contents (Approved by the board) /DA (/F1 10 Tf) /Rect [300 500 420 520] >>",
    ]
    found = parse(document(Page(at(72, 700, "Application"), notes=notes)))
    assert found.text.split("\n\n") == [
        "Application", "surname: Winterbottom", "First name: Ada", "agrees: checked", "newsletter: not checked",
        "country: Nepal", "Comment: Is this still so?", "Approved by the board",
    ]  # fmt: skip


def test_passwords() -> None:
    locked = document(at(72, 700, "The vault is in the cellar."), password="s\u00e9same")
    assert refused(locked).kind == "encrypted" and "quarantine retry --password" in str(refused(locked))
    assert refused(locked, passwords=("other", "wrong")).kind == "wrong_password"
    assert parse(locked, passwords=("other", "s\u00e9same")).text == "The vault is in the cellar."


def test_attachments_are_documents_of_their_own() -> None:
    data = document(
        at(72, 700, "See the files."), attached={"prices.csv": b"a,b\n1,2\n", "../../up.txt": b"out", "b/up.txt": b"in"}
    )
    found = parse(data)
    assert sorted((p.name, p.data) for p in found.parts) == [
        ("prices.csv", b"a,b\n1,2\n"), ("up-2.txt", b"in"), ("up.txt", b"out"),
    ]  # fmt: skip
    assert refused(data, unpacked=5).kind == "expansion"
    assert refused(data, parts=1).kind == "expansion"
    assert parse(document("", attached={"only.txt": b"x"})).parts[0].name == "only.txt"


def test_the_title_of_a_tool_is_none() -> None:
    body = at(72, 700, "House rules", size=24) + at(72, 640, "They hold for everyone who lives here.")
    assert parse(document(body, title="The house")).title == "The house"
    assert parse(document(body, title="Microsoft Word - rules.doc")).title == "House rules"


def test_damaged_files() -> None:
    whole = document(*[at(72, 700, f"This is page {n}.") for n in range(1, 6)])
    assert refused(b"%PDF-1.7\ngarbage").kind == "malformed"
    assert refused(whole[:200]).kind == "malformed"
    lost = whole.replace(b"startxref\n", b"startxref\n99")  # its table is not found: put together again
    assert parse(lost).text.count("This is page") == 5
    assert refused(document()).kind == "malformed"


def test_more_text_than_is_allowed() -> None:
    data = document(*[at(72, 700, "A line of text.")] * 10)
    assert refused(data, text=50).kind == "expansion"
    assert parse(data, text=500)


def test_more_pages_than_there_is_time_for() -> None:
    data = document(*[at(72, 700, f"This is page {n}.") for n in range(1, 4)])
    assert refused(data, seconds=0.0).kind == "slow"
    late = parse(data, PdfReader, seconds=0.0)
    assert late.notes == ("pages not read in time: 1, 2, 3",) and not late.text


def test_six_hundred_pages() -> None:
    data = document(*[lines(72, 700, [f"This is page {n} of a long report."] + LEFT) for n in range(1, 601)])
    start = time.monotonic()
    found = parse(data)
    assert time.monotonic() - start < 30
    assert found.text.count("of a long report") == 600 and found.blocks[-1].page == 600


def test_scans_without_an_engine(blind: None) -> None:
    import numpy as np

    scan = Page(image=np.full((200, 150, 3), 255, np.uint8))
    assert parse(document(at(72, 700, "Some text."), scan, "")).notes == (
        "pages without text: 2, 3 (images are read with drystone[documents])",
    )
    stamped = Page(at(300, 30, "Page 2"), image=scan.image)
    assert parse(document(at(72, 700, "Some text."), stamped)).notes == (
        "pages with an image that was not read: 2 (read with drystone[documents])",
    )
    none = refused(document(scan, scan))
    assert none.kind == "engine_missing" and 'pip install "drystone[documents]"' in none.happened
    assert not parse(document("")).text, "an empty page is no scan"


def test_scans_are_left_to_the_slower_process(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setattr(ocr, "installed", lambda: True)
    scan = Page(image=np.full((200, 150, 3), 255, np.uint8))
    assert refused(document(at(72, 700, "Some text."), scan)).kind == "slow"
    assert PdfParser.slow.endswith(":PdfReader") and PdfReader.last


@pytest.mark.engines
def test_no_words_are_lost_of_what_poppler_reads() -> None:
    """Against pdftotext, a tool that measures and is not part of the product."""
    import re
    import shutil
    import subprocess
    from collections import Counter

    files = sorted((EVAL / "docs_business_pdf" / "visible").glob("*.pdf"))
    if not files or not shutil.which("pdftotext"):
        pytest.skip("the evaluation data or pdftotext is absent")
    hit = wanted = 0
    for file in files:
        told = subprocess.run(["pdftotext", "-layout", file, "-"], capture_output=True, check=True).stdout.decode()
        words = Counter(re.findall(r"[^\W_]+", told.lower()))
        if words:
            hit += (words & Counter(re.findall(r"[^\W_]+", parse(file.read_bytes()).text.lower()))).total()
            wanted += words.total()
    assert hit / wanted >= 0.99
