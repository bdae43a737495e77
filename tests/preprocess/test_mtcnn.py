"""Our cascade against facenet-pytorch's own MTCNN, the reference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dfpipe.config import FacesConfig
from dfpipe.errors import ConfigError
from dfpipe.preprocess import faces as faces_module
from dfpipe.preprocess.boxes import iou, moved
from dfpipe.preprocess.faces import MOST_PLACES, NEAR_SIDE, find_faces, find_in_frames, load_detector, shrunk, sure
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


@pytest.mark.parametrize("shape", [(1, 1), (5, 900), (11, 11), (19, 19), (20, 3000)])
def test_tiny_pictures_have_no_face(ours: MTCNN, shape: tuple[int, int]) -> None:
    assert ours.detect([np.full((*shape, 3), 128, np.uint8)]) == [[]]


def test_nothing_to_look_at(ours: MTCNN) -> None:
    assert ours.detect([]) == []
    assert find_faces(ours, [], FacesConfig()) == []


def test_pyramid_covers_min_face_to_the_whole_picture() -> None:
    scales = pyramid_scales(480, 640, 20)
    assert scales[0] == 12 / 20
    assert 12 <= 480 * scales[-1] < 12 / 0.709
    assert pyramid_scales(10, 10, 20) == []


def test_full_size_coordinates(ours: MTCNN, portrait: Image) -> None:
    large = np.repeat(np.repeat(portrait, 3, 0), 3, 1)  # 1536 px, looked at in 640
    ((small_face,), (large_face,)) = ours.detect([portrait]), find_faces(ours, [large], FacesConfig())[0:1]
    expected = FaceBox(*(3 * v for v in (small_face[0].x1, small_face[0].y1, small_face[0].x2, small_face[0].y2)), 1.0)
    assert iou(large_face[0], expected) > 0.85


def test_the_second_look_finds_faces_too_small_for_the_first(portrait: Image) -> None:
    scene = np.full((1080, 1920, 3), 90, np.uint8)
    scene[500:628, 900:1028] = portrait[::4, ::4]  # a face of 27 px, of 9 px in the first look
    config = FacesConfig()
    detector = load_detector(config)
    ((face,),) = find_faces(detector, [scene], config)
    assert 900 < face.x1 < face.x2 < 1028
    assert find_faces(detector, [scene], FacesConfig(fine_side=0)) == [[]]


def test_most_faces_and_least_confidence(portrait: Image) -> None:
    crowd = np.hstack([portrait[40:240, 120:330]] * 4)
    detector = load_detector(FacesConfig())
    assert len(find_faces(detector, [crowd], FacesConfig())[0]) == 4
    assert len(find_faces(detector, [crowd], FacesConfig(max_faces=2))[0]) == 2
    assert find_faces(detector, [crowd], FacesConfig(min_confidence=1.0)) == [[]]


class Eyes:
    """The real detector, counting the pixels that it is shown."""

    def __init__(self) -> None:
        self._detector = load_detector(FacesConfig())
        self.shown: list[tuple[int, int]] = []

    def detect(self, images: Sequence[Image]) -> list[list[FaceBox]]:
        self.shown += [image.shape[:2] for image in images]
        return self._detector.detect(images)


def test_frames_help_each_other(portrait: Image) -> None:
    """A face too small for the first look is found where the frames beside it show it, by a look there alone."""
    large, small = np.full((1080, 1920, 3), 90, np.uint8), np.full((1080, 1920, 3), 90, np.uint8)
    large[500:756, 900:1156] = portrait[::2, ::2]
    small[532:724, 932:1124] = cv2.resize(portrait, (192, 192), interpolation=cv2.INTER_AREA)
    eyes = Eyes()
    found = find_in_frames(eyes, [large, small, large], FacesConfig())
    ((face,),) = [sure(faces, FacesConfig()) for faces in found[1:2]]
    assert 932 < face.x1 < face.x2 < 1124
    assert 532 < face.y1 < face.y2 < 724
    assert 0.01 < (face.landmarks[1][0] - face.landmarks[0][0]) / face.side < 1
    assert eyes.shown[:2] == [(360, 640)] * 2  # every second frame as a whole
    assert len(eyes.shown) == 3
    assert max(eyes.shown[2]) <= NEAR_SIDE


def test_a_frame_that_shows_nothing_in_the_place_is_looked_at_as_a_whole(portrait: Image) -> None:
    left, right = np.full((1080, 1920, 3), 90, np.uint8), np.full((1080, 1920, 3), 90, np.uint8)
    left[500:756, 100:356] = portrait[::2, ::2]
    right[500:756, 1500:1756] = portrait[::2, ::2]
    eyes = Eyes()
    ((here,), (there,)) = find_in_frames(eyes, [left, right], FacesConfig())
    assert here.x1 < 356
    assert there.x1 > 1500
    assert [max(shape) > NEAR_SIDE for shape in eyes.shown] == [True, False, True]


def test_where_nothing_is_sure_one_frame_gets_a_second_look_and_tells_the_others_where(portrait: Image) -> None:
    scenes = [np.full((1080, 1920, 3), 90, np.uint8) for _ in range(8)]
    for i, scene in enumerate(scenes):
        scene[500:628, 900 + i : 1028 + i] = portrait[::4, ::4]  # a face of 27 px, of 9 px in the first look
    eyes = Eyes()
    found = find_in_frames(eyes, scenes, FacesConfig())
    assert [len(sure(faces, FacesConfig())) for faces in found] == [1] * 8
    assert eyes.shown.count((1080, 1920)) == 1
    assert find_in_frames(eyes, scenes, FacesConfig(fine_side=0)) == [[]] * 8


def test_many_places_are_not_looked_at_one_by_one(portrait: Image) -> None:
    crowd = np.hstack([portrait[40:240, 120:330]] * (MOST_PLACES + 1))
    eyes = Eyes()
    found = find_in_frames(eyes, [crowd, crowd], FacesConfig())
    assert [len(faces) for faces in found] == [MOST_PLACES + 1] * 2
    assert len(eyes.shown) == 2


def test_two_places_that_show_one_face_give_one_box(portrait: Image) -> None:
    scene = np.full((1080, 1920, 3), 90, np.uint8)
    scene[500:756, 900:1156] = portrait[::2, ::2]
    detector = load_detector(FacesConfig())
    ((face,),) = find_faces(detector, [scene], FacesConfig())
    twice = [[(0, face)], [(0, moved(face, 20, 0))]]
    assert len(faces_module._look_near(detector, [scene], [0], twice, FacesConfig())[0]) == 1


def test_unsure_faces_are_told_of_frames_and_dropped_of_single_pictures(portrait: Image) -> None:
    config = FacesConfig(min_confidence=1.0)
    detector = load_detector(config)
    assert find_faces(detector, [portrait], config) == [[]]
    ((face,),) = find_in_frames(detector, [portrait], config)
    assert face.confidence < 1


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
