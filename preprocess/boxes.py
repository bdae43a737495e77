"""Arithmetic on face boxes. Pure."""

import math

from dfpipe.types import FaceBox


def iou(a: FaceBox, b: FaceBox) -> float:
    """Intersection over union of two boxes, 0..1."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1)
    height = min(a.y2, b.y2) - max(a.y1, b.y1)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (area(a) + area(b) - shared)


def area(box: FaceBox) -> float:
    """Area in square px."""
    return max(0.0, box.x2 - box.x1) * max(0.0, box.y2 - box.y1)


def usable(box: FaceBox, width: int, height: int) -> bool:
    """Whether a box can be cut: of finite numbers, with an area, and in sight of a picture of that size, in px."""
    finite = all(map(math.isfinite, (box.x1, box.y1, box.x2, box.y2, box.confidence)))
    return finite and iou(box, FaceBox(0, 0, width, height, 1.0)) > 0


def centre(box: FaceBox) -> tuple[float, float]:
    """Centre (x, y) in px."""
    return (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2


def scaled(box: FaceBox, factor: float) -> FaceBox:
    """The same box in a picture that is `factor` times as large."""
    return FaceBox(
        box.x1 * factor,
        box.y1 * factor,
        box.x2 * factor,
        box.y2 * factor,
        box.confidence,
        tuple((x * factor, y * factor) for x, y in box.landmarks),
    )


def moved(box: FaceBox, x: float, y: float) -> FaceBox:
    """The same box in a picture whose origin lies (x, y) px before."""
    points = tuple((px + x, py + y) for px, py in box.landmarks)
    return FaceBox(box.x1 + x, box.y1 + y, box.x2 + x, box.y2 + y, box.confidence, points)
