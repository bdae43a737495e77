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


@pytest.mark.parametrize("shape", [(1, 10, 216, 384), (2, 10, 7, 5), (1, 3, 1, 1)])
def test_fast_layers_equal_torchs(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    slopes = Slopes(shape[1])
    torch.nn.init.normal_(slopes.weight)
    assert torch.equal(HalvingPool()(x), torch.nn.functional.max_pool2d(x, 2, 2, ceil_mode=True))
    assert torch.equal(slopes(x), torch.nn.functional.prelu(x, slopes.weight))
