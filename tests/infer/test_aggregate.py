import math

import pytest

from dfpipe.errors import ConfigError
from dfpipe.infer.aggregate import (
    AGGREGATES,
    COMPRESSED,
    fake_parts,
    judge_clip,
    judge_people,
    kind_of,
    logit,
    segments,
    sigmoid,
    smoothed,
    too_compressed,
)
from dfpipe.types import FrameScore, VerdictKind

BAND = (0.4, 0.6)


def scores(track: int, *values: float) -> list[FrameScore]:
    return [FrameScore(i, float(i), track, p) for i, p in enumerate(values)]


def judged(*people: list[FrameScore], min_frames: int = 2) -> tuple[VerdictKind, float]:
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
        ("trimmed_mean", [0.9, 0.1, 0.2], 0.4),  # too few to trim
        ("trimmed_mean", [0.0, *[0.3] * 8, 1.0], 0.3),
        ("top_mean", [0.9, 0.1, 0.2], 0.9),
        ("top_mean", [0.9, 0.7, 0.1, 0.1, 0.1, 0.2, 0.3, 0.2], 0.8),
        ("max", [0.9, 0.1, 0.2], 0.9),
        ("confidence_mean", [0.5, 0.5, 1.0], 1.0),
        ("confidence_mean", [0.5, 0.5], 0.5),
        # 1 - H(0.9) = 0.531, 1 - H(0.8) = 0.278
        ("confidence_mean", [0.9, 0.2], (0.531 * 0.9 + 0.278 * 0.2) / (0.531 + 0.278)),
        ("confident_strategy", [0.95] * 12 + [0.1] * 20, (12 * 0.95 + 20 * 0.1) / 32),  # 12 of 32 are not enough
        ("confident_strategy", [0.95] * 13 + [0.1] * 19, 0.95),  # 13 are: the cliff of this rule
        ("confident_strategy", [0.95] * 11, 0.95),
        ("confident_strategy", [0.1] * 31 + [0.9], 0.1),
        ("confident_strategy", [0.1] * 28 + [0.9] * 4, 0.2),  # 28 of 32 are not over nine tenths
        # 0.5 + 0.4^0.65 = 1.05 is held at 0.99; 0.5 - 0.1^0.65 = 0.276; weights 0.4001 and 0.1001
        ("ntech", [0.9, 0.4], (0.4001 * 0.99 + 0.1001 * (0.5 - 0.1**0.65)) / 0.5002),
        ("ntech", [0.5], 0.5),
    ],
)
def test_by_hand(name: str, values: list[float], expected: float) -> None:
    assert AGGREGATES[name](values) == pytest.approx(expected, abs=1e-3 if name == "confidence_mean" else 1e-9)


@pytest.mark.parametrize(
    ("swapped", "kind"), [(0, VerdictKind.REAL), (3, VerdictKind.REAL), (5, VerdictKind.UNCERTAIN)]
)
def test_nobody_is_real_who_looks_manipulated_in_a_part(swapped: int, kind: VerdictKind) -> None:
    """The mean over the whole clip hides it; three frames are a turned head."""
    seen = scores(0, *[0.05] * 20, *[0.95] * swapped, *[0.05] * 7)
    (person,) = judge_people(seen, "mean", BAND, 4)
    assert person.p_fake < BAND[0]
    assert person.verdict is kind
    assert len(fake_parts(seen, BAND[1])) == (kind is VerdictKind.UNCERTAIN)


@pytest.mark.parametrize("name", AGGREGATES)
def test_every_rule_stays_between_its_scores(name: str) -> None:
    values = [0.0, 0.2, 0.97, 1.0]
    assert 0 <= AGGREGATES[name](values) <= 1
    assert AGGREGATES[name](values) == pytest.approx(AGGREGATES[name](values[::-1]))
    if name != "ntech":  # which drives scores away from 0.5
        assert AGGREGATES[name]([0.3]) == pytest.approx(0.3)
        assert AGGREGATES[name]([0.3] * 40) == pytest.approx(0.3)


@pytest.mark.parametrize("name", AGGREGATES)
def test_every_rule_names_its_source_and_is_monotone_at_the_edges(name: str) -> None:
    rule = AGGREGATES[name]
    assert rule.source
    assert all(isinstance(value, int | float) for value in rule.parameters.values())
    assert rule([0.98] * 20) > 0.9
    assert rule([0.02] * 20) < 0.1
    assert rule([0.0, 1.0]) == rule([1.0, 0.0])


def test_nobody_is_real_where_traces_do_not_survive() -> None:
    real, fake = scores(0, 0.1, 0.1), scores(1, 0.9, 0.9)
    kinds = [p.verdict for p in judge_people(real + fake, "mean", BAND, 2, COMPRESSED / 2)]
    assert kinds == [VerdictKind.UNCERTAIN, VerdictKind.FAKE]
    assert judge_people(real, "mean", BAND, 2, COMPRESSED)[0].verdict is VerdictKind.REAL
    assert judge_people(real, "mean", BAND, 2, None)[0].verdict is VerdictKind.REAL
    assert not too_compressed(None)


@pytest.mark.parametrize("name", AGGREGATES)
def test_pooled_scores_would_hide_one_fake_person_of_two(name: str) -> None:
    """Whatever the rule, people are judged apart: all faces in one pot, the fake one drowns or the cliff decides."""
    honest, fake = scores(0, *[0.02] * 28), scores(1, *[0.9] * 5)
    people = judge_people(honest + fake, name, BAND, 4)
    assert [p.verdict for p in people] == [VerdictKind.REAL, VerdictKind.FAKE]
    assert judge_clip(people, 4)[0] is VerdictKind.FAKE
    if name not in ("max", "top_mean"):  # which never average anybody away, and call any clip with one bad frame fake
        assert kind_of(AGGREGATES[name]([s.p_fake for s in honest + fake]), BAND) is VerdictKind.REAL


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
    assert judged(honest, fake) == (VerdictKind.FAKE, pytest.approx(0.9))


def test_real_only_if_everybody_is() -> None:
    assert judged(scores(0, 0.1, 0.1), scores(1, 0.2, 0.2))[0] is VerdictKind.REAL
    assert judged(scores(0, 0.1, 0.1), scores(1, 0.5, 0.5))[0] is VerdictKind.UNCERTAIN


def test_a_person_seen_too_briefly_is_uncertain_even_with_a_high_score() -> None:
    assert judged(scores(0, 0.1, 0.1, 0.1), scores(1, 0.99)) == (VerdictKind.UNCERTAIN, pytest.approx(0.1))
    assert judged(scores(1, 0.99)) == (VerdictKind.UNCERTAIN, pytest.approx(0.99))
    # A fake one who was seen long enough decides, whoever else passes by.
    assert judged(scores(0, 0.9, 0.9, 0.9), scores(1, 0.01))[0] is VerdictKind.FAKE


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
