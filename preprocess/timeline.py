"""When the frames of a clip are shown, and where decoding can start. Pure."""

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timeline:
    """The frames of a clip in presentation order, as its packets tell them.

    Frame `i` is shown at `times[i]`. Frames that an edit list hides are not in it.
    """

    times: tuple[float, ...]  # s, the first is 0
    stamps: tuple[int, ...] = ()  # presentation time stamps in ticks of the file; empty if the file carries none
    keyframes: tuple[int, ...] = ()  # frames from which decoding can start
    hidden: int = 0  # frames in the file that are not to be shown
    left_out: str = ""  # what of the file a limit keeps out of this list, in words

    def first(self, count: int, reason: str) -> "Timeline":
        """Its first frames alone, and why the others are left out."""
        keys = tuple(index for index in self.keyframes if index < count)
        return Timeline(self.times[:count], self.stamps[:count], keys, self.hidden, reason)

    def within(self, wanted: Sequence[int], budget: int) -> list[int]:
        """The first of some frames, as many as can be had by decoding at most `budget` frames.

        Args:
            wanted: Ascending frame indices.
            budget: Frames decoded, wanted or only on the way.
        """
        had: list[int] = []
        for start, stretch in self.jumps(wanted):
            fit = [index for index in stretch if index - (start or 0) < budget]
            had += fit
            if len(fit) < len(stretch):
                break
            budget -= stretch[-1] - (start or 0) + 1
        return had

    def jumps(self, wanted: Sequence[int]) -> Iterator[tuple[int | None, list[int]]]:
        """Divides a reading of some frames into stretches, between which whole groups of pictures can be skipped.

        Args:
            wanted: Ascending frame indices.

        Yields:
            The keyframe to seek to (None = go on from the start), and the frames to take from there on.
        """
        start: int | None = None
        stretch: list[int] = []
        for index in wanted:
            group = self._group_of(index)
            # Two groups on: the one in between holds nothing wanted. Frames shown just before a keyframe may be coded
            # after it, so the group of the last frame is left only when the next one begins.
            if group is not None and (not stretch or group > (self._group_of(stretch[-1]) or 0) + 1) and index > 0:
                if stretch:
                    yield start, stretch
                start, stretch = (self.keyframes[group] or None), []
            stretch.append(index)
        if stretch:
            yield start, stretch

    def _group_of(self, index: int) -> int | None:
        """Number of the group of pictures that a frame is shown in; None where keyframes are not known."""
        return bisect.bisect_right(self.keyframes, index) - 1 if self.keyframes and self.keyframes[0] <= index else None
