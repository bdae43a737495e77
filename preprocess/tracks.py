"""Join the boxes of neighbouring frames into people. Pure."""

import math
from collections.abc import Sequence

from dfpipe.preprocess.boxes import centre, iou
from dfpipe.types import FaceBox

MAX_GAP = 8  # sampled frames for which a person may be out of sight and still be the same: a quarter of the usual 32
# Between two of 32 frames of a ten-second clip lie 0.3 s, in which a face moves up to about its own width and hardly
# changes its size (looked at on the DFDC and crowd clips).
MAX_DISTANCE = 0.8  # between centres, in face sides
MAX_SIZE_RATIO = 1.6


def join(frames: Sequence[Sequence[FaceBox]], min_confidence: float = 0.0) -> list[list[int]]:
    """Gives every box the number of a person.

    Greedy by overlap, then by distance, frame after frame; boxes that are sure come first, the others go on from what is
    left (as in ByteTrack: Zhang et al., ECCV 2022). People are numbered by presence: 0 is who is seen in most frames and
    largest (frames x mean side).

    Args:
        frames: The boxes of each sampled frame, in presentation order.
        min_confidence: From which a box is sure, 0..1.

    Returns:
        A track number for each box, in the shape of `frames`.
    """
    raw, tracks = _follow(frames, min_confidence)
    presence = {t: sum(box.side for _, box in seen) for t, seen in enumerate(tracks)}
    rank = {t: r for r, t in enumerate(sorted(presence, key=lambda t: (-presence[t], t)))}
    return [[rank[t] for t in numbers] for numbers in raw]


def _follow(
    frames: Sequence[Sequence[FaceBox]], min_confidence: float
) -> tuple[list[list[int]], list[list[tuple[int, FaceBox]]]]:
    tracks: list[list[tuple[int, FaceBox]]] = []  # each a list of (frame position, box)
    numbers: list[list[int]] = []
    for position, boxes in enumerate(frames):
        live = [t for t, seen in enumerate(tracks) if position - seen[-1][0] <= MAX_GAP]
        match = _match({t: tracks[t][-1][1] for t in live}, boxes, min_confidence)
        row = []
        for i, box in enumerate(boxes):
            track = match.get(i, len(tracks))
            if track == len(tracks):
                tracks.append([])
            tracks[track].append((position, box))
            row.append(track)
        numbers.append(row)
    return numbers, tracks


def _match(last: dict[int, FaceBox], boxes: Sequence[FaceBox], min_confidence: float) -> dict[int, int]:
    """Box position to track number, the best pairs first."""
    pairs = sorted(
        (box.confidence < min_confidence, -score, track, i)
        for track, seen in last.items()
        for i, box in enumerate(boxes)
        if (score := affinity(seen, box)) > 0
    )
    match: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, track, i in pairs:
        if i not in match and track not in taken:
            match[i] = track
            taken.add(track)
    return match


def affinity(a: FaceBox, b: FaceBox) -> float:
    """How likely two boxes of neighbouring frames are one face: 0 = no, above 0 the more the better.

    Overlapping boxes score 1 + IoU, boxes that only lie near score below 1.
    """
    if min(a.side, b.side) <= 0 or max(a.side, b.side) > MAX_SIZE_RATIO * min(a.side, b.side):
        return 0.0
    distance = math.dist(centre(a), centre(b)) / ((a.side + b.side) / 2)
    if distance > MAX_DISTANCE:
        return 0.0
    overlap = iou(a, b)
    return 1 + overlap if overlap > 0 else 1 - distance
