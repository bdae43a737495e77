"""Find the faces in full-size frames: a table of detectors behind one small protocol."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from dfpipe.config import FacesConfig
from dfpipe.errors import choose
from dfpipe.preprocess.boxes import scaled, usable
from dfpipe.types import FaceBox, Image


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
    """Finds faces in full-size pictures of one size, at the least cost that finds them.

    A first look at pictures of `detect_side` px costs a tenth of full size and finds the faces that fill a good part of
    the frame; only pictures in which it finds none are looked at again at `fine_side` px.

    Args:
        detector: From `load_detector`.
        images: RGB uint8 (H, W, 3), all of one size.
        config: Sides, least confidence, most faces.

    Returns:
        For each picture its faces in px of the full picture, the largest first.
    """
    found = _look(detector, images, config, config.detect_side)
    longer = max(images[0].shape[:2]) if images else 0
    missed = [i for i, faces in enumerate(found) if not faces]
    if missed and config.fine_side > config.detect_side and longer > config.detect_side:
        for i in missed:
            found[i] = _look(detector, [images[i]], config, config.fine_side)[0]
    return found


def _look(
    detector: FaceDetector, images: Sequence[Image], config: FacesConfig, longest_side: int
) -> list[list[FaceBox]]:
    small, factor = shrunk(images, longest_side)
    height, width = small[0].shape[:2] if small else (0, 0)
    return [
        sorted(
            (
                scaled(face, factor)
                for face in faces
                if face.confidence >= config.min_confidence and usable(face, width, height)
            ),
            key=lambda face: -face.side,
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
