"""Of boxes that overlap, keep the best: torchvision's compiled non-maximum suppression, without the package around it.

`import torchvision` brings torch's compiler and 1,700 modules, 1.3 core-seconds for every process that looks for faces
(benchmarks/infer_cost.py). The compiled part alone is loaded in 10 ms, in the way in which torchvision itself does it. The
same in numpy took 74 ms for a clip of one face, and 258 ms for one with much texture, against 6 and 21 ms.
"""

import functools
import importlib
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

AT_ONCE = 1000  # boxes up to which one call for all pictures is the fastest on a CPU, as torchvision has measured
LIBRARY = "_C*.so"  # _C.so, and _C_stable.so in newer versions


def batched_nms(boxes: Tensor, scores: Tensor, owner: Tensor, most: float) -> Tensor:
    """The same as torchvision's function of this name.

    Args:
        boxes: (M, 4) float32, x1 y1 x2 y2.
        scores: (M,) float32.
        owner: (M,) the picture that each belongs to; boxes of different pictures do not compete.
        most: Overlap (intersection over union) that a box may have with a better one, 0..1.

    Returns:
        Indices of those kept, the best first.
    """
    _load()
    nms = torch.ops.torchvision.nms
    if len(boxes) == 0:
        return owner[:0]
    if len(boxes) <= AT_ONCE:
        apart = owner.to(boxes) * (boxes.max() + 1)  # each picture beside the one before: none overlap
        kept: Tensor = nms(boxes + apart[:, None], scores, most)
        return kept
    places = [torch.where(owner == picture)[0] for picture in torch.unique(owner)]
    kept = torch.cat([place[nms(boxes[place], scores[place], most)] for place in places]).sort()[0]
    return kept[scores[kept].sort(descending=True)[1]]


@functools.cache
def _load() -> None:
    """Registers torchvision's operators with torch; importing the package later, or before, does no harm."""
    package = find_spec("torchvision")
    for library in sorted(Path(package.origin).parent.glob(LIBRARY)) if package and package.origin else []:
        torch.ops.load_library(library)
    if not hasattr(torch.ops.torchvision, "nms"):  # under another name in some version: the package knows it
        importlib.import_module("torchvision")
