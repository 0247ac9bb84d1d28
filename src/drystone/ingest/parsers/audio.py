"""What is said in a recording, with Whisper (tiny.en) on CTranslate2: two optional engines and a pinned model.

Guarantees: nothing is downloaded; the model is used only if its files have the pinned digests; the same samples give
the same text on the same machine (no sampling); a recording is decoded piece by piece, 30 seconds in memory at a time;
what was not heard in time, or not understood, is noted. The model knows English only, and a note says so.

Features and segments as in Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision".
WAV, MP3, FLAC and Ogg Vorbis are decoded; AAC, Opus and the sound of films are not (their permissive decoders do not
exist as packages), and are ``unsupported``.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any

from drystone.errors import DigestMismatch, EngineMissing, ParseFailed
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.captions import Cue, spoken
from drystone.ingest.parsers.clock import Clock
from drystone.models.weights import WHISPER, find, verify
from drystone.records import Parsed, Reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RATE, _WINDOW_S, _HOP, _FFT, _MELS = 16_000, 30, 160, 400, 80
_WINDOW = _RATE * _WINDOW_S
_TICK_S = 0.02  # of a time that the model says
_SILENT = 1e-3  # loudest sample of a window in which nobody speaks
_MISSING = 'It is a recording; to read what is said, install the engine for it: pip install "drystone[audio]".'
_DECODED = ("audio/wav", "audio/mpeg", "audio/flac", "audio/ogg")
_OTHER = ("audio/mp4", "video/mp4", "video/webm", "video/x-matroska", "video/x-msvideo", "audio/x-ms-wma")


@lru_cache(maxsize=1)
def version() -> str:
    """The engines and the model, for the parser's version."""
    try:
        return f"ctranslate2 {version_of('ctranslate2')}, miniaudio {version_of('miniaudio')}, tiny.en"
    except PackageNotFoundError:
        return "without ctranslate2"


class AudioParser:
    """Speech as text, in passages that know their seconds."""

    name = "audio"
    version = f"1, {version()}"
    media_types = (*_DECODED, *_OTHER)
    slow = "drystone.ingest.parsers.audio:AudioParser"

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        if media_type in _OTHER or data[28:36] == b"OpusHead":
            raise ParseFailed(
                "Sound in AAC, Opus or a film's file is not decoded; save it as WAV, MP3, FLAC or Ogg Vorbis.",
                kind="unsupported",
            )
        clock = Clock(reading.seconds)
        ear = _ear()
        out, notes = TextBuilder(reading.text), ["speech: read as English (Whisper tiny.en)"]
        heard = _Heard()
        spoken(out, _cues(ear, _samples(data), clock, heard))
        if heard.until_s is not None:
            notes.append(f"not heard in time: what follows {int(heard.until_s) // 60}:{int(heard.until_s) % 60:02}")
        if heard.unclear:
            notes.append(f"speech: {heard.unclear} parts left out as not understood")
        if out.empty and heard.until_s is None:
            raise ParseFailed("No speech was heard in it.", kind="empty")
        return out.parsed("", notes)


class _Heard:
    """``until_s``: where the time ran out; ``unclear``: parts in which the model had no confidence."""

    def __init__(self) -> None:
        self.until_s: float | None = None
        self.unclear = 0


def _cues(ear: _Ear, samples: Iterator[NDArray[np.float32]], clock: Clock, heard: _Heard) -> Iterator[Cue]:
    import numpy as np

    buffer = np.zeros(0, np.float32)
    at = 0  # samples before the buffer
    more = True
    while True:
        while more and len(buffer) < _WINDOW:
            piece = next(samples, None)
            more = piece is not None
            if piece is not None:
                buffer = np.concatenate([buffer, piece])
        if len(buffer) < _RATE // 10:
            return
        if clock.over:
            heard.until_s = at / _RATE
            return
        window = buffer[:_WINDOW]
        step = len(window)
        if float(np.abs(window).max()) > _SILENT:
            cues, step, clear = ear.hear(window, at / _RATE)
            heard.unclear += not clear
            yield from cues
        buffer = buffer[step:]
        at += step


class _Ear:
    def __init__(self) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # it has what it needs, and never asks
        os.environ["OMP_WAIT_POLICY"] = "passive"  # waiting threads give the core back
        try:
            import ctranslate2
            import miniaudio  # noqa: F401
            from tokenizers import Tokenizer

            folder = find(WHISPER)
            verify(folder, WHISPER.files)
        except (ImportError, EngineMissing):
            raise ParseFailed(_MISSING, kind="engine_missing") from None
        except DigestMismatch as error:
            raise ParseFailed(error.happened, kind="engine_missing") from None
        self._storage = ctranslate2.StorageView
        self._model = ctranslate2.models.Whisper(
            str(folder / "model"), device="cpu", compute_type="float32", inter_threads=1, intra_threads=1
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "model" / "tokenizer.json"))
        self._begin, self._end, zero = (
            self._tokenizer.token_to_id(f"<|{name}|>") or 0
            for name in ("startoftranscript", "endoftext", "notimestamps")
        )
        self._zero = zero + 1  # the token of second 0.0
        self._mel = mel_filters()

    def hear(self, window: NDArray[np.float32], begin_s: float) -> tuple[list[Cue], int, bool]:
        """Cues of at most 30 seconds at 16 kHz, how many samples they cover, and whether they are understood."""
        features = log_mel(window, self._mel)
        view = self._storage.from_array(features[None])
        result = self._generate(view, 0)
        tokens = result.sequences_ids[0]
        if _repeats(self._text(tokens)):  # it fell into a loop: once more, without
            result = self._generate(view, 3)
            tokens = result.sequences_ids[0]
        score, text = result.scores[0], self._text(tokens).strip()
        if not text or result.no_speech_prob > 0.6 and score < -0.5:
            return [], len(window), True  # nobody speaks
        if score < -1.0:
            return [], len(window), False
        return *self._cut(tokens, begin_s, len(window)), True

    def _generate(self, view: Any, unlike: int) -> Any:
        return self._model.generate(
            view, [[self._begin]], beam_size=5, max_length=448, return_scores=True, return_no_speech_prob=True,
            no_repeat_ngram_size=unlike,
        )[0]  # fmt: skip

    def _text(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode([t for t in tokens if t < self._end]))

    def _cut(self, tokens: list[int], begin_s: float, size: int) -> tuple[list[Cue], int]:
        """Cues between the times that the model says, and where the next window begins."""
        cues: list[Cue] = []
        start, held = 0.0, []
        last = 0.0
        for token in tokens:
            if token < self._zero:
                held.append(token)
                continue
            last = min((token - self._zero) * _TICK_S, size / _RATE)
            if held:
                self._add(cues, begin_s, start, last, held)
                held = []
            start = last
        full = size >= _WINDOW
        if held and (not full or not cues):  # said to the end
            self._add(cues, begin_s, start, size / _RATE, held)
            return cues, size
        if full and cues and last < _WINDOW_S - 1 and (held or len(tokens) > 1 and tokens[-2] >= self._zero):
            return cues, max(_RATE, int(start * _RATE))  # a sentence was cut: it begins the next window
        return cues, size

    def _add(self, cues: list[Cue], begin_s: float, start: float, end: float, tokens: list[int]) -> None:
        text = self._text(tokens).strip()
        if text:
            cues.append(Cue(round(begin_s + start, 2), round(begin_s + max(start, end), 2), text))


@lru_cache(maxsize=1)
def _ear() -> _Ear:
    return _Ear()


def _repeats(text: str) -> bool:
    raw = text.encode()
    return len(raw) > 60 and len(raw) / len(zlib.compress(raw)) > 2.4


def _samples(data: bytes) -> Iterator[NDArray[np.float32]]:
    """The recording at 16 kHz from all its channels, five seconds at a time, between -1 and 1."""
    import miniaudio
    import numpy as np

    try:
        stream = miniaudio.stream_memory(
            data, output_format=miniaudio.SampleFormat.FLOAT32, nchannels=1, sample_rate=_RATE,
            frames_to_read=5 * _RATE,
        )  # fmt: skip
    except miniaudio.MiniaudioError:
        raise ParseFailed("It is damaged: no sound can be made out.", kind="malformed") from None
    for piece in stream:
        found = np.frombuffer(piece, np.float32)
        if len(found):
            yield np.nan_to_num(found)


def mel_filters() -> NDArray[np.float32]:
    """Triangular filters on the Slaney scale, each of area 1, shape (80, 201)."""
    import numpy as np

    step = 200 / 3
    knee = 1000 / step
    log_step = np.log(6.4) / 27

    def hertz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mels < knee, mels * step, 1000 * np.exp(log_step * (mels - knee)))

    top = knee + np.log(_RATE / 2 / 1000) / log_step
    edges = hertz(np.linspace(0, top, _MELS + 2))
    bins = np.linspace(0, _RATE / 2, _FFT // 2 + 1)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    weights = np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    return weights.astype(np.float32)


def log_mel(samples: NDArray[np.float32], filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """What Whisper takes: shape (80, 3000) for 30 seconds, shorter ones filled up with silence."""
    import numpy as np

    padded = np.zeros(_WINDOW, np.float32)
    padded[: len(samples)] = samples
    padded = np.pad(padded, _FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_HOP][:-1]
    window = np.hanning(_FFT + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    mel = np.log10(np.maximum(filters @ power.T.astype(np.float32), 1e-10))
    out: NDArray[np.float32] = ((np.maximum(mel, mel.max() - 8.0) + 4.0) / 4.0).astype(np.float32)
    return np.ascontiguousarray(out)
