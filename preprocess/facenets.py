"""The three networks of the MTCNN cascade, with their weights from the facenet-pytorch package.

Built here, layer by layer under the names that its files of weights use: importing the package brings torchvision and
torch's compiler, 1.3 core-seconds for every process that looks for faces (benchmarks/infer_cost.py). That ours give what
the package's own give is tested.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfpipe.errors import DfpipeError

WEIGHTS = Path("data")  # inside the package


class HalvingPool(nn.Module):
    """The largest of each 2 x 2 px, as P-Net's own pooling has it, in an eighth of its time for channels-last (measured)."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to half of it, rounded up."""
        height, width = x.shape[2:]
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2), value=-torch.inf)
        rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


class Slopes(nn.Module):
    """PReLU in half of its time where there are few channels (measured)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Negative values (N, C, H, W) times the slope of their channel."""
        return x.clamp_min(0).addcmul_(x.clamp_max(0), self.weight[:, None, None])


class _Net(nn.Module):
    """What the three share."""

    def load(self, name: str) -> None:
        """Takes the weights from a file of facenet-pytorch.

        Raises:
            DfpipeError: The package is not installed.
        """
        package = find_spec("facenet_pytorch")
        if package is None or package.origin is None:
            raise DfpipeError("facenet-pytorch is not installed: pip install facenet-pytorch")
        self.load_state_dict(torch.load(Path(package.origin).parent / WEIGHTS / name, weights_only=True))


class PNet(_Net):
    """Proposes: looks at every window of 12 px of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), Slopes(10)
        self.pool1 = HalvingPool()
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)
        self.load("pnet.pt")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) to shifts (N, 4, h, w) and probabilities of no face and face (N, 2, h, w)."""
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.prelu2(self.conv2(x))
        x = self.prelu3(self.conv3(x))
        return self.conv4_2(x), self.conv4_1(x).softmax(1)


class RNet(_Net):
    """Refines: looks at windows of 24 px."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)
        self.load("rnet.pt")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, 24, 24) to shifts (N, 4) and probabilities (N, 2)."""
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.prelu3(self.conv3(x))
        x = self.prelu4(self.dense4(_flat(x)))
        return self.dense5_2(x), self.dense5_1(x).softmax(1)


class ONet(_Net):
    """Decides: looks at windows of 48 px, and finds five landmarks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.pool3 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)
        self.load("onet.pt")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, 48, 48) to shifts (N, 4), landmarks (N, 10) and probabilities (N, 2)."""
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.pool3(self.prelu3(self.conv3(x)))
        x = self.prelu4(self.conv4(x))
        x = self.prelu5(self.dense5(_flat(x)))
        return self.dense6_2(x), self.dense6_3(x), self.dense6_1(x).softmax(1)


def _flat(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, W * H * C): the order of the framework in which the networks were trained."""
    return x.permute(0, 3, 2, 1).flatten(1)
