"""Text in images: scans, photographs, screenshots, with rapidocr (an optional engine, its models inside its package).

Guarantees: nothing is downloaded and nothing reported, whatever the engine would do by itself; an image's dimensions
are checked before it is unfolded; lines in which the engine has little confidence are left out and counted in the
notes; an image that lies on its side or head is turned, by its own mark (EXIF) or by what can be read.
"""

from __future__ import annotations

import io
import os
import struct
from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from drystone.errors import ParseFailed
from drystone.ingest.parsers.build import TextBuilder
from drystone.ingest.parsers.clock import Clock
from drystone.ingest.parsers.layout import LIST, Segment, Table, read
from drystone.records import Parsed, Reading

CONFIDENCE = 0.6  # below it a line is more likely wrong than right
_PIXELS = 120_000_000  # of one image: 10 x 12 thousand
_FRAMES = 2000
_SIDE = 2600  # longest side that is recognised: letters of a large scan are legible still
_FIND = 1280  # lines are found in a smaller copy (four times as fast), and read in the large one
_FORMATS = {
    "image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/bmp": "BMP", "image/webp": "WEBP",
    "image/tiff": "TIFF",
}  # fmt: skip


@lru_cache(maxsize=1)
def version() -> str:
    """The engine's name and version, for the versions of the parsers that use it."""
    try:
        return f"rapidocr {version_of('rapidocr')}"
    except PackageNotFoundError:
        return "without rapidocr"


def installed() -> bool:
    return find_spec("rapidocr") is not None


class Eye:
    """Reads images. ``doubtful``: how many lines it has left out so far."""

    def __init__(self) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, when the library is loaded
        import cv2
        import onnxruntime
        import rapidocr

        onnxruntime.disable_telemetry_events()
        cv2.setNumThreads(1)
        models = Path(rapidocr.__file__).parent / "models"
        self._engine = rapidocr.RapidOCR(
            params={
                "Global.log_level": "critical",
                "Global.text_score": 0.0,  # we count what we leave out
                "Global.max_side_len": _SIDE,
                "Global.use_cls": False,
                "Det.limit_type": "max",
                "Det.limit_side_len": _FIND,
                "Det.model_path": str(models / "PP-OCRv6_det_small.onnx"),  # named, so that it never downloads one
                "Rec.model_path": str(models / "PP-OCRv6_rec_small.onnx"),
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,  # ingest.slow_workers says how many read at once
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )
        self.doubtful = 0

    def read(self, image: Any) -> list[Segment]:
        """Lines of text in an RGB image, shape (height, width, 3), unsigned bytes."""
        import numpy as np

        lines = self._lines(image)
        long = [s for s in lines if len(s[0].text) > 2]
        if sum(s.bottom - s.top > 1.5 * (s.right - s.left) for s, _ in long) > 0.5 * len(long):
            image = np.rot90(image)
            lines = self._lines(image)
        if lines and _mean(lines) < 0.85:  # upside down, or hard to read
            turned = self._lines(np.rot90(image, 2))
            if turned and _mean(turned) > _mean(lines):
                lines = turned
        self.doubtful += sum(score < CONFIDENCE for _, score in lines)
        found = [segment for segment, score in lines if score >= CONFIDENCE]
        usual = median(s.size for s in found) if found else 0.0
        for segment in found:
            if 0.7 * usual < segment.size < 1.4 * usual:
                segment.size = usual  # a box's height depends on its letters
        return found

    def _lines(self, image: Any) -> list[tuple[Segment, float]]:
        import numpy as np

        found: Any = self._engine(np.ascontiguousarray(image[:, :, ::-1]))  # it takes blue first
        out = []
        if found.boxes is None or found.txts is None:
            return []
        for order, (box, text, score) in enumerate(zip(found.boxes, found.txts, found.scores, strict=True)):
            across, down = box[:, 0], box[:, 1]
            height = float(down.max() - down.min())
            plain = " ".join(text.split())
            if plain:
                out.append((Segment(float(across.min()), float(down.min()), float(across.max()), float(down.max()),
                                    plain, height, order=order), float(score)))  # fmt: skip
        return out


def _mean(lines: list[tuple[Segment, float]]) -> float:
    letters = sum(len(s.text) for s, _ in lines)
    return sum(score * len(s.text) for s, score in lines) / max(1, letters)


_DAMAGED = (  # what Pillow raises about damaged files
    OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, AssertionError, struct.error,
)  # fmt: skip


class ImageParser:
    """The text in an image; of a TIFF with several, a page each."""

    name = "image"
    version = f"1, {version()}"
    media_types: tuple[str, ...] = tuple(_FORMATS)
    slow = "drystone.ingest.parsers.ocr:ImageParser"

    def parse(self, data: bytes, *, name: str, media_type: str, reading: Reading = Reading()) -> Parsed:
        if not installed():
            raise ParseFailed(
                'It is an image; to read the text in it, install the engine for it: pip install "drystone[documents]".',
                kind="engine_missing",
            )
        from PIL import Image, UnidentifiedImageError

        clock = Clock(reading.seconds)
        Image.MAX_IMAGE_PIXELS = None  # we look ourselves, before anything is unfolded
        try:
            image = Image.open(io.BytesIO(data), formats=list(_FORMATS.values()))
            frames = min(getattr(image, "n_frames", 1), _FRAMES + 1)
        except (UnidentifiedImageError, *_DAMAGED):
            raise ParseFailed("It is damaged: no image can be made out.", kind="malformed") from None
        paged = image.format == "TIFF"
        out, late = TextBuilder(reading.text), []
        eye: Eye | None = None
        notes = [] if paged or frames == 1 else [f"only the first of {frames} frames was read"]
        for number in range(1, frames + 1 if paged else 2):
            if clock.over or number > _FRAMES:
                late.append(number)
                continue
            frame = _frame(image, number - 1)
            eye = eye or Eye()
            for piece in read(eye.read(frame)):
                page = number if paged else None
                if isinstance(piece, Table):
                    out.table(piece.rows, header=piece.header, page=page, first_row=1 + piece.skipped)
                else:
                    out.add("list" if LIST.match(piece.text) else "paragraph", piece.text, page=page)
        if late:
            notes.append(f"pages not read in time: {late[0]} to {frames}")
        if eye is not None and eye.doubtful:
            notes.append(f"ocr: {eye.doubtful} lines left out as illegible")
        return out.parsed("", [f"ocr: {max(1, frames - len(late)) if paged else 1} pages", *notes])


def _frame(image: Any, number: int) -> Any:
    """One of an image's frames as an array, shape (height, width, 3), upright, at most ``_SIDE`` long."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        image.seek(number)
        width, height = image.size
        if width * height > _PIXELS:
            raise ParseFailed(f"It is {width} x {height} pixels large, more than is read.", kind="expansion")
        if image.format == "JPEG":
            image.draft("RGB", (_SIDE, _SIDE))  # unfolds no more than is needed
        frame = ImageOps.exif_transpose(image)
        if frame.mode[0] in "IF":  # 16 and 32 bits: from the darkest to the lightest
            deep = np.asarray(frame, np.float64)
            low, high = float(deep.min()), float(deep.max())
            frame = Image.fromarray(((deep - low) * (255 / ((high - low) or 1.0))).astype(np.uint8))
        if frame.has_transparency_data:
            frame = frame.convert("RGBA")
            paper = Image.new("RGBA", frame.size, "white")
            frame = Image.alpha_composite(paper, frame)
        if max(frame.size) > _SIDE:
            frame.thumbnail((_SIDE, _SIDE))
        return np.asarray(frame.convert("RGB"))
    except _DAMAGED:
        raise ParseFailed("It is damaged: the image does not unfold.", kind="malformed") from None
