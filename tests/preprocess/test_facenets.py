"""Our P-, R- and O-Net and our loading of torchvision's suppression, against the packages that they spare us."""

import pytest
import torch
from torch import Tensor

from dfpipe.preprocess import facenets
from dfpipe.preprocess.facenets import HalvingPool, Slopes
from dfpipe.preprocess.suppression import AT_ONCE, batched_nms


@pytest.mark.parametrize(("name", "side"), [("PNet", 60), ("PNet", 61), ("RNet", 24), ("ONet", 48)])
def test_the_networks_are_those_of_facenet_pytorch(name: str, side: int) -> None:
    from facenet_pytorch.models import mtcnn

    ours, theirs = (getattr(module, name)().eval() for module in (facenets, mtcnn))
    windows = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for mine, expected in zip(ours(windows), theirs(windows), strict=True):
        assert torch.equal(mine, expected)


def some_boxes(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of 3 pictures of 100 px, some of them with an equal score."""
    draw = torch.Generator().manual_seed(count)
    corner = torch.rand(count, 2, generator=draw) * 80
    boxes = torch.cat([corner, corner + 5 + 15 * torch.rand(count, 2, generator=draw)], 1)
    scores = (torch.rand(count, generator=draw) * 500).round() / 500
    return boxes, scores, torch.randint(3, (count,), generator=draw)


@pytest.mark.parametrize("count", [0, 1, 200, AT_ONCE, AT_ONCE + 1, 3000])
@pytest.mark.parametrize("most", [0.3, 0.7])
def test_suppression_is_that_of_torchvision(count: int, most: float) -> None:
    from torchvision import ops

    boxes, scores, owner = some_boxes(count)
    kept = batched_nms(boxes, scores, owner, most)
    assert torch.equal(kept, ops.batched_nms(boxes, scores, owner, most))
    assert count <= 1 or 0 < len(kept) < count


def test_boxes_of_different_pictures_do_not_compete() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 3)
    kept = batched_nms(boxes, torch.tensor([0.7, 0.8, 0.9]), torch.tensor([0, 0, 1]), 0.5)
    assert kept.tolist() == [2, 1]


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
    small[564:692, 964:1092] = portrait[::4, ::4]
    eyes = Eyes()
    found = find_in_frames(eyes, [large, small, large], FacesConfig())
    ((face,),) = [sure(faces, FacesConfig()) for faces in found[1:2]]
    assert 964 < face.x1 < face.x2 < 1092
    assert 564 < face.y1 < face.y2 < 692
    assert 0.01 < (face.landmarks[1][0] - face.landmarks[0][0]) / face.side < 1
    assert eyes.shown[:3] == [(360, 640)] * 3
    assert len(eyes.shown) == 4
    assert max(eyes.shown[3]) <= 640


def test_a_face_in_one_frame_alone_points_nowhere(portrait: Image) -> None:
    large, empty = np.full((1080, 1920, 3), 90, np.uint8), np.full((1080, 1920, 3), 90, np.uint8)
    large[500:756, 900:1156] = portrait[::2, ::2]
    eyes = Eyes()
    assert [len(faces) for faces in find_in_frames(eyes, [large, empty], FacesConfig())] == [1, 0]
    assert eyes.shown == [(360, 640), (360, 640), (1080, 1920)]


def test_unsure_faces_are_told_of_frames_and_dropped_of_single_pictures(portrait: Image) -> None:
    config = FacesConfig(min_confidence=1.0)
    detector = load_detector(config)
    assert find_faces(detector, [portrait], config) == [[]]
    ((face,),) = find_in_frames(detector, [portrait], config)
    assert face.confidence < 1


@pytest.mark.parametrize("shape", [(1, 10, 216, 384), (2, 10, 7, 5), (1, 3, 1, 1)])
def test_fast_layers_equal_torchs(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    slopes = Slopes(shape[1])
    torch.nn.init.normal_(slopes.weight)
    assert torch.equal(HalvingPool()(x), torch.nn.functional.max_pool2d(x, 2, 2, ceil_mode=True))
    assert torch.equal(slopes(x), torch.nn.functional.prelu(x, slopes.weight))
