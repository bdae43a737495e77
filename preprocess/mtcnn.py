"""The MTCNN cascade, batched over frames: P-Net proposes, R-Net refines, O-Net decides and finds five landmarks.

Method and weights: Zhang, Zhang, Li and Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
Networks", IEEE SPL 2016, as converted by facenet-pytorch, whose own `MTCNN` is the reference in our tests. Three
differences: pictures and windows are shrunk by OpenCV as bytes, not by torch as floats; all windows of all pictures pass
through a network together; and a picture without any candidate gives an empty list instead of an error.

What that is worth: docs/performance.md.

Arrays here: pictures uint8 RGB (H, W, 3); boxes (M, 4) as x1 y1 x2 y2 in px; `owner` (M,) says which of the N pictures a box
belongs to.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from dfpipe.preprocess.facenets import ONet, PNet, RNet
from dfpipe.preprocess.suppression import batched_nms
from dfpipe.threads import one_thread
from dfpipe.types import FaceBox, Image

PYRAMID_FACTOR = 0.709  # about sqrt(1/2): each level has half the area of the one before (Zhang et al.)
WINDOW = 12  # px that P-Net looks at
STRIDE = 2  # px between neighbouring windows of P-Net
NMS_WITHIN_LEVEL, NMS_BETWEEN = 0.5, 0.7  # overlap thresholds of facenet-pytorch
NETWORK_BATCH = 512  # windows per pass of R- and O-Net: bounds memory on a crowd
LEVEL_BATCH = 100_000  # px per pass of P-Net: more do not stay in the cache


@dataclass(frozen=True)
class _Candidates:
    boxes: Tensor  # (M, 4)
    scores: Tensor  # (M,)
    shifts: Tensor  # (M, 4): box regression as a share of the box
    owner: Tensor  # (M,) int64

    def __getitem__(self, pick: Tensor) -> "_Candidates":
        return _Candidates(self.boxes[pick], self.scores[pick], self.shifts[pick], self.owner[pick])


class MTCNN:
    """The three networks with their weights from the facenet-pytorch package.

    Args:
        min_face: Side in px of the smallest face looked for.
        thresholds: Least probability of a face after P-, R- and O-Net, 0..1.
        device: Where the networks run.
    """

    def __init__(
        self, min_face: int = 20, thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7), device: str = "cpu"
    ) -> None:
        self._min_face = min_face
        self._thresholds = thresholds
        self._device = torch.device(device)
        nets: list[nn.Module] = [PNet(), RNet(), ONet()]
        self._pnet, self._rnet, self._onet = (
            net.eval().to(self._device).to(memory_format=torch.channels_last) for net in nets
        )

    @torch.inference_mode()
    def detect(self, images: Sequence[Image]) -> list[list[FaceBox]]:
        """Finds the faces in pictures of one size.

        Args:
            images: RGB uint8 (H, W, 3), all of one size.

        Returns:
            For each picture its faces, most confident first, in px of the picture.
        """
        if not images:
            return []
        # With more threads numbers are summed in another order, and boxes differ in their last digits. However many workers
        # share the cores, boxes stay the same; clips are worked on side by side instead.
        with one_thread():
            found = self._propose(images)
            found = self._refine(images, found)
            return self._decide(images, found)

    def _propose(self, images: Sequence[Image]) -> _Candidates:
        """P-Net over the scale pyramid."""
        height, width = images[0].shape[:2]
        scales = pyramid_scales(height, width, self._min_face)
        levels = [self._level(small, s) for small, s in zip(_pyramid(images, scales), scales, strict=True)]
        if not levels:
            empty = torch.empty
            return _Candidates(empty(0, 4), empty(0), empty(0, 4), empty(0, dtype=torch.int64))
        found = _Candidates(
            *(torch.cat([getattr(level, part) for level in levels]) for part in ("boxes", "scores", "shifts", "owner"))
        )
        found = found[batched_nms(found.boxes, found.scores, found.owner, NMS_BETWEEN)]
        return _Candidates(_square(_moved(found.boxes, found.shifts, 0)), found.scores, found.shifts, found.owner)

    def _level(self, small: Image, scale: float) -> _Candidates:
        """P-Net on pictures that are shrunk to one scale, (N, h, w, 3), thinned out within the scale."""
        shifts, probabilities = self._through(self._pnet, small, max(1, LEVEL_BATCH // small[0, ..., 0].size))
        scores = probabilities[:, 1]
        owner, row, column = (scores >= self._thresholds[0]).nonzero(as_tuple=True)
        corner = torch.stack([column, row], 1).float() * STRIDE
        boxes = torch.cat([(corner + 1) / scale, (corner + WINDOW) / scale], 1).floor()
        found = _Candidates(boxes, scores[owner, row, column], shifts[owner, :, row, column], owner)
        return found[batched_nms(found.boxes, found.scores, found.owner, NMS_WITHIN_LEVEL)]

    def _refine(self, images: Sequence[Image], found: _Candidates) -> _Candidates:
        """R-Net on 24 px windows."""
        shifts, probabilities = self._look(self._rnet, images, found, 24)
        found = _Candidates(found.boxes, probabilities[:, 1], shifts, found.owner)
        found = found[found.scores > self._thresholds[1]]
        found = found[batched_nms(found.boxes, found.scores, found.owner, NMS_BETWEEN)]
        return _Candidates(_square(_moved(found.boxes, found.shifts, 1)), found.scores, found.shifts, found.owner)

    def _decide(self, images: Sequence[Image], found: _Candidates) -> list[list[FaceBox]]:
        """O-Net on 48 px windows, with landmarks."""
        shifts, landmarks, probabilities = self._look(self._onet, images, found, 48)
        keep = probabilities[:, 1] > self._thresholds[2]
        boxes, scores, owner = found.boxes[keep], probabilities[keep, 1], found.owner[keep]
        points = _landmark_points(boxes, landmarks[keep])
        boxes = _moved(boxes, shifts[keep], 1)
        faces: list[list[FaceBox]] = [[] for _ in images]
        for i in torch.argsort(scores, descending=True, stable=True).tolist():
            x1, y1, x2, y2 = boxes[i].tolist()
            box = FaceBox(x1, y1, x2, y2, scores[i].item(), _pairs(points[i]))
            mine = faces[int(owner[i])]
            if all(_share_of_smaller(box, other) <= NMS_BETWEEN for other in mine):
                mine.append(box)
        return faces

    def _look(self, net: nn.Module, images: Sequence[Image], found: _Candidates, size: int) -> tuple[Tensor, ...]:
        """Cuts all windows, resized to (size, size), and passes them through `net`."""
        if len(found.boxes) == 0:  # the networks refuse an empty batch
            return tuple(o[:0] for o in self._through(net, np.zeros((1, size, size, 3), np.uint8), 1))
        height, width = images[0].shape[:2]
        windows = _inside(found.boxes, height, width).int().tolist()
        cut = [
            _resized(images[owner][y1:y2, x1:x2], (size, size))
            for owner, (x1, y1, x2, y2) in zip(found.owner.tolist(), windows, strict=True)
        ]
        return self._through(net, np.stack(cut), NETWORK_BATCH)

    def _through(self, net: nn.Module, pictures: Image, at_once: int) -> tuple[Tensor, ...]:
        """The outputs of `net` for uint8 (N, H, W, 3), on the CPU."""
        parts = []
        for part in torch.from_numpy(pictures).split(at_once):
            values = (part.to(self._device).permute(0, 3, 1, 2).float() - 127.5) / 128
            parts.append([output.cpu() for output in net(values)])
        return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))


def _pyramid(images: Sequence[Image], scales: Sequence[float]) -> Iterator[Image]:
    """Pictures at each of some scales, (N, h, w, 3): shrunk from the level before the last, which is half as large."""
    height, width = images[0].shape[:2]
    above: list[Sequence[Image]] = [images, images]
    for scale in scales:
        size = (int(width * scale + 1), int(height * scale + 1))
        small = [_resized(image, size) for image in above[-2]]
        above.append(small)
        yield np.stack(small)


def _resized(image: Image, size: tuple[int, int]) -> Image:
    """Shrinks by area, which does not alias. `size` is (width, height)."""
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def pyramid_scales(height: int, width: int, min_face: int) -> list[float]:
    """Scales at which P-Net's window covers faces from `min_face` px up to the whole picture."""
    scales = []
    scale = WINDOW / min_face
    while min(height, width) * scale >= WINDOW:
        scales.append(scale)
        scale *= PYRAMID_FACTOR
    return scales


def _moved(boxes: Tensor, shifts: Tensor, extra: int) -> Tensor:
    """Applies a box regression; `extra` = 1 where the network was trained on sizes counted inclusively."""
    size = (boxes[:, 2:] - boxes[:, :2] + extra).repeat(1, 2)
    return boxes + shifts * size


def _square(boxes: Tensor) -> Tensor:
    """Grows the shorter side about the centre."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.amax(1, keepdim=True)
    corner = boxes[:, :2] + size / 2 - side / 2
    return torch.cat([corner, corner + side], 1)


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Whole pixels within the picture, at least one wide: what the networks saw in training (facenet-pytorch's `pad`)."""
    x1 = boxes[:, 0].trunc().clamp(1, width) - 1
    y1 = boxes[:, 1].trunc().clamp(1, height) - 1
    x2 = torch.maximum(boxes[:, 2].trunc().clamp(max=width), x1 + 1)
    y2 = torch.maximum(boxes[:, 3].trunc().clamp(max=height), y1 + 1)
    return torch.stack([x1, y1, x2, y2], 1)


def _landmark_points(boxes: Tensor, landmarks: Tensor) -> Tensor:
    """(M, 10) shares of the box, five x then five y, to (M, 5, 2) px."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    shares = landmarks.reshape(-1, 2, 5).transpose(1, 2)
    return shares * size[:, None] + boxes[:, None, :2] - 1


def _pairs(points: Tensor) -> tuple[tuple[float, float], ...]:
    return tuple((x, y) for x, y in points.tolist())


def _share_of_smaller(a: FaceBox, b: FaceBox) -> float:
    """Overlap as a share of the smaller box: the "Min" rule by which O-Net's doubles are dropped."""
    width = min(a.x2, b.x2) - max(a.x1, b.x1) + 1
    height = min(a.y2, b.y2) - max(a.y1, b.y1) + 1
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((a.x2 - a.x1 + 1) * (a.y2 - a.y1 + 1), (b.x2 - b.x1 + 1) * (b.y2 - b.y1 + 1))
    return width * height / smaller
