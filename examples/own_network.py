"""The whole command line with a network of your own.

    python examples/own_network.py train --set train.model=tiny --set train.pretrained=none
    python examples/own_network.py infer clip.mp4

What the network must have: `head_hidden_size`, a `forward` that gives so many features per picture (dfpipe adds dropout, the
last layer and the normalisation of the input), and `group_matcher`, which divides its parameters into blocks for
`train.free="last N"`. The model file carries the name: judge with it through this script. For a network that timm knows none
of this is needed: `dfpipe train --set train.model=NAME`.
"""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from dfpipe.cli import main
from dfpipe.train.cnns import CNNS

WIDTHS = (3, 16, 32, 64)


class Tiny(nn.Module):
    """Three strided convolutions and a mean over the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(WIDTHS))
        self.head_hidden_size = WIDTHS[-1]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) float, normalised, to (B, 64) features."""
        for block in self.blocks:
            images = block(images).relu()
        return images.mean((2, 3))

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """In timm's form: parameters whose names match `stem` come first, then the blocks by their number."""
        return {"stem": r"^blocks\.0\.", "blocks": [(r"^blocks\.(\d+)\.", None)]}


CNNS["tiny"] = lambda image_size: Tiny()

if __name__ == "__main__":
    main()
