"""Find and cut the faces of one clip or still: what extraction and inference both do with a file, in the same code."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path

from dfpipe.config import FacesConfig, LimitsConfig
from dfpipe.errors import CorruptMedia, DfpipeError, MediaError, TooLargeMedia
from dfpipe.preprocess.archives import read_member
from dfpipe.preprocess.containers import media_kind
from dfpipe.preprocess.crops import align_face, crop_face, padded, resize, squared
from dfpipe.preprocess.faces import find_faces, find_in_frames, load_detector, sure
from dfpipe.preprocess.readers import BATCH, VideoReader, open_video
from dfpipe.preprocess.sampling import further, pick
from dfpipe.preprocess.stills import Still, open_still
from dfpipe.preprocess.timeline import Timeline
from dfpipe.preprocess.tracks import join
from dfpipe.types import FaceBox, FaceCrop, Frame, Image, MediaItem, State, VideoInfo

MIN_TRACK = 2  # frames in which a face of a clip must be sure: a face seen once in 32 frames is mostly a false alarm
FEW_FRAMES = 4  # clips of fewer frames are too short to ask for that
# A still counts as a face crop if its side is at most this many times its face box. Measured with our detector on 60 each
# (5th, 50th, 95th percentile): DFDC crops 0.65, 0.80, 0.96; FFHQ portraits 1.26, 1.36, 1.53; web photographs 1.46, 1.65,
# 3.85.
CROP_SCALE_LIMIT = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class FoundFaces:
    """What one input shows. `state` is ok, partial or no_face; everything else is raised as a MediaError."""

    state: State
    reason: str
    kind: str  # "video" or "image"
    info: VideoInfo
    frames_wanted: int
    frames_decoded: int
    frames_with_face: int
    tracks_dropped: int
    crops: tuple[FaceCrop, ...]  # by frame, then track
    looked_at: tuple[int, ...] = (0,)  # indices of the decoded frames


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One frame after detection."""

    index: int
    time_s: float
    boxes: list[FaceBox]
    images: list[Image]  # one crop per box


class FaceFinder:
    """Holds the detector; one per process."""

    def __init__(self, config: FacesConfig, limits: LimitsConfig, device: str = "cpu") -> None:
        self.config = config
        self.limits = limits
        self._detector = load_detector(config, device)
        self._crowded = False  # whether more faces may be there than were kept
        self.on_frames: Callable[[int], object] | None = None  # told of each batch of a clip that was looked at

    def find(self, path: Path, as_is: bool = False, members: Sequence[str] = ()) -> FoundFaces:
        """Reads a clip or still, finds its faces and cuts them.

        Args:
            path: The file; its content decides what it is, not its name.
            as_is: Stills, and frames in a folder, are face crops already and only resized.
            members: A picture inside `path`, a zip archive, or the frames of a clip inside `path`, a folder.

        Raises:
            MediaError: In its kinds, each with the state that the input ends in.
        """
        self._crowded = False
        found = self._find(path, as_is, members)
        if not self._crowded:
            return found
        told = f"a frame shows {self.config.max_faces} faces, as many as are kept (preprocess.faces.max_faces)"
        return replace(found, reason="; ".join(filter(None, [found.reason, told])))

    def _find(self, path: Path, as_is: bool, members: Sequence[str]) -> FoundFaces:
        if path.is_dir() and members:
            return self._find_in_frames([path / member for member in members], as_is)
        if members or media_kind(path) == "image":
            still = self._read(path, members)
            return self._find_in_still(still.image, as_is, still.left_out)
        return self._find_in_clip(path)

    def find_in_pictures(self, frames: Sequence[Frame]) -> FoundFaces:
        """Finds and cuts the faces of frames that are decoded already: of a still if it is one, else of a clip.

        Args:
            frames: At least one, all of one size, in order of time.
        """
        if len(frames) == 1:
            return self._find_in_still(frames[0].image, as_is=False, left_out="")
        seen = [found for batch in _batches(iter(frames)) for found in self._detect_and_cut(batch)]
        height, width = frames[0].image.shape[:2]
        duration = frames[-1].time_s - frames[0].time_s
        info = VideoInfo(width, height, None, len(frames), duration, "", reader="caller")
        return self._clip(seen, len(frames), info, "")

    def crop_scale_of(self, path: Path, members: Sequence[str] = ()) -> float | None:
        """How a still is framed: its side / the longer side of its face box; None if no face is found.

        The picture is surrounded by its own repeated edge first, because tight crops cut off chin and forehead, without
        which the detector sees no face.
        """
        image = squared(self._read(path, members).image)
        border = max(1, round(0.18 * image.shape[0]))
        found = find_faces(self._detector, [padded(image, border)], self.config)[0]
        return image.shape[0] / found[0].side if found else None

    def _find_in_clip(self, path: Path) -> FoundFaces:
        with open_video(path, self.config.reader, self.limits) as video:
            wanted = pick(video.timeline, self.config)
            seen = self._look(video, wanted)
            while more := self._more(len(video.timeline.times), wanted, seen):
                seen = sorted(seen + self._look(video, more), key=lambda s: s.index)
                wanted = sorted(wanted + more)
            info, damage, left_out = video.info, video.damage, video.left_out
        return self._clip(seen, len(wanted), info, damage, left_out)

    def _look(self, video: VideoReader, wanted: Sequence[int]) -> list["_Seen"]:
        seen = []
        for batch in _ahead(_batches(video.frames(wanted))):
            seen += self._detect_and_cut(batch)
            if self.on_frames is not None:
                self.on_frames(len(batch))
        return seen

    def _more(self, frame_count: int, wanted: Sequence[int], seen: Sequence["_Seen"]) -> list[int]:
        """For `at_least`: which frames to look at next, none when enough show a face or the budget is spent."""
        lacking = self.config.frames - sum(bool(sure(s.boxes, self.config)) for s in seen)
        budget = self.config.max_frames - len(wanted)
        if self.config.sampling != "at_least" or lacking <= 0 or budget <= 0:
            return []
        return further(frame_count, wanted, min(max(lacking, BATCH), budget))

    def _find_in_frames(self, paths: Sequence[Path], as_is: bool) -> FoundFaces:
        """A clip that a publisher ships as pictures. They carry no times: each place counts as a second."""
        line = Timeline(tuple(map(float, range(len(paths)))))
        wanted = pick(line, self.config)
        seen, lost = [], ""
        for index in wanted:
            try:
                image = self._read(paths[index], ()).image
            except MediaError as error:
                lost = f"{paths[index].name}: {error}"
                continue
            frame = Frame(index, line.times[index], image)
            seen += [_Seen(index, frame.time_s, *self._whole(image))] if as_is else self._detect_and_cut([frame])
            info = VideoInfo(image.shape[1], image.shape[0], None, len(paths), None, "", reader="pillow")
        return self._clip(seen, len(wanted), info if seen else None, lost)

    def _read(self, path: Path, members: Sequence[str]) -> Still:
        return open_still(read_member(path, members[0], self.limits) if members else path, self.limits)

    def _whole(self, image: Image) -> tuple[list[FaceBox], list[Image]]:
        """A picture that is a face crop already."""
        height, width = image.shape[:2]
        return [FaceBox(0.0, 0.0, float(width), float(height), 1.0)], [resize(squared(image), self.config.crop_size)]

    def _cut(self, image: Image, box: FaceBox) -> Image:
        cut = align_face if self.config.align else crop_face
        return cut(image, box, self.config.crop_scale, self.config.crop_size)

    def _told(self, found: list[list[FaceBox]]) -> list[list[FaceBox]]:
        self._crowded |= any(len(boxes) >= self.config.max_faces for boxes in found)
        return found

    def _detect_and_cut(self, batch: list[Frame]) -> list["_Seen"]:
        """Cuts at once, so that full-size frames need not be kept."""
        found = self._told(find_in_frames(self._detector, [f.image for f in batch], self.config))
        return [
            _Seen(f.index, f.time_s, boxes, [self._cut(f.image, box) for box in boxes])
            for f, boxes in zip(batch, found, strict=True)
        ]

    def _find_in_still(self, image: Image, as_is: bool, left_out: str) -> FoundFaces:
        if as_is:
            boxes, images = self._whole(image)
        else:
            (boxes,) = self._told(find_faces(self._detector, [image], self.config))
            images = [self._cut(image, box) for box in boxes]
        crops = tuple(FaceCrop(0, 0.0, i, *face) for i, face in enumerate(zip(boxes, images, strict=True)))
        info = VideoInfo(image.shape[1], image.shape[0], None, 1, None, "", reader="pillow")
        state, reason = _judge_reading(1, 1, bool(crops), "", left_out)
        return FoundFaces(state, reason, "image", info, 1, 1, int(bool(crops)), 0, crops)

    def _clip(
        self, seen: list["_Seen"], wanted: int, info: VideoInfo | None, damage: str, left_out: str = ""
    ) -> FoundFaces:
        if not seen and left_out:
            raise TooLargeMedia(left_out)
        if not seen or info is None:
            raise CorruptMedia(f"no frame can be decoded{': ' + damage if damage else ''}")
        crops, dropped = _by_person(seen, self.config.min_confidence)
        with_face = len({crop.frame_index for crop in crops})
        state, reason = _judge_reading(wanted, len(seen), with_face, damage, left_out)
        looked_at = tuple(s.index for s in seen)
        return FoundFaces(state, reason, "video", info, wanted, len(seen), with_face, dropped, crops, looked_at)


def _batches(frames: Iterator[Frame]) -> Iterator[list[Frame]]:
    """Frames of one size together: a clip may change it."""
    for _, same in groupby(frames, key=lambda frame: frame.image.shape):
        while batch := list(islice(same, BATCH)):
            yield batch


def _ahead(batches: Iterator[list[Frame]]) -> Iterator[list[Frame]]:
    """Decodes the next batch while faces are looked for in this one: where a core is free, a single clip takes less time."""
    with ThreadPoolExecutor(1) as decoding:
        coming = decoding.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = decoding.submit(next, batches, None)
            yield batch


def _by_person(seen: list[_Seen], min_confidence: float) -> tuple[tuple[FaceCrop, ...], int]:
    """Numbers the people and drops who is hardly there. Returns the crops by frame and person, and how many were dropped."""
    numbers = join([s.boxes for s in seen], min_confidence)
    surely = Counter(  # in how many frames each is seen for sure
        track
        for s, tracks in zip(seen, numbers, strict=True)
        for track, box in zip(tracks, s.boxes, strict=True)
        if box.confidence >= min_confidence
    )
    least = MIN_TRACK if len(seen) >= FEW_FRAMES else 1
    kept = sorted(track for track, count in surely.items() if count >= least)
    number = {
        track: place for place, track in enumerate(kept)
    }  # without gaps: people are counted by whoever reads them
    crops = [
        FaceCrop(s.index, s.time_s, number[track], box, image)
        for s, tracks in zip(seen, numbers, strict=True)
        for track, box, image in zip(tracks, s.boxes, s.images, strict=True)
        if track in number
    ]
    return tuple(sorted(crops, key=lambda c: (c.frame_index, c.track))), len(surely) - len(kept)


def _judge_reading(wanted: int, decoded: int, with_face: int, damage: str, left_out: str) -> tuple[State, str]:
    if decoded < wanted and not damage and not left_out:
        damage = "some frames cannot be decoded"
    lost = f"damaged: {damage}; {decoded} of {wanted} wanted frames were saved" if damage else ""
    told = "; ".join(filter(None, [left_out, lost]))
    if not with_face:
        return State.NO_FACE, "; ".join(filter(None, ["no face found", told]))
    return (State.PARTIAL, told) if told else (State.OK, "")


def typical_crop_scale(scales: list[float | None]) -> float | None:
    """Decides from a sample of stills whether a set consists of face crops.

    Args:
        scales: From `FaceFinder.crop_scale_of`, None where no face was found.

    Returns:
        The median scale if at least two thirds of the sample are face crops, else None: look for faces in it.
    """
    tight = [s for s in scales if s is not None and s <= CROP_SCALE_LIMIT]
    if not scales or 3 * len(tight) < 2 * len(scales):
        return None
    return round(statistics.median(tight), 2)


# ---- the same as tasks for dfpipe.workers: one finder per process ---------------------------------------------------

_finder: FaceFinder | None = None


def start_finder(config: FacesConfig, limits: LimitsConfig) -> None:
    """Loads this process's finder."""
    global _finder
    _finder = FaceFinder(config, limits)


def this_finder() -> FaceFinder:
    """This process's finder.

    Raises:
        DfpipeError: `start_finder` was not called.
    """
    if _finder is None:
        raise DfpipeError("no face finder in this process: start_finder must be the worker's setup")
    return _finder


def setup_of(config: FacesConfig, limits: LimitsConfig) -> partial[None]:
    """The `setup` for `dfpipe.workers.run_all`."""
    return partial(start_finder, config, limits)


def crop_scale_task(item: MediaItem) -> float | None:
    """`FaceFinder.crop_scale_of` in a worker."""
    path, members = item.path, item.members
    if path.is_dir() and members:
        path, members = path / members[0], ()
    return this_finder().crop_scale_of(path, members)
