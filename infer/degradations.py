"""What happens to media on their way through the web, at stated strengths: the conditions of the stress test.

Pictures are RGB uint8 (H, W, 3). Clips are really encoded again with H.264; what is done picture by picture is done to the
sampled frames.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.config import LimitsConfig
from dfpipe.preprocess.crops import encode_png
from dfpipe.preprocess.readers import open_video
from dfpipe.train.degrade import jpeg_at
from dfpipe.types import Image

VISUALLY_LOSSLESS = 17  # CRF of x264 that its authors call so; used where only the frame rate is to change
NOISE_SEED = 0


@dataclass(frozen=True)
class Degradation:
    """One kind, and how strong it is tried."""

    title: str
    unit: str
    strengths: tuple[float, ...]  # from weak to strong
    picture: Callable[[Image, float], Image] | None = (
        None  # what is done to one picture; None = the clip is encoded anew
    )


def downscale(image: Image, side_share: float) -> Image:
    """Sent around smaller: the picture is smaller afterwards."""
    height, width = image.shape[:2]
    size = max(1, round(width * side_share)), max(1, round(height * side_share))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def blur(image: Image, sigma: float) -> Image:
    """Out of focus: Gaussian, in px of the picture."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def jpeg(image: Image, quality: float) -> Image:
    """Saved as JPEG, colour at half resolution as most programs do."""
    return jpeg_at(image, int(quality))


def noise(image: Image, sigma: float) -> Image:
    """Grain of a sensor in little light: independent per pixel and channel, the same at every call."""
    grain = np.random.default_rng(NOISE_SEED).normal(0, sigma, image.shape)
    return _bytes(image + grain)


def brightness(image: Image, factor: float) -> Image:
    """Another exposure: what becomes too bright is cut off."""
    return _bytes(image * factor)


def _bytes(values: NDArray[np.floating[Any]]) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


DEGRADATIONS: dict[str, Degradation] = {
    "crf": Degradation("H.264 again", "CRF", (23, 28, 34, 40)),  # FaceForensics++ compresses with 23 and 40
    "downscale": Degradation("Downscaled", "share of the side", (0.75, 0.5, 0.25), downscale),
    "blur": Degradation("Blurred", "sigma, px", (1, 2, 4), blur),
    "jpeg": Degradation("JPEG", "quality", (75, 50, 25, 10), jpeg),
    "noise": Degradation("Noise", "sigma of 255", (5, 10, 20, 40), noise),
    "dark": Degradation("Darker", "factor", (0.7, 0.4, 0.2), brightness),
    "bright": Degradation("Brighter", "factor", (1.3, 1.7, 2.5), brightness),
    "fps": Degradation("Fewer frames", "frames/s", (15, 10, 5)),
}


# ---- clips -----------------------------------------------------------------------------------------------------------


def degrade_clip(path: Path, kind: str, strength: float, folder: Path, limits: LimitsConfig) -> Path:
    """Encodes a clip anew into `folder`: `crf` at that quality, `fps` at that rate.

    Raises:
        MediaError: It cannot be read.
    """
    out = folder / "again.mp4"
    with open_video(path, "pyav", limits) as video:
        rate = video.info.fps or 25.0
        times = video.timeline.times
        wanted = list(range(len(times)))
        if kind == "fps" and strength < rate:
            wanted = _every(times, 1 / strength)
            rate = strength
        crf = int(strength) if kind == "crf" else VISUALLY_LOSSLESS
        write_h264(out, (frame.image for frame in video.frames(wanted)), rate, crf)
    return out


def _every(times: tuple[float, ...], step_s: float) -> list[int]:
    """The first frame of each step of time."""
    seen: dict[int, int] = {}
    for index, time_s in enumerate(times):
        seen.setdefault(int(time_s / step_s + 1e-6), index)
    return list(seen.values())


def write_h264(path: Path, frames: Iterator[Image], rate: float, crf: int) -> None:
    """Encodes pictures of one size as an MP4; one thread, so that the result is the same everywhere."""
    with av.open(str(path), "w", format="mp4") as container:
        options = {"crf": str(crf), "preset": "veryfast"}
        stream: Any = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001), options=options)
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        for i, image in enumerate(frames):
            even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]  # colour at half resolution needs it
            if i == 0:
                stream.height, stream.width = even.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
        container.mux(stream.encode(None))


def write_picture(path: Path, image: Image, kind: str, strength: float) -> Path:
    """Writes a changed picture without further loss; for `jpeg`, the JPEG itself would be decoded to the same."""
    change = DEGRADATIONS[kind].picture
    changed = change(image, strength) if change is not None else image
    path.write_bytes(encode_png(changed))
    return path
