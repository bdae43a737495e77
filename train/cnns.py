"""Networks of our sources that timm does not know, built as their authors describe them.

Each gives features like a timm backbone: `head_hidden_size` says how many, `group_matcher` how its parameters divide into
blocks from input to output.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as OpenCV and Pillow turn RGB into grey


class PlainCNN(nn.Module):
    """Two blocks of an unpadded 3 x 3 convolution (32, then 64 filters), ReLU and 2 x 2 max pooling; one dense ReLU layer.

    Args:
        image_size: Side of the input, px; the dense layer has a weight for every value of the last feature map.
        width: Of the dense layer.
        grey: Look at brightness alone, one channel instead of three.
        normed: Batch normalisation of the dense layer.
    """

    luma: Tensor

    def __init__(self, image_size: int, width: int, *, grey: bool = False, normed: bool = False) -> None:
        super().__init__()
        self.grey = grey
        self.register_buffer("luma", torch.tensor(LUMA).view(1, 3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(1 if grey else 3, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.pool = nn.MaxPool2d(2)
        side = ((image_size - 2) // 2 - 2) // 2
        self.dense = nn.Linear(64 * side * side, width)
        self.norm = nn.BatchNorm1d(width) if normed else nn.Identity()
        self.head_hidden_size = width

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) float to (B, width) features."""
        if self.grey:
            images = (images * self.luma).sum(1, keepdim=True)
        maps = self.pool(torch.relu(self.conv1(images)))
        maps = self.pool(torch.relu(self.conv2(maps)))
        return torch.relu(self.norm(self.dense(maps.flatten(1))))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Blocks by parameter name, in timm's form: the first convolution, the second, the dense layer with its norm."""
        return {"stem": r"^conv1", "blocks": [(r"^conv2", (0,)), (r"^dense", (1,)), (r"^norm", (1,))]}


def deepfake_detector_cnn(image_size: int) -> PlainCNN:
    """The CNN whose authors give 246,016 flattened values and 31,509,377 parameters in all, at 256 px.

    The layers that they name have 31,509,697 parameters on RGB. Their total fits one input channel (576 fewer) and 256
    parameters more, which is batch normalisation of the dense layer: that reading is ours.
    """
    return PlainCNN(image_size, 128, grey=True, normed=True)


def simple_cnn(image_size: int) -> PlainCNN:
    """Two convolutions with pooling and a dense layer; the authors give no widths, these are ours."""
    return PlainCNN(image_size, 128)


# Side of the input in px to a network with `head_hidden_size` and `group_matcher`; examples/own_network.py adds one.
CNNS: dict[str, Callable[[int], nn.Module]] = {
    "deepfake_detector_cnn": deepfake_detector_cnn,
    "simple_cnn": simple_cnn,
}
