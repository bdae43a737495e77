"""What a verdict says in words: the reason, how sure it is, and what limits it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfpipe.infer.aggregate import by_person, fake_parts, too_compressed
from dfpipe.types import FrameScore, PersonVerdict, State, VerdictKind

# What no verdict says; stands under each of them.
NOT_TOLD = (
    "A verdict is evidence, not proof. Do not accuse anybody on the ground of it alone.",
    "REAL means: no sign of a manipulation that this model knows. New methods, and people who are wholly synthetic, "
    "can pass.",
    "Only faces were looked at: not voices, lips against speech, captions, or whether the clip shows what is claimed.",
)
TELLING = 2  # times named in a reason
APART_S = 1.0  # s between two times named: closer ones are one moment to whoever looks

# How likely a statement is, in words: Mastrandrea et al., Guidance Note for Lead Authors of the IPCC Fifth Assessment
# Report on Consistent Treatment of Uncertainties, 2010, table 1.
LIKELIHOODS = (
    (0.99, "virtually certain"),
    (0.95, "extremely likely"),
    (0.90, "very likely"),
    (0.66, "likely"),
    (0.50, "more likely than not"),
    (0.0, "less likely than not"),
)
# Of n cases without a single error one may conclude that errors are rarer than 3 / n, no more: Hanley and Lippman-Hand,
# "If nothing goes wrong, is everything all right?", JAMA 1983.
RULE_OF_THREE = 3.0

FEW_FRAMES = 8  # with a face, chosen here: a quarter of the usual 32; below, one bad frame moves a mean by an eighth
SELDOM = 0.5  # share of the frames with a face, chosen here
ENLARGED = 2.0  # times that a face must be enlarged for the network, chosen here: half of what it sees is then made up
# Variance of the Laplacian at 256 px: the 5th percentile of 600 DFDC face crops, whose median is 29.
BLURRED = 5.0
# Mean luma of 255: the 10th percentile of 995 DFDC face crops of the test split. Of the real ones in the darkest fifth of
# them the model that ships calls 19 % fake at 0.5, of the others 9 %.
DARK = 47.0


@dataclass(frozen=True)
class Conditions:
    """What is known of how well an input can be judged."""

    state: State
    kind: str  # video or image
    wanted: int  # frames looked for
    with_face: int
    dropped: int  # faces seen in a single frame only
    face_px: float | None  # median longer side of the faces, px of the upright frame
    enlarged: float | None  # side that the network sees / median side of the crops as they were cut
    sharpness: float | None  # median variance of the Laplacian of the crops at 256 px
    luma: float | None  # median of the mean luma of the crops, of 255
    bits_per_pixel: float | None  # of the file, over all its frames


def reason_of(
    kind: VerdictKind,
    people: Sequence[PersonVerdict],
    scores: Sequence[FrameScore],
    min_frames: int,
    clip: bool,
    band: tuple[float, float] = (0.0, 1.0),
) -> str:
    """Why the answer is what it is, in one sentence.

    Args:
        kind: The answer, FAKE, REAL or UNCERTAIN.
        people: At least one.
        scores: Of all faces.
        min_frames: A person seen in fewer frames was not judged.
        clip: Whether there are times to name.
        band: Of the model. A person below it would be real, if the clip were not too strongly compressed and no part of it
            looked manipulated.
    """
    if kind is VerdictKind.FAKE:
        fakes = [p for p in people if p.verdict is kind]
        verb = "looks" if len(fakes) == 1 else "look"
        who = f" ({_names(fakes)})" if 0 < len(fakes) < len(people) else ""
        return f"{_of(len(fakes), len(people))} {verb} manipulated{who}{_moments(fakes, scores) if clip else ''}"
    if kind is VerdictKind.UNCERTAIN:
        unsure = [p for p in people if p.verdict is kind]
        brief = [p for p in unsure if p.frames < min_frames]
        if len(brief) == len(unsure):
            seen = "was" if len(brief) == 1 else "were"
            return f"{_of(len(brief), len(people))} {seen} seen too briefly to judge{_others(len(people) - len(brief))}"
        if parts := _parts_of([p for p in unsure if p not in brief and p.p_fake < band[0]], scores, band[1]):
            return f"part of the clip looks manipulated ({parts}), the whole of it does not: it cannot be called real"
        if all(p in brief or p.p_fake < band[0] for p in people):
            return "no sign of manipulation, but in so strongly compressed a clip none may be left: it cannot be called real"
        close = [p for p in unsure if p in brief or p.p_fake >= band[0]]
        part = f"; a part looks manipulated ({parts})" if (parts := _parts_of(close, scores, band[1])) else ""
        return f"the scores of {_of(len(close), len(people))} are too close to call{part}"
    frames = sum(p.frames for p in people)
    return f"no sign of manipulation in {_of(len(people), len(people))}, over {_count(frames, 'frame')}"


def _parts_of(people: Sequence[PersonVerdict], scores: Sequence[FrameScore], fake_from: float) -> str:
    """Who looks manipulated in a part, and when: "person 2 from 0:02 to 0:04"; empty if nobody does."""
    mine = by_person(scores)
    parts = [part for p in people for part in fake_parts(mine[p.track], fake_from)][:TELLING]
    return ", ".join(f"{person_name(p.track)} from {clock(p.start_s)} to {clock(p.end_s)}" for p in parts)


def _others(others: int) -> str:
    return f"; no sign of manipulation in the other {others}" if others > 1 else "; none in the other" if others else ""


def _moments(fakes: Sequence[PersonVerdict], scores: Sequence[FrameScore]) -> str:
    mine = by_person(scores)
    seen = [s for p in fakes for s in mine[p.track]]
    times = sorted(s.time_s for s in telling(seen, TELLING))
    told = " and ".join(dict.fromkeys(clock(t) for t in times))
    return f"; the clearest frame{'s are' if ' and ' in told else ' is'} at {told}"


def telling(scores: Sequence[FrameScore], most: int, *, fake: bool = True) -> list[FrameScore]:
    """The frames that say most, no two of one person within `APART_S`.

    Args:
        scores: Of one or more people.
        most: How many.
        fake: Whether the highest p_fake says most, or the lowest.

    Returns:
        The most telling first.
    """
    chosen: list[FrameScore] = []
    for score in sorted(scores, key=lambda s: (-s.p_fake if fake else s.p_fake, s.time_s)):
        if len(chosen) < most and all(
            c.track != score.track or abs(c.time_s - score.time_s) >= APART_S for c in chosen
        ):
            chosen.append(score)
    return chosen


def confidence_of(
    kind: VerdictKind, p_fake: float | None, calibration: Mapping[str, Any] | None
) -> tuple[float | None, str]:
    """How sure the shown label is, never that of the other one.

    Args:
        kind: The answer.
        p_fake: Calibrated.
        calibration: Of the model file.

    Returns:
        The probability of the shown label, not above what the calibration data can support, and the same in words. None
        and a reason where there is no number to be had.
    """
    if p_fake is None or kind not in (VerdictKind.FAKE, VerdictKind.REAL):
        return None, ""
    told = (calibration or {}).get("fitted_on")
    if not told:
        return None, "how sure this is cannot be said: the model is not calibrated"
    count = int(told["fake" if kind is VerdictKind.FAKE else "real"])
    most = 1 - min(0.5, RULE_OF_THREE / max(count, 1))
    sure = min(p_fake if kind is VerdictKind.FAKE else 1 - p_fake, most)
    what = "manipulated" if kind is VerdictKind.FAKE else "not manipulated by a method that the model knows"
    return sure, f"{likelihood(sure)} {what}, on material like {', '.join(told['datasets'])}"


def likelihood(p: float) -> str:
    """A probability in words."""
    return next(words for least, words in LIKELIHOODS if p >= least)


def cautions_of(seen: Conditions) -> tuple[str, ...]:
    """What limits a verdict, each in a few words; empty where nothing does."""
    video, blurred = seen.kind == "video", seen.sharpness is not None and seen.sharpness < BLURRED
    checks = {
        "the file is damaged": seen.state is State.PARTIAL,
        "a single picture: nothing can be said about movement": not video,
        f"only {_count(seen.with_face, 'frame')} with a face": video and 0 < seen.with_face < FEW_FRAMES,
        f"a face in only {seen.with_face} of {seen.wanted} frames looked at": video
        and FEW_FRAMES <= seen.with_face < SELDOM * seen.wanted,
        f"small faces ({seen.face_px or 0:.0f} px)": (seen.enlarged or 0) > ENLARGED,
        "blurred or very smooth faces": blurred,
        "dark faces": seen.luma is not None and seen.luma < DARK,
        "strong compression": too_compressed(seen.bits_per_pixel),
        f"{_count(seen.dropped, 'face')} seen in one frame only and left out": seen.dropped > 0,
    }
    return tuple(words for words, holds in checks.items() if holds)


def clock(seconds: float) -> str:
    """A time in a clip for reading: 0:03, 1:02:03."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def person_name(track: int) -> str:
    """A person for reading; they are counted from 1."""
    return f"person {track + 1}"


def _names(people: Sequence[PersonVerdict]) -> str:
    first = ", ".join(str(p.track + 1) for p in people[:5]) + (", ..." if len(people) > 5 else "")
    return f"{'person' if len(people) == 1 else 'people'} {first}"


def _of(some: int, total: int) -> str:
    return "the one person seen" if total == 1 else f"{some} of {total} people"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
