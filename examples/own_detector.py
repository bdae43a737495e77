"""The whole command line with a face detector of your own, here scikit-image's LBP cascade.

    python examples/own_detector.py extract --videos clips/ --set preprocess.faces.detector=lbp
    python examples/own_detector.py train
    python examples/own_detector.py infer clip.mp4

The last two need no setting: the model file carries the name of the detector, and its crops are cut as in training. A model
made so is judged through this script alone; plain `dfpipe infer` refuses it and says that it knows no detector `lbp`.
"""

from collections.abc import Sequence

import numpy as np
from skimage import data
from skimage.feature import Cascade

from dfpipe.cli import main
from dfpipe.config import FacesConfig
from dfpipe.preprocess.faces import DETECTORS
from dfpipe.types import FaceBox, Image

CONFIDENCE = 0.95  # a cascade gives none; boxes of at least preprocess.faces.min_confidence (0.9) count as sure


class LbpCascade:
    """Anything with this one method is a detector."""

    def __init__(self, config: FacesConfig, device: str) -> None:
        self._cascade = Cascade(data.lbp_frontal_face_cascade_filename())
        self._least = config.min_face

    def detect(self, images: Sequence[Image]) -> list[list[FaceBox]]:
        """Finds the faces in RGB pictures of one size; boxes in px of those pictures, most confident first."""
        return [self._detect(np.asarray(image)) for image in images]

    def _detect(self, image: Image) -> list[FaceBox]:
        most = min(image.shape[:2])
        if most <= self._least:
            return []
        found = self._cascade.detect_multi_scale(image, 1.2, 1, (self._least, self._least), (most, most))
        faces = [FaceBox(f["c"], f["r"], f["c"] + f["width"], f["r"] + f["height"], CONFIDENCE) for f in found]
        return sorted(faces, key=lambda face: -face.side)


# At the top of the script, not below: the child processes that read media import it, and so know the detector too.
DETECTORS["lbp"] = LbpCascade

if __name__ == "__main__":
    main()
