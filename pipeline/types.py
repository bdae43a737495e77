"""The words that all rooms share: frozen records without any input or output.

Pictures are RGB, uint8, (height, width, 3) everywhere inside dfpipe; BGR exists only in the lines that call OpenCV.
Coordinates are pixels of the upright frame: x to the right, y down, (0, 0) at the outer corner of the first pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
else:  # `dfpipe --help` reads these words and should not wait for NumPy
    Image = Any


class Label(IntEnum):
    """What a clip or still is known to be. The only place where polarity is decided: fake is the positive class."""

    REAL = 0
    FAKE = 1


class State(StrEnum):
    """How the work on one input ended. Every input gets exactly one."""

    OK = "ok"
    NO_FACE = "no_face"
    PARTIAL = "partial"  # damaged, but some wanted frames could be saved and show a face
    UNSUPPORTED = "unsupported"  # not a kind of file that we read
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    UNREADABLE = "unreadable"  # the file system refuses

    @property
    def failed(self) -> bool:
        """Whether nothing can be said of the input. A missing face is an answer, not a failure."""
        return self not in (State.OK, State.NO_FACE, State.PARTIAL)


class VerdictKind(StrEnum):
    """The answer for a clip, a still, or one person in it."""

    FAKE = "FAKE"
    REAL = "REAL"
    UNCERTAIN = "UNCERTAIN"
    NO_FACE = "NO_FACE"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a file lies that is not on this machine."""

    url: str
    size: int  # bytes
    stamp: str  # another one when the file was changed


@dataclass(frozen=True, slots=True)
class MediaItem:
    """One clip or still as a source describes it, before anything of it was read."""

    path: Path
    name: str  # path inside the dataset, with forward slashes: the same wherever the dataset lies
    dataset: str
    label: Label | None = None
    method: str = ""  # how it was manipulated, "" where unknown or real
    group: str = ""  # source clip or identity: everything of one group goes to one split
    split: str | None = None  # the publisher's split, if there is one
    members: tuple[str, ...] = ()  # pictures inside `path`: one in a zip archive, or the frames of a clip in a folder
    origin: Origin | None = None  # of what is fetched to `path` for as long as it is worked on


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a clip says of itself, and which reader answered."""

    width: int  # px, upright
    height: int  # px, upright
    fps: float | None
    frame_count: int | None  # as claimed by the file; files lie
    duration_s: float | None
    codec: str
    rotation: int = 0  # degrees counter-clockwise that were applied to make the frames upright
    reader: str = ""

    def bits_per_pixel(self, size: int) -> float | None:
        """How much a clip's file of `size` bytes spends on a pixel of a frame, in bits. None if it does not say."""
        pixels = self.width * self.height * (self.frame_count or 0)
        return 8 * size / pixels if pixels and self.codec else None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded picture."""

    index: int  # place in presentation order, from 0
    time_s: float  # presentation time, never index / fps: frame rates vary
    image: Image


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A face in the coordinates of the full upright frame."""

    x1: float
    y1: float
    x2: float
    y2: float
    confidence: float  # 0..1
    landmarks: tuple[tuple[float, float], ...] = ()  # eyes, nose, mouth corners: 5 x (x, y)

    @property
    def side(self) -> float:
        """The longer side in px."""
        return max(self.x2 - self.x1, self.y2 - self.y1)


@dataclass(frozen=True, slots=True, eq=False)
class FaceCrop:
    """One square face picture with the place it was cut from."""

    frame_index: int
    time_s: float
    track: int  # person number within the clip; 0 is seen longest and largest
    box: FaceBox
    image: Image  # (S, S, 3)


@dataclass(frozen=True, slots=True)
class FrameScore:
    """What the model says of one face in one frame."""

    frame_index: int
    time_s: float
    track: int
    p_fake: float  # 0..1
    box: FaceBox | None = None  # where the face is; None where only a crop of it is known


@dataclass(frozen=True, slots=True)
class PersonVerdict:
    """The answer for one person (track) of a clip."""

    track: int
    verdict: VerdictKind
    p_fake: float
    frames: int
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a clip in which one person's smoothed score stays at or above the threshold."""

    track: int
    start_s: float
    end_s: float
    p_fake: float  # mean over the part


@dataclass(frozen=True, slots=True)
class Rule:
    """How frame scores became an answer: part of every verdict, because another rule can give another answer."""

    aggregate: str  # a key of dfpipe.infer.aggregate.AGGREGATES
    parameters: Mapping[str, float]  # of the aggregate
    min_frames: int  # a person seen in fewer is uncertain
    frames: int  # looked at in a clip
    real_bits_per_pixel: float  # nobody is called real in a clip with fewer


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one input. p_fake is None whenever no face was scored: a failure is never turned into a number."""

    path: str
    state: State
    verdict: VerdictKind
    p_fake: float | None
    reason: str
    threshold: float
    band: tuple[float, float]  # p_fake inside it means UNCERTAIN
    frames_wanted: int
    frames_decoded: int
    frames_with_face: int
    people: tuple[PersonVerdict, ...]
    segments: tuple[Segment, ...]
    scores: tuple[FrameScore, ...]
    model_name: str
    model_sha256: str
    media_sha256: str
    seconds: float
    rule: Rule
    confidence: float | None = None  # in the shown label, 0..1; None where none is shown or nothing supports a number
    how_sure: str = ""  # the same in words
    cautions: tuple[str, ...] = ()  # what limits this verdict
    kind: str = ""  # video, image, or "" where that could not be told
    media: VideoInfo | None = None
    media_bytes: int | None = None
