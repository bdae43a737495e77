"""Face crops to calibrated scores, on the CPU or a GPU."""

import logging
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from dfpipe.errors import ResourceError
from dfpipe.infer.calibration import probabilities
from dfpipe.train.card import ModelCard
from dfpipe.train.devices import autocast
from dfpipe.train.modelfile import Network
from dfpipe.train.transforms import resized
from dfpipe.types import FaceCrop, FrameScore, Image

log = logging.getLogger(__name__)

# Crops at once on a CPU, at most: what lies between two layers then fits into its cache, and into memory that the allocator
# keeps. Measured on the embedded model, 32 at once take 1.6 times as long for each, 8 as long as 4, 2 longer again.
CPU_BATCH = 4


class Scorer:
    """A network and how its input is made.

    Args:
        network: Ready to score.
        card: Of its model file.
        at_once: Crops in a batch, at most.
    """

    def __init__(self, network: Network, card: ModelCard, at_once: int) -> None:
        self._network, self._card = network, card
        self._device = network.mean.device
        self._at_once = min(at_once, CPU_BATCH) if self._device.type == "cpu" else at_once

    def score(self, crops: Iterable[FaceCrop]) -> tuple[FrameScore, ...]:
        """See `Detector.score`."""
        crops = list(crops)
        logits: list[float] = []
        while len(logits) < len(crops):
            batch = np.stack([crop.image for crop in crops[len(logits) : len(logits) + self._at_once]])
            try:
                logits += self._logits(self.as_input(batch)).tolist()
            except torch.OutOfMemoryError as error:
                self._halve(error)
        scores = probabilities(np.array(logits), self._card.calibration).tolist()
        return tuple(FrameScore(c.frame_index, c.time_s, c.track, p, c.box) for c, p in zip(crops, scores, strict=True))

    def as_input(self, images: Image) -> Tensor:
        """Crops as the network takes them.

        Args:
            images: (B, H, W, 3) RGB uint8.

        Returns:
            (B, 3, S, S) float32 in 0..1, on the network's device, colour innermost in memory: convolutions are then a fifth
            faster.
        """
        tensor = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2)
        return resized(tensor, self._card.image_size).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def _logits(self, images: Tensor) -> Tensor:
        with autocast(self._device):
            logits: Tensor = self._network(images)
        return logits.double().cpu()

    def _halve(self, error: Exception) -> None:
        """Scores half as many crops at once from here on; the scores stay the same."""
        if self._at_once == 1:
            raise ResourceError(
                "out of memory with a single crop: use --device cpu, or close other programs"
            ) from error
        self._at_once = -(-self._at_once // 2)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        log.warning("out of memory: from here on %d crops at once", self._at_once)
