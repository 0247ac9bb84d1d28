"""Mails: what they say, what is attached, and mails that are broken or want to do harm."""

from __future__ import annotations

import base64
import email
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drystone.errors import ParseFailed
from drystone.ingest.parsers.cards import CardsParser
from drystone.ingest.parsers.mail import SMALL, MailParser, MboxParser, MhtmlParser, words
from drystone.ingest.parsers.msg import MsgParser, unpacked
from drystone.records import Parsed, Reading
from drystone.testing import check_parser
from tests.ingest.build_mail import attached, compound, lzfu, mail, properties, stream

VISIBLE = Path(__file__).resolve().parents[3] / "shared" / "eval" / "mails" / "visible"
PLAIN, HTML = "Content-Type: text/plain\n\n", "Content-Type: text/html\n\n"


def read(data: bytes) -> Parsed:
    return MailParser().parse(data, name="x.eml", media_type="message/rfc822")


def names(parsed: Parsed) -> list[str]:
    return [part.name for part in parsed.parts]


@pytest.mark.parametrize(
    ("parser", "sample"),
    [(MailParser(), mail(PLAIN + "Hello.", attached("a.txt", b"x"))), (MboxParser(), b"From x Mon 10:00\n" + mail("Hi.")),
     (MhtmlParser(), mail(HTML + "<p>Page</p>", kind="related")), (CardsParser(), b"BEGIN:VCARD\nFN:Ann\nEND:VCARD\n"),
     (MsgParser(), compound(dict([stream("0037", "Hi"), stream("1000", "Hello"), ("__properties_version1.0", bytes(32))])))],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_every_parser_keeps_its_promises(parser: object, sample: bytes) -> None:
    check_parser(parser, [sample])  # type: ignore[arg-type]


def test_a_mail_is_its_subject_people_and_body() -> None:
    parsed = read(mail("Hello Bob.\n> You wrote:\n> that.", Cc="c@c.example", Date="Mon, 2 Mar 2026 10:00:00 +0000"))
    assert parsed.title == "Returns" and not parsed.notes
    assert parsed.text == (
        "Returns\n\nFrom: Ann <ann@a.example>\nTo: bob@b.example\nCc: c@c.example\nDate: Mon, 2 Mar 2026 10:00:00 +0000"
        "\n\nHello Bob.\n> You wrote:\n> that."
    )
    assert [(b.kind, b.place) for b in parsed.blocks] == [
        ("heading", ""),
        ("paragraph", ""),
        ("paragraph", "part=body"),
    ]


def test_html_where_the_plain_text_says_much_less() -> None:
    rich = HTML + "<p>" + "Within forty-five days. " * 10 + "</p><table><tr><th>A</th></tr><tr><td>1</td></tr></table>"
    parsed = read(mail(PLAIN + "Your client shows no HTML.", rich, kind="alternative"))
    assert "shows no HTML" not in parsed.text and "Within forty-five days." in parsed.text
    assert parsed.notes == ("body: from the HTML, as the plain text says much less",)
    assert [b.place for b in parsed.blocks][-2:] == ["part=body", "part=body&table=1&cells=A1:A2"]
    assert "Hello" in read(mail(PLAIN + "Hello there, Bob.", HTML + "<p>Hi there, Bob.</p>", kind="alternative")).text
    assert read(mail(HTML + "<p>Only this.</p>", attached("a.txt", b"x"))).text.endswith("Only this.")


def test_attachments_are_parts_with_names_that_lead_nowhere() -> None:
    parsed = read(mail(PLAIN + "See.", attached("../../etc/passwd", b"1"), attached("passwd", b"2"), attached("C:\\a\\b.doc", b"3"),
                       attached("..", b"4"), attached("=?utf-8?Q?Pr=C3=BCfung.pdf?=", b"5"),
                       "Content-Type: application/pdf; name*0*=utf-8''%C3%9Cber; name*1=sicht.pdf\n\n6",
                       "Content-Type: image/png\n\n7"))  # fmt: skip
    assert names(parsed) == [
        "passwd",
        "passwd (2)",
        "b.doc",
        "application.bin",
        "Prüfung.pdf",
        "Übersicht.pdf",
        "image.png",
    ]
    assert [p.data for p in parsed.parts][:5] == [b"1", b"2", b"3", b"4", b"5"]
    assert parsed.parts[0].media_type == "application/octet-stream" and parsed.parts[2].media_type == ""


def test_small_pictures_that_the_mail_shows_are_left_out() -> None:
    page = HTML + '<p>Look <img src="cid:1"></p>'
    parsed = read(mail(page, attached("logo.png", b"x" * 100, "image/png", "inline"),
                       attached("screen.png", b"x" * SMALL, "image/png", "inline"), kind="related"))  # fmt: skip
    assert names(parsed) == ["screen.png"] and parsed.notes == ("small pictures of the mail left out",)
    assert names(read(mail(PLAIN + "x", attached("p.png", b"x", "image/png")))) == ["p.png"]


def test_an_attached_mail_is_a_part() -> None:
    inner = mail(
        PLAIN + "Inner.", attached("a.txt", b"deep"), boundary="c", Subject="=?utf-8?B?SW5uZXLDnA==?="
    ).decode()
    parsed = read(mail(PLAIN + "Outer.", f"Content-Type: message/rfc822\n\n{inner}"))
    assert names(parsed) == ["InnerÜ.eml"] and parsed.parts[0].title == "InnerÜ"
    again = read(parsed.parts[0].data)
    assert again.title == "InnerÜ" and names(again) == ["a.txt"] and "Inner." in again.text
    packed = base64.encodebytes(mail("Packed.")).decode()
    odd = read(mail(PLAIN + "x", f"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n{packed}"))
    assert "Packed." in read(odd.parts[0].data).text


def test_signed_and_encrypted() -> None:
    signature = "Content-Type: application/pkcs7-signature; name=smime.p7s\n\nMIIB"
    parsed = read(mail(PLAIN + "Signed words.", signature, kind="signed"))
    assert "Signed words." in parsed.text and parsed.notes == ("signature not checked",) and not parsed.parts
    for data in (mail("Content-Type: application/pgp-encrypted\n\nVersion: 1", "Content-Type: application/octet-stream\n\nx",
                      kind="encrypted"),
                 mail("MIIB", Content_Type="application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m")):  # fmt: skip
        with pytest.raises(ParseFailed) as error:
            read(data)
        assert error.value.kind == "encrypted"


def test_an_invitation_is_text() -> None:
    invite = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Review\\, quarterly\nDTSTART:20260301T093000Z\nEND:VEVENT\nEND:VCALENDAR"
    parsed = read(mail(PLAIN + "Please come.", "Content-Type: text/calendar\n\n" + invite, kind="alternative"))
    assert "Please come." in parsed.text and "Summary: Review, quarterly\nStart: 2026-03-01 09:30 UTC" in parsed.text


@pytest.mark.parametrize(
    ("raw", "text"),
    [("plain", "plain"), ("=?utf-8?B?w5xiZXI=?= =?utf-8?Q?sicht?= x", "Übersicht x"), ("=?utf-8?B?w5w?=", "Ü"),
     ("=?utf-8?Q?a b?=", "a b"), ("=?utf-8?B?4oI=?= =?utf-8?B?rA==?=", "€"), ("=?nonsense?Q?a?=", "a"), ("a\r\n b", "a b"),
     ("=?gb2312?B?xOO6ww==?=", "你好"), ("=?ISO-8859-1?Q?Je_pr=E9pare_!?=", "Je prépare !"), ("=?utf-8?B??=", "")],
)  # fmt: skip
def test_encoded_words(raw: str, text: str) -> None:
    assert words(raw) == text


def test_charsets_that_lie() -> None:
    said = "Content-Type: text/plain; charset={}\nContent-Transfer-Encoding: 8bit\n\n"
    whole = mail("Content-Type: text/plain\n\nx").replace(b"Content-Type: text/plain\n\nx", b"%s")
    for charset, words_ in (("gb2312", "专用发票".encode()), ("windows-1251", "Договор".encode("cp1251")),
                            ("iso-2022-jp", "契約".encode("iso-2022-jp")), ("unknown-8bit", "Договор поставки".encode("cp1251")),
                            ("base64", "Änderung".encode())):  # fmt: skip
        text = read(whole.replace(b"%s", said.format(charset).encode() + words_)).text
        assert any(w in text for w in ("专用发票", "Договор", "契約", "Änderung")), charset


def test_soft_line_ends_are_joined() -> None:
    flowed = "Content-Type: text/plain; format=flowed\n\nOne long \nline.\n> quoted \n> too.\nEnd"
    assert read(mail(flowed, attached("a.txt", b"x"))).text.endswith("One long line.\n> quoted too.\nEnd")


def test_broken_mails_are_read_as_far_as_they_go() -> None:
    whole = mail(PLAIN + "Body.", attached("a.txt", b"one"))
    assert names(read(whole.replace(b"--b--", b""))) == ["a.txt"]  # no end
    parsed = read(whole.replace(b'boundary="b"', b'boundary="other"'))
    assert names(parsed) == ["a.txt"] and "Body." in parsed.text and "StartBoundaryNotFound" in parsed.notes[-1]
    behind = whole + b"--b\nContent-Type: text/csv; name=late.csv\n\n1,2\n--b--\n"
    assert names(read(behind)) == ["a.txt", "late.csv"]
    parsed = read(whole.replace(base64.b64encode(b"one"), b"b2*!?5l"))
    assert parsed.parts[0].data == b"one" and "base64 broken" in parsed.notes
    assert read("Subject: Prüfung äöü\n\nx".encode("cp1252")).title == "Prüfung äöü"
    with pytest.raises(ParseFailed) as error:
        read(b"just some text")
    assert error.value.kind == "malformed"


def test_nesting_without_end_is_refused() -> None:
    deep = "".join(f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(1200))
    with pytest.raises(ParseFailed) as error:
        read(b"From: a@a\n" + deep.encode())
    assert error.value.kind == "malformed"


@given(
    st.binary(max_size=300), st.sampled_from([b"From: a\n", b"Content-Type: multipart/mixed; boundary=b\n\n--b\n", b""])
)
def test_a_mail_takes_anything(junk: bytes, head: bytes) -> None:
    try:
        parsed = read(head + junk)
    except ParseFailed:
        return
    parsed.text.encode()
    assert len(set(names(parsed))) == len(names(parsed))


def test_a_mailbox_is_its_mails() -> None:
    box = (
        b"From a@a Mon Mar  2 10:00:00 2026\n"
        + mail("One.\n>From here on.")
        + b"\n\nFrom b@b Mon Mar  2 11:00:00 2026\n"
    )
    box += mail("Two.", Subject="Second/mail")
    parsed = MboxParser().parse(box, name="x.mbox", media_type="")
    assert names(parsed) == ["1 Returns.eml", "2 Second mail.eml"]
    assert parsed.text.startswith("Returns | Ann <ann@a.example>\nSecond/mail")
    assert "\nFrom here on." in read(parsed.parts[0].data).text
    for junk, kind, most in ((b"text", "malformed", 9), (box, "expansion", 1)):
        with pytest.raises(ParseFailed) as error:
            MboxParser().parse(junk, name="x", media_type="", reading=Reading(parts=most))
        assert error.value.kind == kind


def test_a_saved_page_is_its_page() -> None:
    page = mail("Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n<title>T</title><p>45=C2=A0days</p>",
                attached("a.png", b"x"), kind="related", Subject="Saved")  # fmt: skip
    parsed = MhtmlParser().parse(page, name="x.mht", media_type="")
    assert parsed.title == "T" and parsed.text == "45 days" and parsed.notes == ("what the page shows left out: 1",)


def test_winmail_dat_gives_its_files() -> None:
    def attribute(number: int, value: bytes) -> bytes:
        return struct.pack("<BII", 2, number, len(value)) + value + b"\0\0"

    tnef = (
        b"\x78\x9f\x3e\x22\0\0"
        + attribute(0x9002, b"")
        + attribute(0x8010, b"offer.txt\0")
        + attribute(0x800F, b"Price")
    )
    parsed = read(mail(PLAIN + "x", attached("winmail.dat", tnef, "application/ms-tnef")))
    assert [(p.name, p.data) for p in parsed.parts] == [("offer.txt", b"Price")]


def outlook(**more: object) -> bytes:
    inner = {"__properties_version1.0": bytes(24), **dict([stream("0037", "Inner"), stream("1000", "Grüße")])}
    return compound({
        "__properties_version1.0": properties(32, x0039=134_000_000_000_000_000), **dict([
            stream("0037", "Prüfung"), stream("001A", "IPM.Note"), stream("0C1A", "Ann"), stream("5D01", "ann@a.example"),
            stream("1000", "Hello\r\nBob.")]),
        "__recip_version1.0_#00000000": {"__properties_version1.0": properties(8, n0C15=2),
                                         **dict([stream("3001", "Carl"), stream("39FE", "carl@c.example")])},
        "__attach_version1.0_#00000000": {"__properties_version1.0": bytes(8), "__substg1.0_37010102": b"y" * 5000,
                                          **dict([stream("3707", "..\\offer.txt")])},
        "__attach_version1.0_#00000001": {"__properties_version1.0": bytes(8), "__substg1.0_3701000D": inner,
                                          **dict([stream("3001", "Inner")])}, **more})  # fmt: skip


def test_outlook() -> None:
    parsed = MsgParser().parse(outlook(), name="x.msg", media_type="")
    assert parsed.title == "Prüfung" and names(parsed) == ["offer.txt", "Inner.eml"]
    assert parsed.text.endswith(
        "From: Ann <ann@a.example>\nCc: Carl <carl@c.example>\nDate: Mon, 18 Aug 2025 14:13:20 +0000\n\nHello\nBob."
    )
    assert parsed.parts[0].data == b"y" * 5000
    inner = read(parsed.parts[1].data)
    assert inner.title == "Inner" and inner.text.endswith("Grüße")
    assert MsgParser().parse(outlook(), name="x.msg", media_type="") == parsed


def test_a_body_in_rtf_only() -> None:
    plain = b"{\\rtf1\\ansi\\ansicpg1252 Gr\\'fc\\'dfe\\par Ann}"
    page = b"{\\rtf1\\ansi\\ansicpg1252\\fromhtml1 {\\*\\htmltag64 <p>}\\htmlrtf {\\htmlrtf0 Hello \\'fc\\htmlrtf }\\htmlrtf0{\\*\\htmltag72 </p>}}"
    for rtf, text in ((plain, "Grüße\n\nAnn"), (page, "Hello ü")):
        assert unpacked(lzfu(rtf)) == rtf
        data = compound(
            {"__properties_version1.0": bytes(32), "__substg1.0_10090102": lzfu(rtf), **dict([stream("0037", "S")])}
        )
        assert MsgParser().parse(data, name="x", media_type="").text.split("\n\n", 1)[1].replace(
            "\n\n", "\n"
        ) == text.replace("\n\n", "\n")


def test_outlook_items_that_are_broken() -> None:
    for junk in (b"", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), compound({"WordDocument": b"x"})):
        with pytest.raises(ParseFailed) as error:
            MsgParser().parse(junk, name="x", media_type="")
        assert error.value.kind == "malformed"


def test_calendars_and_cards() -> None:
    ics = b"BEGIN:VCALENDAR\nPRODID:x\nBEGIN:VTIMEZONE\nTZID:Europe\nEND:VTIMEZONE\nBEGIN:VEVENT\nUID:1\nSUMMARY:Long\n  title\n"
    ics += b'ATTENDEE;CN="Ann A":mailto:ann@a.example\nDESCRIPTION:One\\nTwo\nEND:VEVENT\nBEGIN:VEVENT\nSUMMARY:Second\nEND:VEVENT\n'
    parsed = CardsParser().parse(ics, name="x.ics", media_type="text/calendar")
    assert parsed.title == "Long title" and len(parsed.blocks) == 2
    assert (
        parsed.text == "Summary: Long title\nAttendee: Ann A <ann@a.example>\nDescription: One\nTwo\n\nSummary: Second"
    )
    vcf = b"BEGIN:VCARD\nFN;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:J=C3=BCrgen\nTEL;TYPE=CELL:+49 1\nADR;TYPE=HOME:;;Weg 1;Bern;;3000;\nPHOTO;ENCODING=B:xxx\nEND:VCARD"
    assert (
        CardsParser().parse(vcf, name="", media_type="").text
        == "Name: Jürgen\nTelephone: +49 1\nAddress: Weg 1, Bern, 3000"
    )


EXPECTED = {  # of each visible mail: its attachments, those that it only shows among them
    "mail_malformed_1": 1, "mail_malformed_2": 1, "mail_malformed_3": 0, "mail_test_11": 1, "mail_test_12": 0,
    "mail_test_13": 0, "mail_test_18": 0, "mail_test_19": 0, "mail_test_3": 1, "mail_test_4": 2, "mail_test_5": 5,
    "mail_test_6": 4, "mail_test_9": 0,
}  # fmt: skip


@pytest.mark.skipif(not VISIBLE.is_dir(), reason="the evaluation material is not here")
@pytest.mark.parametrize("name", EXPECTED)
def test_mails_in_the_wild(name: str) -> None:
    data = (VISIBLE / f"{name}.eml").read_bytes()
    parsed = read(data)
    small = [json.loads(note.partition(": ")[2] or "1") for note in parsed.notes if note.startswith("small pictures")]
    assert len(parsed.parts) + sum(small) == EXPECTED[name]
    if (date := email.message_from_bytes(data)["Date"]) is not None:
        assert f"Date: {date}" in parsed.text
    assert parsed.title and "From: " in parsed.text
