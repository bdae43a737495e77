import math

import pytest

from dfpipe.errors import ConfigError
from dfpipe.infer.aggregate import AGGREGATES, judge_clip, judge_people, kind_of, logit, segments, sigmoid, smoothed
from dfpipe.types import FrameScore, VerdictKind

BAND = (0.4, 0.6)


def scores(track: int, *values: float) -> list[FrameScore]:
    return [FrameScore(i, float(i), track, p) for i, p in enumerate(values)]


def judged(*people: list[FrameScore], min_frames: int = 2) -> tuple[VerdictKind, float, str]:
    together = [s for person in people for s in person]
    return judge_clip(judge_people(together, "mean_logit", BAND, min_frames), min_frames)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("mean_logit", [0.5, 0.5], 0.5),
        ("mean_logit", [0.9, 0.1], 0.5),
        ("mean_logit", [0.9, 0.9, 0.5], 1 / (1 + 9 ** (-2 / 3))),
        ("mean", [0.9, 0.1, 0.2], 0.4),
        ("median", [0.9, 0.1, 0.2], 0.2),
    ],
)
def test_by_hand(name: str, values: list[float], expected: float) -> None:
    assert AGGREGATES[name](values) == pytest.approx(expected)


@pytest.mark.parametrize("name", AGGREGATES)
def test_every_rule_stays_between_its_scores(name: str) -> None:
    values = [0.0, 0.2, 0.97, 1.0]
    assert 0 <= AGGREGATES[name](values) <= 1
    assert AGGREGATES[name]([0.3]) == pytest.approx(0.3)
    assert AGGREGATES[name](values) == pytest.approx(AGGREGATES[name](values[::-1]))


def test_logit_and_sigmoid() -> None:
    assert sigmoid(logit(0.3)) == pytest.approx(0.3)
    assert math.isfinite(logit(0.0))
    assert logit(1.0) == -logit(0.0) > 10
    assert sigmoid(-1000) == 0


@pytest.mark.parametrize(
    ("p", "kind"),
    [(0.39, "REAL"), (0.4, "UNCERTAIN"), (0.59, "UNCERTAIN"), (0.6, "FAKE"), (1.0, "FAKE"), (0.0, "REAL")],
)
def test_band(p: float, kind: str) -> None:
    assert kind_of(p, BAND) == kind


def test_one_fake_person_of_two_is_not_averaged_away() -> None:
    honest, fake = scores(0, *[0.02] * 10), scores(1, *[0.9] * 5)
    pooled = AGGREGATES["mean_logit"]([s.p_fake for s in honest + fake])
    assert kind_of(pooled, BAND) is VerdictKind.REAL  # what pooling all faces would have said
    kind, p_fake, reason = judged(honest, fake)
    assert (kind, reason) == (VerdictKind.FAKE, "1 of 2 people looks manipulated, over 5 frames")
    assert p_fake == pytest.approx(0.9)


def test_real_only_if_everybody_is() -> None:
    assert judged(scores(0, 0.1, 0.1), scores(1, 0.2, 0.2))[0] is VerdictKind.REAL
    kind, _, reason = judged(scores(0, 0.1, 0.1), scores(1, 0.5, 0.5))
    assert (kind, reason) == (VerdictKind.UNCERTAIN, "the scores of 1 of 2 people are too close to call")


def test_a_person_seen_too_briefly_is_uncertain_even_with_a_high_score() -> None:
    kind, p_fake, reason = judged(scores(0, 0.1, 0.1, 0.1), scores(1, 0.99))
    assert kind is VerdictKind.UNCERTAIN
    assert p_fake == pytest.approx(0.1)
    assert reason == "1 of 2 people seen too briefly to judge"


def test_segments_have_times_of_the_high_part() -> None:
    values = [0.1, 0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1]
    (part,) = segments(scores(3, *values), 0.5)
    assert (part.track, part.start_s, part.end_s) == (3, 2.0, 4.0)
    assert 0.6 < part.p_fake < 0.9
    assert segments(scores(0, 0.1, 0.2), 0.5) == ()
    assert [s.track for s in segments(scores(0, 0.9, 0.9) + scores(1, 0.8, 0.8), 0.5)] == [0, 1]


def test_smoothing_takes_what_there_is_at_the_ends() -> None:
    assert smoothed([0.0, 0.3, 0.9]) == pytest.approx([0.15, 0.4, 0.6])


def test_unknown_rule() -> None:
    with pytest.raises(ConfigError, match="mean_logit"):
        judge_people(scores(0, 0.5), "vote", BAND, 1)
