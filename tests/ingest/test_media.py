"""Images of text, recordings, captions; the engines run inside the walls and cannot get out."""

from __future__ import annotations

import io
import json
import re
import struct
import sys
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from drystone.errors import ParseFailed
from drystone.ingest.media import Choice, media_type
from drystone.ingest.parsers import audio, ocr
from drystone.ingest.parsers.audio import AudioParser
from drystone.ingest.parsers.captions import CaptionsParser
from drystone.ingest.parsers.clock import Clock
from drystone.ingest.parsers.ocr import ImageParser
from drystone.ingest.pool import Broken, Job, Pool
from drystone.records import Parsed, Reading
from tests.ingest.build import settings
from tests.ingest.build_pdf import Page, at, document, encoded, picture

EVAL = Path(__file__).resolve().parents[3] / "shared" / "eval"
IMAGE, SCAN, SPEECH = (
    f"drystone.ingest.parsers.{target}" for target in ("ocr:ImageParser", "pdf:PdfReader", "audio:AudioParser")
)


def parse(parser: object, data: bytes, media_type: str, **reading: object) -> Parsed:
    return parser.parse(data, name="x", media_type=media_type, reading=Reading(**reading))  # type: ignore[attr-defined, no-any-return, arg-type]


def refused(parser: object, data: bytes, media_type: str, **reading: object) -> ParseFailed:
    with pytest.raises(ParseFailed) as caught:
        parse(parser, data, media_type, **reading)
    return caught.value


def said(parsed: Parsed) -> list[tuple[str, str]]:
    return [(parsed.text[b.start : b.end], b.place) for b in parsed.blocks]


def wav(samples: np.ndarray, rate: int = 16_000, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return out.getvalue()


# Captions


def test_webvtt() -> None:
    told = """WEBVTT - a talk

STYLE
::cue { color: red }

NOTE nobody says this

1
00:11.000 --> 00:13.000 align:start
<v Roger>We are in <i>New York</i> City,

00:13.000 --> 00:16.500
<v.loud Roger>just down
the street.</v>

intro
01:00:00.000 --> 01:00:02.000
<v Neil>Fish &amp; chips &lt;now&gt;<00:00:01.000></v>

01:00:30.000 --> 01:00:31.000
later
"""
    assert said(parse(CaptionsParser(), told.encode(), "text/vtt")) == [
        ("Roger: We are in New York City, just down the street.", "start_s=11&end_s=16.5"),
        ("Neil: Fish & chips <now>", "start_s=3600&end_s=3602"),
        ("later", "start_s=3630&end_s=3631"),
    ]


def test_two_voices_of_one_cue() -> None:
    told = b"WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Yes.</v> <v Bob>No.</v>\n"
    assert said(parse(CaptionsParser(), told, "text/vtt")) == [
        ("Ann: Yes.", "start_s=1&end_s=2"), ("Bob: No.", "start_s=1&end_s=2"),
    ]  # fmt: skip


def test_subrip() -> None:
    told = "1\r\n00:00:01,500 --> 00:00:03,000\r\n<b>Good</b> morning.\r\n\r\n2\r\n00:00:03,100 --> 00:00:04,000\r\n{\\an8}Caf\u00e9?\r\n"
    found = parse(CaptionsParser(), told.encode("utf-8-sig"), "application/x-subrip")
    assert said(found) == [("Good morning. Caf\u00e9?", "start_s=1.5&end_s=4")]


def test_long_talk_is_cut_at_sentences() -> None:
    cues = [f"00:{n:02}.000 --> 00:{n + 1:02}.000\n{'word ' * 20}end." for n in range(30)]
    found = parse(CaptionsParser(), "\n\n".join(["WEBVTT", *cues]).encode(), "text/vtt")
    assert len(found.blocks) > 4 and all(b.end - b.start < 1400 for b in found.blocks)
    assert found.text.count("end.") == 30


def test_captions_that_are_none() -> None:
    assert refused(CaptionsParser(), b"WEBVTT\n", "text/vtt").kind == "empty"
    assert refused(CaptionsParser(), b"1\nx --> y\nHello\n", "application/x-subrip").kind == "malformed"
    part = parse(
        CaptionsParser(), b"1\n00:00:01,0 --> 00:00:02,0\nHello\n\n2\nsoon --> later\nthere\n", "application/x-subrip"
    )
    assert part.notes == ("captions whose times cannot be read: 1",) and "there" in part.text


# Images


def png_head(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, data, b"IEND")
    )


def test_an_image_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "installed", lambda: False)
    error = refused(ImageParser(), png_head(10, 10), "image/png")
    assert error.kind == "engine_missing" and 'pip install "drystone[documents]"' in error.happened


def test_images_that_are_too_large_or_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "Eye", None)  # nothing gets so far
    assert refused(ImageParser(), png_head(60_000, 60_000), "image/png").kind == "expansion"
    assert refused(ImageParser(), png_head(400, 400), "image/png").kind == "malformed"
    assert refused(ImageParser(), b"\x89PNG\r\n\x1a\nnothing", "image/png").kind == "malformed"


def test_versions_name_the_engines() -> None:
    for parser in (ImageParser, AudioParser):
        assert re.search(r"rapidocr \d|ctranslate2 \d|without", parser.version)


def test_every_kind_of_image_and_recording_has_its_parser() -> None:
    choice = Choice({}, "docs")
    for name, reader in (("a.png", "image"), ("a.tif", "image"), ("a.mp3", "audio"), ("a.mov", "audio"), ("a.vtt", "captions"),
                         ("a.srt", "captions")):  # fmt: skip
        found, _ = choice.of(name, media_type(name), b"")
        assert found is not None and found.name == reader


# Recordings


def test_what_is_not_decoded_says_so() -> None:
    for kind, data in (("video/mp4", b"\0\0\0\x18ftypisom"), ("audio/ogg", b"OggS" + bytes(24) + b"OpusHead")):
        error = refused(AudioParser(), data, kind)
        assert error.kind == "unsupported" and "WAV, MP3, FLAC" in error.happened


def test_a_recording_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    audio._ear.cache_clear()
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    error = refused(AudioParser(), wav(np.zeros(16_000)), "audio/wav")
    assert error.kind == "engine_missing" and 'pip install "drystone[audio]"' in error.happened
    audio._ear.cache_clear()


def test_features_are_those_of_the_model() -> None:
    filters = audio.mel_filters()
    assert filters.shape == (80, 201) and (filters >= 0).all()
    centres = filters.argmax(axis=1) * 40.0  # hertz of each filter's top
    assert (np.diff(centres) >= 0).all() and centres[-1] > 7000
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    features = audio.log_mel(tone, filters)
    assert features.shape == (80, 3000)
    assert abs(centres[features[:, 50].argmax()] - 1000) < 60
    assert np.isclose(features.max() - features.min(), 2.0, atol=1e-3)  # eight decades, by four


def test_windows_end_between_sentences() -> None:
    ear = object.__new__(audio._Ear)
    ear._zero, ear._end = 1000, 900
    ear._text = lambda tokens: " ".join(map(str, tokens))  # type: ignore[method-assign]
    full = 30 * 16_000
    # [0.00] 1 2 [2.00] [2.50] 3 [29.00]: said to the end
    cues, step = ear._cut([1000, 1, 2, 1100, 1125, 3, 2450], 60.0, full)
    assert [(c.start_s, c.end_s, c.text) for c in cues] == [(60.0, 62.0, "1 2"), (62.5, 89.0, "3")] and step == full
    # [0.00] 1 [2.00] [2.00] 2 ...: the second sentence is cut, and begins the next window
    cues, step = ear._cut([1000, 1, 1100, 1100, 2], 0.0, full)
    assert [c.text for c in cues] == ["1"] and step == 2 * 16_000
    # without any time, or shorter than a window: all of it
    cues, step = ear._cut([1, 2], 0.0, 5 * 16_000)
    assert [(c.text, c.end_s) for c in cues] == [("1 2", 5.0)] and step == 5 * 16_000


def test_the_clock_counts_all_cores() -> None:
    assert Clock(0.0).over and not Clock(1000.0).over


# Inside the walls


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    made = Pool(settings(tmp_path_factory.mktemp("p")), slow=True)
    if sys.platform == "linux":
        assert all(made.walls().values())
    yield made
    made.close()


def one(pool: Pool, target: str, data: bytes, media_type: str) -> Parsed:
    answer = pool.parse([Job(target, "x", media_type, data)])[0]
    assert isinstance(answer, Parsed), answer
    return answer


LINES = ("The keys of the archive", "are with the night porter")


@pytest.mark.engines
def test_text_in_images(slow: Pool) -> None:
    image = picture(*LINES)
    for kind, said_type in (("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp"),
                             ("BMP", "image/bmp")):  # fmt: skip
        found = one(slow, IMAGE, encoded(image, kind), said_type)
        assert found.text == " ".join(LINES) or found.text == "\n\n".join(LINES), kind
        assert found.notes[0] == "ocr: 1 pages"


@pytest.mark.engines
def test_images_that_lie_on_their_side_or_head(slow: Pool) -> None:
    from PIL import Image

    image = picture(*LINES)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it to the right
    marked = encoded(np.rot90(image, 1).copy(), "JPEG", exif=exif)
    for data in (marked, encoded(np.rot90(image, 1).copy(), "PNG"), encoded(np.rot90(image, 2).copy(), "PNG")):
        assert " ".join(one(slow, IMAGE, data, "image/png").text.split()) == " ".join(LINES)


@pytest.mark.engines
def test_pages_of_a_tiff_and_of_a_scan(slow: Pool) -> None:
    from PIL import Image

    first, second = picture("Page one is about tea"), picture("Page two is about salt")
    out = io.BytesIO()
    Image.fromarray(first).save(out, "TIFF", save_all=True, append_images=[Image.fromarray(second)])
    found = one(slow, IMAGE, out.getvalue(), "image/tiff")
    assert [(found.text[b.start : b.end], b.page) for b in found.blocks] == [
        ("Page one is about tea", 1), ("Page two is about salt", 2),
    ]  # fmt: skip
    scan = Page(image=first, size=(612, 300))
    found = one(slow, SCAN, document(at(72, 700, "A page of text."), scan, at(72, 700, "The end.")), "application/pdf")
    assert [(found.text[b.start : b.end], b.page) for b in found.blocks] == [
        ("A page of text.", 1), ("Page one is about tea", 2), ("The end.", 3),
    ]  # fmt: skip
    assert found.notes == ("ocr: 1 pages",)


@pytest.mark.engines
def test_nobody_speaks(slow: Pool) -> None:
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    for data in (wav(np.zeros(48_000)), wav(tone)):
        answer = slow.parse([Job(SPEECH, "x", "audio/wav", data)])[0]
        assert isinstance(answer, Broken) and answer.kind == "empty"
    broken = slow.parse([Job(SPEECH, "x", "audio/wav", b"RIFF\0\0\0\0WAVEnothing")])[0]
    assert isinstance(broken, Broken) and broken.kind == "malformed"


@pytest.mark.engines
def test_speech_is_read_with_its_seconds(slow: Pool) -> None:
    folder = EVAL / "audio" / "visible"
    if not folder.is_dir():
        pytest.skip("the evaluation data is absent")
    wrong = words = 0
    for line in (folder / "transcripts.jsonl").read_text().splitlines():
        clip = json.loads(line)
        if clip["file"].endswith(".wav"):
            found = one(slow, SPEECH, (folder / clip["file"]).read_bytes(), "audio/wav")
            heard = re.findall(r"[a-z]+", found.text.lower())
            wrong += len(set(clip["transcript"].split()) - set(heard))
            words += len(clip["transcript"].split())
            assert found.blocks[0].place.startswith("start_s=0&end_s=") and "English" in found.notes[0]
    assert wrong / words < 0.2


@pytest.mark.engines
def test_a_recording_that_takes_too_long_is_read_as_far_as_it_goes() -> None:
    samples = np.tile(0.1 * np.random.default_rng(1).standard_normal(16_000), 90)
    found = parse(AudioParser(), wav(samples), "audio/wav", seconds=0.0)
    assert found.notes[-1] == "not heard in time: what follows 0:00"


@pytest.mark.engines
@pytest.mark.parametrize("engine", ["image", "recording"])
def test_engines_cannot_get_out(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).resolve().parents[2])
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\nshift 3\nexec {sys.executable} -I -c \'import sys; sys.path.append("{root}"); '
        'from drystone.ingest.worker import main; sys.exit(main(sys.argv[1:]))\' "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr("drystone.ingest.pool.sys.executable", str(script))
    made = Pool(settings(tmp_path), slow=True)
    try:
        found = one(made, "tests.ingest.reaching:Reaching", engine.encode(), "x/reaching")
        assert found.text.split() == [
            f"{reach}:PermissionError" for reach in ("socket", "read", "write", "fork", "program")
        ]
    finally:
        made.close()
