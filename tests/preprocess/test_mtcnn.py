"""Our cascade against facenet-pytorch's own MTCNN, the reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfpipe.config import FacesConfig
from dfpipe.errors import ConfigError
from dfpipe.preprocess.boxes import iou
from dfpipe.preprocess.faces import find_faces, find_in_frames, load_detector, shrunk, sure
from dfpipe.preprocess.mtcnn import MTCNN, pyramid_scales
from dfpipe.preprocess.readers import open_video
from dfpipe.preprocess.sampling import uniform
from dfpipe.types import FaceBox, Image


@pytest.fixture(scope="module")
def ours() -> MTCNN:
    return MTCNN()


@pytest.fixture(scope="module")
def reference() -> Any:
    import facenet_pytorch

    return facenet_pytorch.MTCNN(keep_all=True)


def reference_faces(reference: Any, image: Image) -> list[FaceBox]:
    boxes, confidences, points = reference.detect(image, landmarks=True)
    if boxes is None:
        return []
    return [
        FaceBox(*map(float, box), float(p), tuple((float(x), float(y)) for x, y in landmarks))
        for box, p, landmarks in zip(boxes, confidences, points, strict=True)
    ]


def test_the_known_face(ours: MTCNN, reference: Any, portrait: Image) -> None:
    ((face,),) = ours.detect([portrait])
    (expected,) = reference_faces(reference, portrait)
    assert iou(face, expected) > 0.95
    assert face.confidence == pytest.approx(expected.confidence, abs=0.01)
    assert np.abs(np.array(face.landmarks) - np.array(expected.landmarks)).max() < 2


def test_turned_and_shrunk_faces(ours: MTCNN, reference: Any, portrait: Image) -> None:
    for image in (portrait[::2, ::2].copy(), portrait[:, ::-1].copy(), portrait[40:300, 120:330].copy()):
        expected = [f for f in reference_faces(reference, image) if f.confidence > 0.95]
        found = ours.detect([image])[0]
        assert expected
        assert all(any(iou(e, f) > 0.8 for f in found) for e in expected)


def test_a_batch_gives_what_single_pictures_give(ours: MTCNN, portrait: Image) -> None:
    """Also where pictures without a face are in it, on which the reference raises."""
    images = [portrait, np.zeros_like(portrait), portrait[:, ::-1].copy()]
    together = ours.detect(images)
    assert [len(faces) for faces in together] == [1, 0, 1]
    for image, faces in zip(images, together, strict=True):
        for a, b in zip(ours.detect([image])[0], faces, strict=True):
            assert iou(a, b) > 0.999


def test_shrunk_never_enlarges() -> None:
    image = np.zeros((100, 50, 3), np.uint8)
    assert shrunk([image], 640)[1] == 1.0
    small, factor = shrunk([image], 50)
    assert (small[0].shape, factor) == ((50, 25, 3), 2.0)


def test_unknown_detector() -> None:
    with pytest.raises(ConfigError, match="mtcnn"):
        load_detector(FacesConfig(detector="retina"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "clip", ["clips/real/portrait_d10.mp4", "faceforensics/original_sequences/youtube/c40/videos/183.mp4"]
)
def test_parity_on_real_clips(real_data: Path, ours: MTCNN, reference: Any, clip: str) -> None:
    with open_video(real_data / clip) as video:
        images = [frame.image for frame in video.frames(uniform(len(video.timeline.times), 4))]
    for image, found in zip(images, find_faces(ours, images, FacesConfig()), strict=True):
        sure = [f for f in reference_faces(reference, image) if f.confidence >= 0.95 and f.side >= 60]
        assert sure
        assert all(any(iou(e, f) >= 0.6 for f in found) for e in sure)
