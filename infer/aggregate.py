"""Frame scores to people, people to one answer. Pure.

Scores are joined per person first: averaged over all faces of a clip, one manipulated person among several would vanish.
"""

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import fmean, median

from dfpipe.errors import choose
from dfpipe.types import FrameScore, PersonVerdict, Segment, VerdictKind

LOGIT_LIMIT = 16.0  # scores are kept within 1e-7 of 0 and 1, so that one certain frame cannot outvote all others
SMOOTHED_FRAMES = 3  # sampled frames over which a score is averaged before segments are read off


def logit(p: float) -> float:
    """Log odds of a probability, within +-`LOGIT_LIMIT`."""
    if p <= 0 or p >= 1:
        return math.copysign(LOGIT_LIMIT, p - 0.5)
    return max(-LOGIT_LIMIT, min(LOGIT_LIMIT, math.log(p / (1 - p))))


def sigmoid(x: float) -> float:
    """Inverse of `logit`."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _mean_logit(scores: Sequence[float]) -> float:
    """Mean of the log odds: as polimi-ispl's DFDC entry (Bonettini et al., ICPR 2020)."""
    return sigmoid(fmean(map(logit, scores)))


AGGREGATES: dict[str, Callable[[Sequence[float]], float]] = {
    "mean_logit": _mean_logit,
    "mean": fmean,
    "median": median,
}


def kind_of(p_fake: float, band: tuple[float, float]) -> VerdictKind:
    """FAKE above the band, REAL below it, UNCERTAIN inside."""
    if p_fake >= band[1]:
        return VerdictKind.FAKE
    return VerdictKind.REAL if p_fake < band[0] else VerdictKind.UNCERTAIN


def judge_people(
    scores: Sequence[FrameScore], aggregate: str, band: tuple[float, float], min_frames: int
) -> tuple[PersonVerdict, ...]:
    """Joins the scores of each person.

    Args:
        scores: Of all faces of one input.
        aggregate: A key of `AGGREGATES`.
        band: Inside it a person is uncertain.
        min_frames: A person seen in fewer frames is uncertain, whatever the scores.

    Returns:
        One verdict per person, by track number.

    Raises:
        ConfigError: Unknown aggregate.
    """
    join = choose(AGGREGATES, aggregate, "infer.aggregate")
    people = []
    for track, group in groupby(sorted(scores, key=lambda s: (s.track, s.frame_index)), key=lambda s: s.track):
        seen = list(group)
        p_fake = join([s.p_fake for s in seen])
        kind = kind_of(p_fake, band) if len(seen) >= min_frames else VerdictKind.UNCERTAIN
        people.append(PersonVerdict(track, kind, p_fake, len(seen), seen[0].time_s, seen[-1].time_s))
    return tuple(people)


def judge_clip(people: Sequence[PersonVerdict], min_frames: int) -> tuple[VerdictKind, float, str]:
    """The answer for the whole input: FAKE if anybody in it is, REAL only if everybody is.

    Args:
        people: At least one.
        min_frames: As for `judge_people`.

    Returns:
        The answer, the p_fake of the person who decides it, and the reason in one sentence.
    """
    by_kind = {kind: [p for p in people if p.verdict is kind] for kind in VerdictKind}
    lasting = [p for p in people if p.frames >= min_frames]
    p_fake = max(p.p_fake for p in lasting or people)
    if fakes := by_kind[VerdictKind.FAKE]:
        frames = sum(p.frames for p in fakes)
        verb = "looks" if len(fakes) == 1 else "look"
        return VerdictKind.FAKE, p_fake, f"{_of(len(fakes), len(people))} {verb} manipulated, over {_frames(frames)}"
    if unsure := by_kind[VerdictKind.UNCERTAIN]:
        brief = [p for p in unsure if p.frames < min_frames]
        if len(brief) == len(unsure):
            return VerdictKind.UNCERTAIN, p_fake, f"{_of(len(brief), len(people))} seen too briefly to judge"
        return VerdictKind.UNCERTAIN, p_fake, f"the scores of {_of(len(unsure), len(people))} are too close to call"
    frames = sum(p.frames for p in people)
    return (
        VerdictKind.REAL,
        p_fake,
        f"no sign of manipulation in {_of(len(people), len(people))}, over {_frames(frames)}",
    )


def segments(scores: Sequence[FrameScore], threshold: float) -> tuple[Segment, ...]:
    """Parts of a clip where a person's smoothed score reaches the threshold.

    Args:
        scores: Of all faces of one clip.
        threshold: p_fake.

    Returns:
        By person, then time. Times are those of the first and last sampled frame of the part.
    """
    found = []
    for track, group in groupby(sorted(scores, key=lambda s: (s.track, s.frame_index)), key=lambda s: s.track):
        seen = list(group)
        smooth = smoothed([s.p_fake for s in seen])
        for high, part in groupby(range(len(seen)), key=lambda i: smooth[i] >= threshold):
            inside = list(part)
            if high:
                mean = fmean(smooth[i] for i in inside)
                found.append(Segment(track, seen[inside[0]].time_s, seen[inside[-1]].time_s, mean))
    return tuple(found)


def smoothed(values: Sequence[float]) -> list[float]:
    """Centred running mean over `SMOOTHED_FRAMES` values, over fewer at the ends."""
    reach = SMOOTHED_FRAMES // 2
    return [fmean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]


def _of(some: int, total: int) -> str:
    if total == 1:
        return "the one person seen"
    return f"all {total} people" if some == total else f"{some} of {total} people"


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"
