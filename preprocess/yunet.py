"""YuNet through OpenCV: a second detector, with a model file that the user brings.

Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research 2023. The file is
face_detection_yunet_*.onnx of the OpenCV model zoo; no package ships it.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2

from dfpipe.errors import ConfigError
from dfpipe.types import FaceBox, Image

NMS_THRESHOLD, TOP_K = 0.3, 5000  # defaults of cv2.FaceDetectorYN


class YuNet:
    """One YuNet network.

    Args:
        model: The ONNX file.
        min_confidence: Boxes below are not reported, 0..1.

    Raises:
        ConfigError: No such file, or not a YuNet.
    """

    def __init__(self, model: Path, min_confidence: float) -> None:
        if not model.is_file():
            raise ConfigError(
                f"detector yunet needs its model file, and {str(model)!r} is none: download face_detection_yunet_*.onnx "
                "from the OpenCV model zoo and name it in preprocess.faces.detector_model"
            )
        try:
            self._net = cv2.FaceDetectorYN.create(str(model), "", (320, 320), min_confidence, NMS_THRESHOLD, TOP_K)
        except cv2.error as error:
            raise ConfigError(
                f"{model} is no YuNet that this OpenCV can read ({error.err}): download it again"
            ) from error

    def detect(self, images: Sequence[Image]) -> list[list[FaceBox]]:
        """Finds the faces in RGB pictures of one size; boxes in px of those pictures, most confident first."""
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: Image) -> list[FaceBox]:
        height, width = image.shape[:2]
        self._net.setInputSize((width, height))
        _, rows = self._net.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        faces = [] if rows is None else [_face(row) for row in rows]
        return sorted(faces, key=lambda face: -face.confidence)


def _face(row: Sequence[float]) -> FaceBox:
    """One row of OpenCV: x y width height, five landmarks (x, y) in our order, score."""
    x, y, width, height, *rest = (float(value) for value in row)
    landmarks = tuple(zip(rest[0:10:2], rest[1:10:2], strict=True))
    return FaceBox(x, y, x + width, y + height, min(1.0, rest[10]), landmarks)
