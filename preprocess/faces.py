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
from dfpipe.preprocess.tracks import join
from dfpipe.types import FaceBox, Image

NEAR = 3.0  # face sides: how far around a face the next frames are searched for it; it moves by 0.8 at most (tracks.py)
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

    As `find_faces`, but frames help each other. Where one shows no sure face and others of these frames do, in the same
    place at least twice, the second look is at that place alone: a thirtieth of the picture. And faces of less than
    `min_confidence` are told too: whether they are faces is seen by whether they go on from sure ones, see
    `dfpipe.preprocess.tracks.join`.

    Args:
        detector: From `load_detector`.
        images: RGB uint8 (H, W, 3), all of one size, in order of time.
        config: Sides, least confidence, most faces.

    Returns:
        For each frame its faces in px of the full frame, the sure ones first, of those the largest.
    """
    found = _look(detector, images, config, config.detect_side)
    if not _finer(images, config):
        return found
    followed = _followed(found, config.min_confidence)
    for i in [i for i, faces in enumerate(found) if not sure(faces, config)]:
        near = [min(track, key=lambda seen: abs(seen[0] - i))[1] for track in followed]
        if near:
            found[i] = _look_near(detector, images[i], near, config) or found[i]
        else:
            found[i] = _look(detector, [images[i]], config, config.fine_side)[0]
    return found


def sure(faces: Sequence[FaceBox], config: FacesConfig) -> list[FaceBox]:
    """Those of at least `min_confidence`."""
    return [face for face in faces if face.confidence >= config.min_confidence]


def _finer(images: Sequence[Image], config: FacesConfig) -> bool:
    """Whether there is more to see than at first sight."""
    return bool(images) and max(images[0].shape[:2]) > config.detect_side < config.fine_side


def _followed(found: Sequence[Sequence[FaceBox]], min_confidence: float) -> list[list[tuple[int, FaceBox]]]:
    """The faces that are seen in at least two frames, each as pairs of frame and box."""
    tracks: dict[int, list[tuple[int, FaceBox]]] = defaultdict(list)
    for i, (boxes, numbers) in enumerate(zip(found, join(found, min_confidence), strict=True)):
        for box, number in zip(boxes, numbers, strict=True):
            tracks[number].append((i, box))
    return [track for track in tracks.values() if len(track) > 1]


def _look_near(detector: FaceDetector, image: Image, places: Sequence[FaceBox], config: FacesConfig) -> list[FaceBox]:
    """Looks for faces around places of a picture, in the detail that a close look at each gives."""
    height, width = image.shape[:2]
    found: list[FaceBox] = []
    for place in places:
        (x, y), reach = centre(place), NEAR * place.side / 2
        left, top = max(0, int(x - reach)), max(0, int(y - reach))
        part = image[top : min(height, int(y + reach)), left : min(width, int(x + reach))]
        if part.size:
            faces = [moved(face, left, top) for face in _look(detector, [part], config, config.detect_side)[0]]
            found += [face for face in faces if all(iou(face, other) < SAME for other in found)]
    return sorted(found, key=lambda face: -face.side)[: config.max_faces]


def _look(
    detector: FaceDetector, images: Sequence[Image], config: FacesConfig, longest_side: int
) -> list[list[FaceBox]]:
    small, factor = shrunk(images, longest_side)
    height, width = small[0].shape[:2] if small else (0, 0)
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
