"""Boxes, person numbers and scores on a picture. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dfpipe.colours import VERDICTS, rgb
from dfpipe.types import FaceBox, Image

LONGEST_SIDE = 1280  # px; chosen here: labels are easily read, and a 1080p or 4K clip becomes a small file

COLOURS = {kind: rgb(shades.text) for kind, shades in VERDICTS.items()}
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_Field = tuple[int, int, int, int]  # left, top, right, bottom of a label or box, px


@dataclass(frozen=True, slots=True)
class Mark:
    """One face with its score, in a frame that was looked at or between two of them."""

    frame_index: int
    time_s: float
    track: int  # person number from 0; shown from 1
    box: FaceBox  # px of the full upright frame
    p_fake: float  # 0..1


def shown_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in px at which a picture is shown: even, which yuv420p asks for, and of bounded length."""
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return max(2, 2 * round(height * factor / 2)), max(2, 2 * round(width * factor / 2))


def draw(
    image: Image,
    faces: Sequence[Mark],
    verdicts: Mapping[int, str],
    headline: str,
    size: tuple[int, int] | None = None,
) -> Image:
    """A copy of a picture with boxes, labels and a headline on it.

    Args:
        image: RGB uint8 (H, W, 3).
        faces: In px of `image`.
        verdicts: Track to a key of `COLOURS`.
        headline: Below everything; "" for none.
        size: Height and width of the copy in px; None = as `shown_size` says.

    Returns:
        RGB uint8.
    """
    height, width = size or shown_size(*image.shape[:2])
    across, down = width / image.shape[1], height / image.shape[0]
    # By area, which does not alias, costs 12 ms of a 1080p frame; linear 3 ms, and samples every pixel down to half size.
    by = cv2.INTER_AREA if across < 0.5 else cv2.INTER_LINEAR
    canvas = np.array(
        cv2.resize(image, (width, height), interpolation=by) if (across, down) != (1, 1) else image, np.uint8
    )
    unit = max(height, width)
    line = max(2, round(unit / 400))
    labels, taken = [], []
    for face in faces:
        kind = verdicts.get(face.track, "UNCERTAIN")
        corners = (face.box.x1 * across, face.box.y1 * down, face.box.x2 * across, face.box.y2 * down)
        x1, y1, x2, y2 = (round(min(max(c, -unit), 2 * unit)) for c in corners)
        thick = 2 * line if kind == "FAKE" else line  # so that it does not rest on colour alone
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _BLACK, thick + 2)  # a dark rim shows on any background
        cv2.rectangle(canvas, (x1, y1), (x2, y2), COLOURS[kind], thick)
        labels.append((f"person {face.track + 1}  {face.p_fake:.2f}", (x1, y1, x2, y2), COLOURS[kind]))
        taken.append((x1, y1, x2, y2))
    for text, box, colour in labels:  # after all boxes, so that no line crosses them
        taken.append(_label(canvas, text, box, colour, taken))
    if headline:
        _strip(canvas, headline)
    return canvas


def _label(canvas: Image, text: str, box: _Field, colour: tuple[int, int, int], taken: Sequence[_Field]) -> _Field:
    """Text on a filled field above a box, or where else near it no other label or face lies."""
    scale, weight, pad = _text_size(canvas)
    (wide, letters), base = cv2.getTextSize(text, _FONT, scale, weight)
    wide, high = wide + 2 * pad, letters + base + pad
    x1, top, x2, bottom = box
    above, flush = top - high, x2 - wide  # flush with the right side
    wishes = ((x1, above), (flush, above), (x1, above - high), (x1, bottom), (x1, bottom + high))
    limits = canvas.shape[1] - wide, canvas.shape[0] - high
    corners = [(max(0, min(x, limits[0])), max(0, min(y, limits[1]))) for x, y in wishes]
    fields = [(x, y, x + wide, y + high) for x, y in corners]
    left, upper, right, lower = next((f for f in fields if not any(_overlap(f, other) for other in taken)), fields[0])
    cv2.rectangle(canvas, (left, upper), (right, lower), colour, cv2.FILLED)
    cv2.putText(canvas, text, (left + pad, lower - base - pad // 2), _FONT, scale, _WHITE, weight, cv2.LINE_AA)
    return left, upper, right, lower


def _overlap(one: _Field, two: _Field) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def _strip(canvas: Image, headline: str) -> None:
    """One line of text on a darkened strip along the lower edge, shortened to what fits."""
    scale, weight, pad = _text_size(canvas)
    text = "".join(c if " " <= c <= "~" else "?" for c in headline)  # OpenCV's fonts hold ASCII
    shown = text
    while text and cv2.getTextSize(shown, _FONT, scale, weight)[0][0] > canvas.shape[1] - 2 * pad:
        text = text[:-1]
        shown = f"{text.rstrip()}..."
    (_, high), base = cv2.getTextSize(shown, _FONT, scale, weight)
    strip = canvas[-(high + base + 2 * pad) :]
    strip[:] = strip // 4
    place = (pad, canvas.shape[0] - base - pad)
    cv2.putText(canvas, shown, place, _FONT, scale, _WHITE, weight, cv2.LINE_AA)


def _text_size(canvas: Image) -> tuple[float, int, int]:
    """Scale and weight of the font, and space around text in px."""
    pixels = max(11, round(max(canvas.shape[:2]) / 65))  # of capitals; smaller ones are hard to read
    return cv2.getFontScaleFromHeight(_FONT, pixels, 1), max(1, pixels // 10), max(2, pixels // 3)
