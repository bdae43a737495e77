"""What happens to pictures of faces on their way through cameras, editors and networks: one function per kind. Pure.

Pictures are RGB uint8 (H, W, 3), in and out, and keep their shape. Nothing here blanks a whole picture: what is left must
still show whether it is real. All chance comes from the generator that is handed in.

"DFDC winner" are the published training settings of the system that won the Deepfake Detection Challenge
(selimsef/dfdc_deepfake_challenge, train_classifier.py); where it names no range, that of its library's defaults.
"""

from collections.abc import Callable, Collection
from fractions import Fraction

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import DfpipeError
from dfpipe.preprocess.crops import Points
from dfpipe.types import Image

Random = np.random.Generator
Step = Callable[[Image, Points, Random], Image]

CONTRAST = (0.8, 1.2)  # factor on the distance from the mean: DFDC winner
BRIGHTNESS = (0.7, 1.4)  # exponent on 0..1, chosen here: unlike the winner's +-0.2, it cannot turn dark faces black
HUE_DEGREES = 10.0  # either way, a quarter of the DFDC winner's: with 20, faces turn magenta and green
SATURATION = (0.6, 1.4)  # factor, chosen here: a factor, unlike the winner's +-30 of 255, leaves grey pictures grey
BLUR_SIGMA = (0.4, 2.0)  # px, chosen here: from the DFDC winner's 3 x 3 kernel to a face enlarged about fourfold
NOISE_SIGMA = (3.2, 7.1)  # of 255: DFDC winner (variance 10 to 50)
SHRINK = (0.25, 0.8)  # of the side; a quarter as in Shiohara and Yamasaki, CVPR 2022, the upper end chosen here
JPEG_QUALITY = (30, 95)  # from the worst that sites serve to the best that cameras write; the DFDC winner stopped at 60
VIDEO_CRF = (23, 40)  # of H.264: the two levels of FaceForensics++ (Roessler et al., ICCV 2019)
VIDEO_FRAMES = 3  # an intra-coded and predicted ones; each more costs 0.7 ms
VIDEO_PAN = 2  # px from frame to frame at most, chosen here: what stands still is coded without any new error
CUT_WIDTH = (0.35, 0.7)  # of the distance between the eyes, chosen here: from the eye alone to brow and lid
CUT_SHARE = 0.4  # of the picture at most, chosen here

_DOWN = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST)  # programs shrink well or badly
_UP = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_YIQ = np.array([_LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])  # NTSC: luma, and two axes of colour
_MIN_CODED = 16  # px, one macroblock of H.264


def degraded(image: Image, landmarks: Points, rng: Random, only: Collection[str] = ()) -> Image:
    """Sends a picture through some of `STEPS`, each with its own probability.

    Args:
        image: RGB uint8 (H, W, 3).
        landmarks: (5, 2) in px of `image`: eyes, nose, mouth corners.
        rng: Decides everything.
        only: Keys of `STEPS`; none = all.
    """
    for step, probability in [STEPS[name] for name in STEPS if not only or name in only]:
        if rng.random() < probability:
            image = step(image, landmarks, rng)
    return image


def brightness_contrast(image: Image, rng: Random) -> Image:
    """Another exposure: a power curve, then a stretch around the mean."""
    curve = 255 * (np.arange(256) / 255) ** rng.uniform(*BRIGHTNESS)
    mean = curve[image[::4, ::4]].mean()
    return _lookup(image, mean + rng.uniform(*CONTRAST) * (curve - mean))


def hue_saturation(image: Image, rng: Random) -> Image:
    """Another white balance; luma and grey pixels stay."""
    matrix = colour_matrix(rng.uniform(*SATURATION), rng.uniform(-HUE_DEGREES, HUE_DEGREES))
    return np.asarray(cv2.transform(image, matrix), np.uint8)


def grey(image: Image, rng: Random) -> Image:
    """No colour at all."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def blur(image: Image, rng: Random) -> Image:
    """Out of focus."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(*BLUR_SIGMA)), np.uint8)


def noise(image: Image, rng: Random) -> Image:
    """Grain of a sensor in little light, independent per pixel and channel."""
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(*NOISE_SIGMA))
    return np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U), np.uint8).reshape(image.shape)


def shrink(image: Image, rng: Random) -> Image:
    """Sent around small and enlarged again."""
    height, width = image.shape[:2]
    factor = rng.uniform(*SHRINK)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, size, interpolation=_DOWN[rng.integers(len(_DOWN))])
    return np.asarray(cv2.resize(small, (width, height), interpolation=_UP[rng.integers(len(_UP))]), np.uint8)


def jpeg(image: Image, rng: Random) -> Image:
    """Saved as JPEG at a random quality."""
    return jpeg_at(image, int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1)))


def jpeg_at(image: Image, quality: int) -> Image:
    """Saved as JPEG, colour at half resolution as most programs do."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
    if decoded is None:
        raise DfpipeError("OpenCV could not read the JPEG that it wrote")
    return np.asarray(decoded, np.uint8)


def video(image: Image, rng: Random) -> Image:
    """One frame of a clip that was encoded again, at a random quality and with a slight pan."""
    crf = int(rng.integers(VIDEO_CRF[0], VIDEO_CRF[1] + 1))
    pan = rng.integers(-VIDEO_PAN, VIDEO_PAN + 1, 2)
    return video_at(image, crf, (int(pan[0]), int(pan[1])), int(rng.integers(VIDEO_FRAMES)))


def video_at(image: Image, crf: int, pan: tuple[int, int], keep: int) -> Image:
    """Encodes a panned picture as a short H.264 clip in memory and decodes one frame.

    Args:
        image: RGB uint8 (H, W, 3).
        crf: Constant rate factor of libx264, 0..51.
        pan: Movement from frame to frame in px, (x, y).
        keep: Which frame to return, below `VIDEO_FRAMES`; it shows `image` where it was.
    """
    height, width = image.shape[:2]
    margin = VIDEO_FRAMES * max(map(abs, pan))
    # Even sides, as colour at half resolution needs, and not below what the codec takes.
    right, bottom = (max(_MIN_CODED, side + side % 2) - side for side in (width, height))
    wide = cv2.copyMakeBorder(image, margin, margin + bottom, margin, margin + right, cv2.BORDER_REPLICATE)
    frames = []
    for index in range(VIDEO_FRAMES):
        left, top = (margin + step * (index - keep) for step in pan)
        window = wide[top : top + height + bottom, left : left + width + right]
        frames.append(np.asarray(cv2.cvtColor(window, cv2.COLOR_RGB2YUV_I420), np.uint8))
    coded = cv2.cvtColor(_recoded(frames, crf, keep), cv2.COLOR_YUV2RGB_I420)
    return np.ascontiguousarray(coded[:height, :width])


def cutout(image: Image, landmarks: Points, rng: Random) -> Image:
    """Hides eyes, nose or mouth under the picture's mean colour, as the DFDC winner blackened them.

    A picture of which it would hide more than `CUT_SHARE` is left as it is.
    """
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks
    lines = ((left_eye, right_eye), ((left_eye + right_eye) / 2, nose), (left_mouth, right_mouth))
    start, end = lines[rng.integers(len(lines))]
    distance = float(np.linalg.norm(right_eye - left_eye))
    width = min(max(1, round(distance * rng.uniform(*CUT_WIDTH))), max(image.shape[:2]))
    hidden = np.zeros(image.shape[:2], np.uint8)
    cv2.line(hidden, _pixel(start), _pixel(end), 1, width)
    if cv2.countNonZero(hidden) > CUT_SHARE * hidden.size:
        return image
    colour = tuple(np.rint(cv2.mean(image)[:3]).tolist())
    return np.asarray(cv2.line(image.copy(), _pixel(start), _pixel(end), colour, width), np.uint8)


def colour_matrix(saturation: float, hue_degrees: float) -> NDArray[np.float64]:
    """The (3, 3) matrix that turns and stretches the colours of RGB pixels and keeps their luma."""
    angle = np.deg2rad(hue_degrees)
    turn = saturation * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inner = np.eye(3)
    inner[1:, 1:] = turn
    return np.asarray(np.linalg.inv(_YIQ) @ inner @ _YIQ)


def _lookup(image: Image, curve: NDArray[np.float64]) -> Image:
    return np.asarray(cv2.LUT(image, np.clip(np.rint(curve), 0, 255).astype(np.uint8)), np.uint8)


def _pixel(point: NDArray[np.float64]) -> tuple[int, int]:
    """OpenCV takes places far outside, but only within its integers."""
    x, y = np.clip(np.rint(point), -(2**14), 2**14)
    return int(x), int(y)


def _recoded(frames: list[Image], crf: int, keep: int) -> Image:
    """One frame after H.264 there and back, planes as YUV 4:2:0 in OpenCV's layout.

    One thread: with more, the result depends on them.
    """
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = frames[0].shape[0] * 2 // 3, frames[0].shape[1]
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = {"crf": str(crf), "preset": "veryfast"}
    packets = []
    for time, planes in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = time
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoder.extradata = encoder.extradata
    needed = 1 + [packet.pts for packet in packets].index(keep)  # no frame rests on packets that come after its own
    decoded = {f.pts: f for packet in [*packets[:needed], None] for f in decoder.decode(packet)}
    return np.asarray(decoded[keep].to_ndarray(), np.uint8)


def _anywhere(step: Callable[[Image, Random], Image]) -> Step:
    """A step that need not know where the face lies."""
    return lambda image, landmarks, rng: step(image, rng)


# Name -> what is done, and how often. In this order: the light, the camera, then what is done to the file, then what
# covers the face; each as often as the DFDC winner has it or, where marked, as chosen here.
STEPS: dict[str, tuple[Step, float]] = {
    "brightness_contrast": (_anywhere(brightness_contrast), 0.35),  # winner: 0.7 for this or colour
    "hue_saturation": (_anywhere(hue_saturation), 0.35),
    "grey": (_anywhere(grey), 0.1),  # chosen here, winner 0.2: colour at the seam is evidence
    "blur": (_anywhere(blur), 0.1),  # chosen here, winner 0.05 of a weaker one
    "noise": (_anywhere(noise), 0.1),
    "shrink": (_anywhere(shrink), 0.2),  # chosen here
    "jpeg": (_anywhere(jpeg), 0.5),
    "video": (_anywhere(video), 0.3),  # chosen here: whatever is uploaded was encoded again at least once
    "cutout": (cutout, 0.2),  # chosen here: winner 0.7, on pictures four times as large
}
