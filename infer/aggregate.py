"""Frame scores to people, people to one answer. Pure.

Scores are joined per person first: averaged over all faces of a clip, one manipulated person among several would vanish.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean, median

from dfpipe.errors import choose
from dfpipe.types import FrameScore, PersonVerdict, Segment, VerdictKind

LOGIT_LIMIT = 16.0  # scores are kept within 1e-7 of 0 and 1, so that one certain frame cannot outvote all others
SMOOTHED_FRAMES = 3  # sampled frames over which a score is averaged before segments are read off
TRIMMED = 0.1  # of the scores at either end, chosen here: three of 32 frames may be blinks, blurs or wrong boxes
TOP_SHARE = 0.25  # of the scores, chosen here: a quarter of the clip is what a short insertion fills
# Bits per pixel and frame of a clip's file, below which it is strongly compressed. Measured: 22 clips of FaceForensics++ c40
# 0.0035 to 0.0088; 35 others, of DFDC and from the web, 0.030 and more. So few bits do not carry the traces of a
# manipulation: the first two models that shipped would have called 8 and 10 of those 16 c40 fakes REAL. What was not
# found there may be there.
COMPRESSED = 0.015
# Sampled frames in a row, chosen here: an eighth of the usual 32. The mean over a whole clip hides a part that was swapped:
# a quarter of a clip at 0.99 and the rest at 0.05 are 0.26 together. Measured with the model that ships: none of the 22
# clips of 81 with a face that it calls REAL holds such a part.
PART_FRAMES = 4
# kernel_utils.py of selimsef/dfdc_deepfake_challenge, the system that won the DFDC.
CONFIDENT = {"fake_above": 0.8, "fake_divisor": 2.5, "fake_frames": 11, "real_below": 0.2, "real_share": 0.9}
# predict.py of NTech-Lab/deepfake-detection-challenge, third in the DFDC.
NTECH = {"power": 0.65, "lowest": 0.01, "highest": 0.99, "least_weight": 1e-4}

Scores = Sequence[float]


@dataclass(frozen=True)
class Aggregate:
    """One way of joining the scores of one person's frames to one score.

    Call it with at least one p_fake in 0..1; it gives one in 0..1 that does not depend on their order.
    """

    join: Callable[[Scores], float]
    source: str
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, scores: Scores) -> float:
        """Joins the scores."""
        return self.join(scores)


def logit(p: float) -> float:
    """Log odds of a probability, within +-`LOGIT_LIMIT`."""
    if p <= 0 or p >= 1:
        return math.copysign(LOGIT_LIMIT, p - 0.5)
    return max(-LOGIT_LIMIT, min(LOGIT_LIMIT, math.log(p / (1 - p))))


def sigmoid(x: float) -> float:
    """Inverse of `logit`."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _mean_logit(scores: Scores) -> float:
    return sigmoid(fmean(map(logit, scores)))


def _trimmed_mean(scores: Scores) -> float:
    """Without `TRIMMED` of the scores at either end, rounded down."""
    cut = int(TRIMMED * len(scores))
    return fmean(sorted(scores)[cut : len(scores) - cut])


def _top_mean(scores: Scores) -> float:
    """The highest `TOP_SHARE` of the scores, at least one."""
    return fmean(sorted(scores)[-max(1, math.ceil(TOP_SHARE * len(scores))) :])


def _confidence_mean(scores: Scores) -> float:
    """Each score weighs what it says: one bit less its binary entropy, so 0.5 weighs nothing and 0 and 1 weigh most."""
    weights = [1 - _entropy(p) for p in scores]
    return fmean(scores, weights) if sum(weights) > 0 else 0.5


def _entropy(p: float) -> float:
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)


def _confident_strategy(scores: Scores) -> float:
    """Only the high scores if many are high, only the low ones if nearly all are low, else all.

    Below 12 frames its first case can never come about, and at its edges one frame more changes the result at a stroke.
    """
    high = [p for p in scores if p > CONFIDENT["fake_above"]]
    low = [p for p in scores if p < CONFIDENT["real_below"]]
    if len(high) > len(scores) // CONFIDENT["fake_divisor"] and len(high) > CONFIDENT["fake_frames"]:
        return fmean(high)
    return fmean(low if len(low) > CONFIDENT["real_share"] * len(scores) else scores)


def _ntech(scores: Scores) -> float:
    """Scores are driven away from 0.5, and those near 0.5 weigh little."""
    driven = [_driven(p) for p in scores]
    return fmean(driven, [abs(p - 0.5) + NTECH["least_weight"] for p in scores])


def _driven(p: float) -> float:
    if p == 0.5:
        return p
    far = 0.5 + math.copysign(abs(p - 0.5) ** NTECH["power"], p - 0.5)
    return max(NTECH["lowest"], min(NTECH["highest"], far))


AGGREGATES: dict[str, Aggregate] = {
    "mean_logit": Aggregate(
        _mean_logit, "polimi-ispl's DFDC entry: Bonettini et al., ICPR 2020", {"logit_limit": LOGIT_LIMIT}
    ),
    "mean": Aggregate(fmean, "the usual rule of benchmarks, as in DeepfakeBench: Yan et al., NeurIPS 2023"),
    "median": Aggregate(median, "Tukey, Exploratory Data Analysis, 1977"),
    "trimmed_mean": Aggregate(_trimmed_mean, "Tukey, Exploratory Data Analysis, 1977", {"trimmed": TRIMMED}),
    "top_mean": Aggregate(_top_mean, "top-k pooling of multiple-instance learning", {"top_share": TOP_SHARE}),
    "max": Aggregate(max, "the standard assumption of multiple-instance learning: Dietterich et al., 1997"),
    "confidence_mean": Aggregate(_confidence_mean, "weights by Shannon's information, 1948; chosen here"),
    "confident_strategy": Aggregate(_confident_strategy, "selimsef, winner of the DFDC, kernel_utils.py", CONFIDENT),
    "ntech": Aggregate(_ntech, "NTech-Lab, third in the DFDC, predict.py", NTECH),
}


def kind_of(p_fake: float, band: tuple[float, float]) -> VerdictKind:
    """FAKE above the band, REAL below it, UNCERTAIN inside."""
    if p_fake >= band[1]:
        return VerdictKind.FAKE
    return VerdictKind.REAL if p_fake < band[0] else VerdictKind.UNCERTAIN


def judge_people(
    scores: Sequence[FrameScore],
    aggregate: str,
    band: tuple[float, float],
    min_frames: int,
    bits_per_pixel: float | None = None,
) -> tuple[PersonVerdict, ...]:
    """Joins the scores of each person.

    Args:
        scores: Of all faces of one input.
        aggregate: A key of `AGGREGATES`.
        band: Inside it a person is uncertain.
        min_frames: A person seen in fewer frames is uncertain, whatever the scores.
        bits_per_pixel: Of a clip, where known. In one that is `too_compressed` nobody is real, nor is anywhere who has
            `fake_parts`.

    Returns:
        One verdict per person, by track number.

    Raises:
        ConfigError: Unknown aggregate.
    """
    join = choose(AGGREGATES, aggregate, "infer.aggregate")
    people = []
    for track, seen in by_person(scores).items():
        p_fake = join([s.p_fake for s in seen])
        kind = kind_of(p_fake, band) if len(seen) >= min_frames else VerdictKind.UNCERTAIN
        if kind is VerdictKind.REAL and (too_compressed(bits_per_pixel) or fake_parts(seen, band[1])):
            kind = VerdictKind.UNCERTAIN
        people.append(PersonVerdict(track, kind, p_fake, len(seen), seen[0].time_s, seen[-1].time_s))
    return tuple(people)


def too_compressed(bits_per_pixel: float | None) -> bool:
    """Whether a clip is so strongly compressed that finding no trace of a manipulation says nothing."""
    return bits_per_pixel is not None and bits_per_pixel < COMPRESSED


def judge_clip(people: Sequence[PersonVerdict], min_frames: int) -> tuple[VerdictKind, float]:
    """The answer for the whole input: FAKE if anybody in it is, REAL only if everybody is.

    Args:
        people: At least one.
        min_frames: As for `judge_people`.

    Returns:
        The answer, and the highest p_fake among the people seen in enough frames, among all where nobody is.
    """
    kinds = {p.verdict for p in people}
    lasting = [p for p in people if p.frames >= min_frames]
    p_fake = max(p.p_fake for p in lasting or people)
    for kind in (VerdictKind.FAKE, VerdictKind.UNCERTAIN):
        if kind in kinds:
            return kind, p_fake
    return VerdictKind.REAL, p_fake


def by_person(scores: Sequence[FrameScore]) -> dict[int, list[FrameScore]]:
    """The scores of each person, by track number, then frame."""
    ordered = sorted(scores, key=lambda s: (s.track, s.frame_index))
    return {track: list(seen) for track, seen in groupby(ordered, key=lambda s: s.track)}


def segments(scores: Sequence[FrameScore], threshold: float) -> tuple[Segment, ...]:
    """Parts of a clip where a person's smoothed score reaches the threshold.

    Args:
        scores: Of all faces of one clip.
        threshold: p_fake.

    Returns:
        By person, then time. Times are those of the first and last sampled frame of the part.
    """
    return tuple(part for seen in by_person(scores).values() for _, part in _parts(seen, threshold))


def fake_parts(seen: Sequence[FrameScore], fake_from: float) -> tuple[Segment, ...]:
    """Parts of at least `PART_FRAMES` sampled frames in which one person looks manipulated, whatever the whole clip says.

    Args:
        seen: The scores of that person, in order.
        fake_from: The upper edge of the uncertain band.
    """
    return tuple(part for frames, part in _parts(seen, fake_from) if frames >= PART_FRAMES)


def _parts(seen: Sequence[FrameScore], threshold: float) -> Iterator[tuple[int, Segment]]:
    """Parts of one person's frames at or above a threshold, with how many frames each has."""
    smooth = smoothed([s.p_fake for s in seen])
    for high, part in groupby(range(len(seen)), key=lambda i: smooth[i] >= threshold):
        inside = list(part)
        if high:
            mean = fmean(smooth[i] for i in inside)
            yield len(inside), Segment(seen[0].track, seen[inside[0]].time_s, seen[inside[-1]].time_s, mean)


def smoothed(values: Sequence[float]) -> list[float]:
    """Centred running mean over `SMOOTHED_FRAMES` values, over fewer at the ends."""
    reach = SMOOTHED_FRAMES // 2
    return [fmean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]
