"""PDF with pdfium: text in reading order, tables, headings, forms, comments, attachments; scanned pages recognised.

Guarantees: page numbers count from 1 as the file has them; no character that pdfium finds on a page is left out,
running heads and page numbers included; lines of a paragraph are joined, words cut at a line's end put together.
Encrypted files are read with the source's passwords, or are ``encrypted`` or ``wrong_password``. Pages that hold only
an image are read where the engine for it is installed (``ocr.py``), in the slower process; else they are noted, and a
file without any text is ``engine_missing``. A page for which there was no time is noted, never dropped in silence.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from drystone.errors import ParseFailed
from drystone.ingest.parsers import ocr
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.clock import Clock
from drystone.ingest.parsers.layout import LIST, Paragraph, Segment, Table, read
from drystone.ingest.parsers.locked import LOCKED, UNFITTING
from drystone.records import Parsed, Part, Reading

_LONE = re.compile("[\ud800-\udfff\x00-\x08\x0b\x0e-\x1f\uffff]")
_LINE, _WORD = re.compile("[^\r\n\ufffe]+\ufffe?"), re.compile(r"\S+")  # U+FFFE: a hyphen at a line's end
_BOLD = re.compile(rb"bold|black|heavy|-BX|SFBX|CMBX", re.I)
_TOOL_TITLE = re.compile(r"microsoft \w+ - .*|untitled.*|.*\.(?:docx?|indd|qxd|xlsx?|pptx?|rtf|tex|dvi)", re.I)
_OTHER = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"\d+")
_MOST_PAGES = 20_000
_FEW = 60  # characters on a page whose image is the text all the same: a stamp, a page's number
_GAP = 0.85  # of a letter's size: a wider gap parts cells or columns
_FAR = 1e6
_PIXELS = 6_000_000  # of a page that is recognised: A4 at 250 dpi


@dataclass(slots=True)
class _State:
    """What was found so far. Pages by number."""

    limit: int
    pieces: list[tuple[int, Paragraph | Table]] = field(default_factory=list)
    characters: int = 0
    bare: list[int] = field(default_factory=list)  # without any text
    pictured: list[int] = field(default_factory=list)  # with an image that nobody read
    seen: list[int] = field(default_factory=list)  # recognised
    broken: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    attached: list[Any] = field(default_factory=list)
    eye: ocr.Eye | None = None

    def add(self, page: int, piece: Paragraph | Table) -> None:
        self.characters += (
            len(piece.text) if isinstance(piece, Paragraph) else sum(len(c) for r in piece.rows for c in r)
        )
        if self.characters > self.limit:
            raise ParseFailed("The document unfolds to more text than is allowed.", kind="expansion")
        self.pieces.append((page, piece))


class PdfParser:
    """Text as the file holds it; what needs recognition, or more time, is left to ``PdfReader``."""

    name = "pdf"
    version = f"2, {ocr.version()}"
    media_types: tuple[str, ...] = ("application/pdf",)
    slow = "drystone.ingest.parsers.pdf:PdfReader"
    last = False  # somebody takes over

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        import pypdfium2 as pdfium

        clock = Clock(reading.seconds)
        document = _opened(data, reading.passwords)
        try:
            pages = len(document)
            if pages == 0:
                raise ParseFailed("It has no pages.", kind="malformed")
            if pages > _MOST_PAGES:
                raise ParseFailed(f"It has {pages} pages; {_MOST_PAGES} are read at most.", kind="too_large")
            with suppress(pdfium.PdfiumError):  # a form that cannot be used: the text is there all the same
                document.init_forms()
            state = _State(reading.text)
            for number in range(1, pages + 1):
                if clock.over:
                    if not self.last:
                        raise ParseFailed("It has more pages than can be read in time.", kind="slow")
                    state.late.append(number)
                    continue
                try:
                    page = document[number - 1]
                except pdfium.PdfiumError:
                    state.broken.append(number)
                    continue
                try:
                    self._page(page, number, document.formenv, state)
                except pdfium.PdfiumError:
                    state.broken.append(number)
                finally:
                    page.close()
            parts, left = _attachments(document, reading, state.attached)
            return _finished(document, state, parts, left, reading)
        finally:
            document.close()

    def _page(self, page: Any, number: int, form: Any, state: _State) -> None:
        groups, characters = _segments(page)
        extra = list(_annotations(page, form, state))
        if characters <= _FEW and _pictured(page, characters == 0):
            if not ocr.installed():
                state.pictured.append(number)
            elif not self.last:
                raise ParseFailed("It has pages that are to be recognised.", kind="slow")
            else:
                state.eye = state.eye or ocr.Eye()
                found = state.eye.read(_image(page))
                state.seen.append(number)
                if sum(len(s.text) for s in found) > characters:
                    groups = [found]
                    characters = 1
        if not characters and not extra:
            state.bare.append(number)
        for group in groups:
            for piece in read(group):
                state.add(number, piece)
        for line in extra:
            state.add(number, Paragraph(line, 0.0, False))


class PdfReader(PdfParser):
    """The same in the slower process: pages that are images are recognised, as far as the time goes."""

    last = True


def _opened(data: bytes, passwords: tuple[str, ...]) -> Any:
    import pypdfium2 as pdfium
    from pypdfium2 import raw

    tries: list[str | bytes | None] = [None]
    for word in passwords:
        tries.append(word)
        if not word.isascii():
            with suppress(UnicodeEncodeError):  # what older encryption takes
                tries.append(word.encode("latin-1"))
    for password in tries:
        try:
            return pdfium.PdfDocument(data, password=password)
        except pdfium.PdfiumError as error:
            code = error.err_code
            if code == raw.FPDF_ERR_SECURITY:
                raise ParseFailed("It is encrypted in a way that is not supported.", kind="unsupported") from None
            if code != raw.FPDF_ERR_PASSWORD:
                raise ParseFailed("It is damaged: no PDF can be made out.", kind="malformed") from None
    if passwords:
        raise ParseFailed(UNFITTING, kind="wrong_password")
    raise ParseFailed(LOCKED, kind="encrypted")


def _segments(page: Any) -> tuple[list[list[Segment]], int]:
    """What stands on the page by direction of writing, the most usual first, and how many characters that is."""
    from pypdfium2 import raw

    textpage = page.get_textpage()
    text = textpage.get_text_range()
    handle = textpage.raw
    same = len(text) == raw.FPDFText_CountChars(handle)
    box, matrix, flags = raw.FS_RECTF(), raw.FS_MATRIX(), ctypes.c_int()
    box_at, matrix_at, flags_at = ctypes.byref(box), ctypes.byref(matrix), ctypes.byref(flags)
    edges = [ctypes.c_double() for _ in range(4)]
    edges_at = [ctypes.byref(e) for e in edges]
    font = ctypes.create_string_buffer(128)
    loose, tight = raw.FPDFText_GetLooseCharBox, raw.FPDFText_GetCharBox
    groups: dict[int, list[Segment]] = {}
    characters = 0

    def bold(at: int) -> bool:
        font[0] = b"\0"
        raw.FPDFText_GetFontInfo(handle, at, font, 128, flags_at)
        return bool(flags.value & 0x40000 or _BOLD.search(font.value))

    for line in _LINE.finditer(text):
        words = list(_WORD.finditer(text, line.start(), line.end()))
        if not words:
            continue
        first = words[0].start()
        at = first if same else raw.FPDFText_GetCharIndexFromTextIndex(handle, first)
        raw.FPDFText_GetMatrix(handle, at, matrix_at)
        size = raw.FPDFText_GetFontSize(handle, at) * math.hypot(matrix.c, matrix.d) or 1.0
        angle = round(math.degrees(math.atan2(matrix.b, matrix.a))) % 360
        straight = angle == 0
        if not 0 < size < _FAR:
            size = 1.0
        gap, back = _GAP * size, 0.5 * size
        heavy = bold(at)
        made = None
        end = 0
        for word in words:
            start, stop = word.start(), word.end()
            characters += stop - start
            if stop - start > 1 and text[stop - 1] == "\ufffe":
                stop -= 1  # a hyphen that pdfium put in has no place
            if same:
                at, last = start, stop - 1
            else:
                at = raw.FPDFText_GetCharIndexFromTextIndex(handle, start)
                last = raw.FPDFText_GetCharIndexFromTextIndex(handle, stop - 1)
            if straight:
                loose(handle, at, box_at)
                left, right, top, bottom = box.left, box.right, -box.top, -box.bottom
                if last != at:
                    loose(handle, last, box_at)
                    if box.right > right:
                        right = box.right
                    if box.left < left:  # from right to left
                        left = box.left
            else:
                tight(handle, at, *edges_at)
                sides = [e.value for e in edges]
                tight(handle, last, *edges_at)
                left, right, top, bottom = _turned(sides, [e.value for e in edges], angle)
            if not (-_FAR < left < _FAR and -_FAR < right < _FAR and -_FAR < top < _FAR and -_FAR < bottom < _FAR):
                left = right = top = bottom = 0.0  # no place of a real page, or no number
            wide = gap
            if stop - start == 1 and text[start] == "$":
                wide = 0.4 * size  # amounts of two columns may stand close
            if made is not None and -back < left - made.right < wide:
                if right > made.right:
                    made.right = right
            elif made is not None and -back < made.left - right < wide:  # from right to left
                made.left = min(made.left, left)
            else:
                if made is not None:
                    made.text = text[first:end]
                    if straight:
                        heavy = bold(at)
                first = start
                made = Segment(left, top, right, bottom, "", size, heavy, start)
                groups.setdefault(angle, []).append(made)
            if heavy and made.bold and word is words[-1] and word is not words[0]:
                made.bold = bold(last)
            end = word.end()
        assert made is not None
        made.text = text[first:end]
    textpage.close()
    for group in groups.values():
        for segment in group:
            segment.text = " ".join(_LONE.sub("", segment.text.replace("\ufffe", "-")).split())
    ordered = sorted(groups.values(), key=lambda g: -sum(len(s.text) for s in g))
    return [[s for s in group if s.text] for group in ordered], characters


def _turned(first: list[float], last: list[float], angle: int) -> tuple[float, float, float, float]:
    """Left, right, top, bottom of a word as it is read. Of its letters: left, right, bottom, top."""
    x0, x1 = min(first[0], last[0]), max(first[1], last[1])
    y0, y1 = min(first[2], last[2]), max(first[3], last[3])
    if 45 <= angle < 135:
        return y0, y1, x0, x1
    if 135 <= angle < 225:
        return -x1, -x0, y0, y1
    if 225 <= angle < 315:
        return -y1, -y0, -x1, -x0
    return x0, x1, -y1, -y0


def _pictured(page: Any, bare: bool) -> bool:
    """Whether an image fills most of the page, or, where there is no text, whether it holds any image or drawing."""
    from pypdfium2 import raw

    width, height = page.get_size()
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    kinds = (raw.FPDF_PAGEOBJ_IMAGE, raw.FPDF_PAGEOBJ_FORM)
    covered = 0.0
    drawn = 0
    for number in range(min(raw.FPDFPage_CountObjects(page), 5000)):
        item = raw.FPDFPage_GetObject(page, number)
        kind = raw.FPDFPageObj_GetType(item)
        drawn += kind == raw.FPDF_PAGEOBJ_PATH
        if kind in kinds and raw.FPDFPageObj_GetBounds(item, left, bottom, right, top):
            covered += max(0.0, right.value - left.value) * max(0.0, top.value - bottom.value)
    share = covered / (width * height or 1.0)
    return share > 0.02 or drawn > 200 if bare else share > 0.5  # letters that are drawn are many paths


def _image(page: Any) -> Any:
    """The page as an array, shape (height, width, 3), with at most ``_PIXELS``."""
    width, height = page.get_size()
    scale = min(250 / 72, math.sqrt(_PIXELS / max(1.0, width * height)))
    scale = min(scale, 12_000 / max(width, height, 1.0))
    bitmap = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
    image = bitmap.to_numpy()[:, :, :3].copy()
    bitmap.close()
    return image


def _annotations(page: Any, form: Any, state: _State) -> Iterator[str]:
    """A form's fields with their values, comments; files that hang on the page go to ``state.attached``."""
    from pypdfium2 import raw

    for number in range(min(raw.FPDFPage_GetAnnotCount(page), 10_000)):
        note = raw.FPDFPage_GetAnnot(page, number)
        if not note:
            continue
        try:
            kind = raw.FPDFAnnot_GetSubtype(note)
            if kind == raw.FPDF_ANNOT_WIDGET:
                if form is not None:
                    yield from _field(form, note)
            elif kind == raw.FPDF_ANNOT_FILEATTACHMENT:
                if attached := raw.FPDFAnnot_GetFileAttachment(note):
                    state.attached.append(attached)
            elif kind not in (raw.FPDF_ANNOT_POPUP, raw.FPDF_ANNOT_LINK):
                said = _string(raw.FPDFAnnot_GetStringValue, note, b"Contents")
                if said:
                    yield said if kind == raw.FPDF_ANNOT_FREETEXT else f"Comment: {said}"
        finally:
            raw.FPDFPage_CloseAnnot(note)


def _field(form: Any, note: Any) -> Iterator[str]:
    from pypdfium2 import raw

    kind = raw.FPDFAnnot_GetFormFieldType(form, note)
    name = _string(raw.FPDFAnnot_GetFormFieldAlternateName, form, note)
    name = name or _string(raw.FPDFAnnot_GetFormFieldName, form, note)
    value = _string(raw.FPDFAnnot_GetFormFieldValue, form, note)
    if kind in (raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON):
        checked = raw.FPDFAnnot_IsChecked(form, note)
        if kind == raw.FPDF_FORMFIELD_CHECKBOX:
            yield f"{name}: {'checked' if checked else 'not checked'}"
        elif checked:
            yield f"{name}: {_string(raw.FPDFAnnot_GetFormFieldExportValue, form, note) or value}"
    elif kind in (raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX):
        count = min(raw.FPDFAnnot_GetOptionCount(form, note), 1000)
        chosen = [
            _string(raw.FPDFAnnot_GetOptionLabel, form, note, number)
            for number in range(max(0, count))
            if raw.FPDFAnnot_IsOptionSelected(form, note, number)
        ]
        if chosen or value:
            yield f"{name}: {', '.join(chosen) or value}"
    elif kind in (raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_SIGNATURE) and value:
        yield f"{name}: {value}"


def _string(call: Any, *arguments: Any) -> str:
    """A text that pdfium gives in UTF-16, on one line."""
    size = call(*arguments, None, 0)
    if size <= 2 or size > 1 << 22:
        return ""
    buffer = (ctypes.c_ushort * (size // 2 + 1))()
    call(*arguments, buffer, size)
    text = bytes(buffer)[: size - 2].decode("utf-16-le", "ignore")
    return " ".join(_LONE.sub("", text.replace("\r", "\n")).split())


def _attachments(document: Any, reading: Reading, more: list[Any]) -> tuple[list[Part], int]:
    """The files inside, and how many of them could not be taken out."""
    from pypdfium2 import raw

    handles = [
        raw.FPDFDoc_GetAttachment(document, n) for n in range(min(document.count_attachments(), reading.parts + 1))
    ]
    parts: list[Part] = []
    names: set[str] = set()
    left, room = 0, reading.unpacked
    for handle in [*handles, *more]:
        size = ctypes.c_ulong()
        if not handle or not raw.FPDFAttachment_GetFile(handle, None, 0, size) or not size.value:
            left += 1
            continue
        room -= size.value
        if room < 0 or len(parts) >= reading.parts:
            raise ParseFailed("It unfolds to more, or larger, parts than are allowed.", kind="expansion")
        buffer = ctypes.create_string_buffer(size.value)
        if not raw.FPDFAttachment_GetFile(handle, buffer, size.value, size):
            left += 1
            continue
        said = _string(raw.FPDFAttachment_GetName, handle).replace("\\", "/").rpartition("/")[2]
        plain = said if said.strip(". ") else f"attachment-{len(parts) + 1}"
        stem, dot, ending = plain.rpartition(".")
        name, again = plain, 1
        while name in names:
            again += 1
            name = f"{stem}-{again}.{ending}" if dot and stem else f"{plain}-{again}"
        names.add(name)
        parts.append(Part(name, buffer.raw[: size.value]))
    return parts, left


def _finished(document: Any, state: _State, parts: list[Part], left: int, reading: Reading) -> Parsed:
    read_any = bool(state.pieces or parts)
    if state.pictured and not read_any:
        raise ParseFailed(
            'Its pages are images; to read them, install the engine for it: pip install "drystone[documents]".',
            kind="engine_missing",
        )
    notes = []
    if state.bare:
        hint = " (images are read with drystone[documents])" if set(state.bare) & set(state.pictured) else ""
        notes.append(f"pages without text: {_some(state.bare)}{hint}")
    if only := sorted(set(state.pictured) - set(state.bare)):
        notes.append(f"pages with an image that was not read: {_some(only)} (read with drystone[documents])")
    if state.seen:
        notes.append(f"ocr: {len(state.seen)} pages")
    if state.eye is not None and state.eye.doubtful:
        notes.append(f"ocr: {state.eye.doubtful} lines left out as illegible")
    if state.broken:
        notes.append(f"pages that are damaged: {_some(state.broken)}")
    if state.late:
        notes.append(f"pages not read in time: {_some(state.late)}")
    if left:
        notes.append(f"attachments that are damaged: {left}")
    title = _LONE.sub("", document.get_metadata_value("Title")).strip()
    out = TextBuilder(reading.text)
    kinds = _headings(document, state.pieces)
    for number, (page, piece) in enumerate(state.pieces):
        if isinstance(piece, Table):
            out.table(piece.rows, header=piece.header, page=page, first_row=1 + piece.skipped)
        elif level := kinds.get(number):
            out.add("heading", piece.text, level=level, page=page)
        else:
            out.add("list" if LIST.match(piece.text) else "paragraph", piece.text, page=page)
    return out.parsed("" if _TOOL_TITLE.fullmatch(title) else title, notes, parts)


def _headings(document: Any, pieces: list[tuple[int, Paragraph | Table]]) -> dict[int, int]:
    """Level by number of a piece: what a bookmark names; what is larger than most; a line in bold by itself."""
    named: dict[tuple[int, str], int] = {}
    for mark in islice(document.get_toc(max_depth=6), 20_000):
        target = mark.get_dest()
        page = target.get_index() if target is not None else None
        if page is not None:
            named.setdefault((page + 1, _plain(mark.get_title())), mark.level + 1)
    sizes: Counter[float] = Counter()
    said: Counter[str] = Counter()
    heavy = 0
    for _, piece in pieces:
        if isinstance(piece, Paragraph) and piece.size:
            sizes[round(piece.size * 2) / 2] += len(piece.text)
            heavy += len(piece.text) if piece.bold else 0
            if len(piece.text) <= 200:
                said[_DIGITS.sub("0", _plain(piece.text))] += 1
    if not sizes:
        return {}
    body = sizes.most_common(1)[0][0]
    bold_says = heavy < 0.3 * sizes.total()
    large: dict[int, float] = {}
    small: list[int] = []
    out: dict[int, int] = {}
    for number, (page, piece) in enumerate(pieces):
        if isinstance(piece, Table) or not piece.size or len(piece.text) > 200 or piece.lines > 3:
            continue
        plain = _plain(piece.text)
        if level := named.get((page, plain)):
            out[number] = level
            continue
        if said[_DIGITS.sub("0", plain)] > 3 or not re.search(r"[^\W\d_]{2}", plain):
            continue  # a running head, a number
        size = round(piece.size * 2) / 2
        if size >= 1.15 * body and not piece.text.endswith((".", ",", ";")):
            large[number] = size
        elif (bold_says and piece.bold and size >= 0.95 * body and piece.lines == 1 and len(piece.text) <= 120
              and not piece.text.endswith((".", ",", ";", ":"))):  # fmt: skip
            small.append(number)
    ranks = {size: min(rank, 4) for rank, size in enumerate(sorted(set(large.values()), reverse=True), 1)}
    out |= {number: ranks[size] for number, size in large.items()}
    below = min(5, len(ranks) + 1)
    return out | dict.fromkeys(small, below)


def _plain(text: str) -> str:
    return _OTHER.sub("", text.casefold())


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (f" and {len(numbers) - 10} more" if len(numbers) > 10 else "")
