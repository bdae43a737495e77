"""Find the faces in full-size frames: a table of detectors behind one small protocol."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from dfpipe.config import FacesConfig
from dfpipe.errors import choose
from dfpipe.preprocess.boxes import centre, iou, moved, scaled, usable
from dfpipe.preprocess.tracks import affinity, join
from dfpipe.types import FaceBox, Image

STRIDE = 2  # frames from one that is looked at as a whole to the next
NEAR = (
    3.0  # face sides: how far around a face the frames beside are searched for it; it moves by 0.8 at most (tracks.py)
)
NEAR_SIDE = 256  # px in which that part is looked at: the face then has 85, in the first look at 1080p mostly less
MOST_PLACES = 6  # faces for whose places a look at each costs less than one at the whole frame
SAME = 0.4  # IoU from which two boxes are taken for one face


class FaceDetector(Protocol):
    """Anything that finds faces."""

    def detect(self, images: Sequence[Image]) -> list[list[FaceBox]]:
        """Finds the faces in RGB pictures of one size; boxes in px of those pictures, most confident first."""
        ...


def _mtcnn(config: FacesConfig, device: str) -> FaceDetector:
    from dfpipe.preprocess.mtcnn import MTCNN

    return MTCNN(config.min_face, config.thresholds, device)


def _yunet(config: FacesConfig, device: str) -> FaceDetector:
    from dfpipe.preprocess.yunet import YuNet

    return YuNet(Path(config.detector_model), config.min_confidence)


DETECTORS: dict[str, Callable[[FacesConfig, str], FaceDetector]] = {"mtcnn": _mtcnn, "yunet": _yunet}


def load_detector(config: FacesConfig, device: str = "cpu") -> FaceDetector:
    """Builds the detector that the config names.

    Raises:
        ConfigError: Unknown detector.
    """
    return choose(DETECTORS, config.detector, "detector")(config, device)


def find_faces(detector: FaceDetector, images: Sequence[Image], config: FacesConfig) -> list[list[FaceBox]]:
    """Finds faces in full-size pictures of one size, each by itself, at the least cost that finds them.

    A first look at pictures of `detect_side` px costs a tenth of full size and finds the faces that fill a good part of
    the frame; only pictures in which it finds none are looked at again at `fine_side` px.

    Args:
        detector: From `load_detector`.
        images: RGB uint8 (H, W, 3), all of one size.
        config: Sides, least confidence, most faces.

    Returns:
        For each picture its faces in px of the full picture, the largest first, all of at least `min_confidence`.
    """
    found = [sure(faces, config) for faces in _look(detector, images, config, config.detect_side)]
    if _finer(images, config):
        for i in [i for i, faces in enumerate(found) if not faces]:
            found[i] = sure(_look(detector, [images[i]], config, config.fine_side)[0], config)
    return found


def find_in_frames(detector: FaceDetector, images: Sequence[Image], config: FacesConfig) -> list[list[FaceBox]]:
    """Finds faces in frames that follow each other in a clip.

    As `find_faces`, but frames help each other. Every `STRIDE`-th is looked at as a whole. In the others, and where no face
    is sure, each of the faces found so far is looked for around its place in the nearest frame; only a frame that shows
    none there is looked at as a whole too. If none of these frames shows a sure face, one gets the second look of
    `find_faces`, and what it shows is looked for in the others. Faces of less than `min_confidence` are told as well:
    whether they are faces is seen by whether they go on from sure ones, see `dfpipe.preprocess.tracks.join`.

    Args:
        detector: From `load_detector`.
        images: RGB uint8 (H, W, 3), all of one size, in order of time.
        config: Sides, least confidence, most faces.

    Returns:
        For each frame its faces in px of the full frame, the sure ones first, of those the largest.
    """
    found: list[list[FaceBox]] = [[] for _ in images]
    keys = list(range(0, len(images), STRIDE))
    _fill(found, keys, _look(detector, [images[i] for i in keys], config, config.detect_side))
    followed = _followed(found, config)
    open_ = [i for i in range(len(images)) if not sure(found[i], config)]
    if 0 < len(followed) <= MOST_PLACES:
        near = _look_near(detector, images, open_, followed, config)
        _fill(found, open_, [near[i] or found[i] for i in open_])
    whole = [i for i in open_ if i not in keys and not found[i]]
    _fill(found, whole, _look(detector, [images[i] for i in whole], config, config.detect_side))
    if _finer(images, config) and not any(sure(faces, config) for faces in found):
        _look_finely(detector, images, found, config)
    return found


def _look_finely(
    detector: FaceDetector, images: Sequence[Image], found: list[list[FaceBox]], config: FacesConfig
) -> None:
    """The second look, in frames that show no sure face: at the one in the middle, and in the others around what it shows.

    Only where nothing is followed, sure or not, the others are looked at as a whole too, if they show nothing there.
    """
    followed = bool(_followed(found, config))
    middle = len(images) // 2
    others = [i for i in range(len(images)) if i != middle]
    fine = _look(detector, [images[middle]], config, config.fine_side)[0]
    found[middle] = _apart([*found[middle], *fine], config)
    if 0 < len(sure(fine, config)) <= MOST_PLACES:
        near = _look_near(detector, images, others, [[(middle, face)] for face in sure(fine, config)], config)
        _fill(found, others, [_apart([*found[i], *near[i]], config) for i in others])
    for i in others if not followed else []:
        if not found[i]:
            found[i] = _look(detector, [images[i]], config, config.fine_side)[0]


def _fill(found: list[list[FaceBox]], places: Sequence[int], faces: Sequence[list[FaceBox]]) -> None:
    for i, some in zip(places, faces, strict=True):
        found[i] = some


def sure(faces: Sequence[FaceBox], config: FacesConfig) -> list[FaceBox]:
    """Those of at least `min_confidence`."""
    return [face for face in faces if face.confidence >= config.min_confidence]


def _finer(images: Sequence[Image], config: FacesConfig) -> bool:
    """Whether there is more to see than at first sight."""
    return bool(images) and max(images[0].shape[:2]) > config.detect_side < config.fine_side


def _followed(found: Sequence[Sequence[FaceBox]], config: FacesConfig) -> list[list[tuple[int, FaceBox]]]:
    """The faces that are sure or seen in two frames, each as pairs of frame and box."""
    tracks: dict[int, list[tuple[int, FaceBox]]] = defaultdict(list)
    for i, (boxes, numbers) in enumerate(zip(found, join(found, config.min_confidence), strict=True)):
        for box, number in zip(boxes, numbers, strict=True):
            tracks[number].append((i, box))
    return [track for track in tracks.values() if len(track) > 1 or sure([box for _, box in track], config)]


def _look_near(
    detector: FaceDetector,
    images: Sequence[Image],
    wanted: Sequence[int],
    followed: Sequence[Sequence[tuple[int, FaceBox]]],
    config: FacesConfig,
) -> dict[int, list[FaceBox]]:
    """Looks for faces around their places in the nearest frames; the parts of one face, of one size, all together."""
    found: dict[int, list[FaceBox]] = {i: [] for i in wanted}
    for track in followed:
        height, width = images[0].shape[:2]
        side = int(NEAR * max(box.side for _, box in track)) + 1
        across, down = min(side, width), min(side, height)
        places = [min(track, key=lambda seen: abs(seen[0] - i))[1] for i in wanted]
        corners = [
            (round(min(max(x - across / 2, 0), width - across)), round(min(max(y - down / 2, 0), height - down)))
            for x, y in map(centre, places)
        ]
        parts = [images[i][y : y + down, x : x + across] for i, (x, y) in zip(wanted, corners, strict=True)]
        looks = _look(detector, parts, config, NEAR_SIDE)
        for i, place, corner, faces in zip(wanted, places, corners, looks, strict=True):
            there = [moved(face, *corner) for face in faces]
            found[i] += [face for face in there if affinity(place, face) > 0]
    return {i: _apart(faces, config) for i, faces in found.items()}


def _apart(faces: Sequence[FaceBox], config: FacesConfig) -> list[FaceBox]:
    """Of boxes that are of one face the most confident; in the order of `find_in_frames`."""
    kept: list[FaceBox] = []
    for face in sorted(faces, key=lambda face: -face.confidence):
        if all(iou(face, other) < SAME for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: (face.confidence < config.min_confidence, -face.side))[: config.max_faces]


def _look(
    detector: FaceDetector, images: Sequence[Image], config: FacesConfig, longest_side: int
) -> list[list[FaceBox]]:
    if not images:
        return []
    small, factor = shrunk(images, longest_side)
    height, width = small[0].shape[:2]
    return [
        sorted(
            (scaled(face, factor) for face in faces if usable(face, width, height)),
            key=lambda face: (face.confidence < config.min_confidence, -face.side),
        )[: config.max_faces]
        for faces in detector.detect(small)
    ]


def shrunk(images: Sequence[Image], longest_side: int) -> tuple[list[Image], float]:
    """Shrinks pictures of one size so that the longer side is at most `longest_side` px.

    Returns:
        The pictures, and the factor that takes their coordinates back to the originals (1.0 if already small enough).
    """
    if not images:
        return [], 1.0
    height, width = images[0].shape[:2]
    factor = max(height, width) / longest_side
    if factor <= 1:
        return list(images), 1.0
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = [np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8) for image in images]
    return small, factor
