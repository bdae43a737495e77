"""Which faces of an input a person should look at to check a verdict, and the lines of a chart of its scores. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dfpipe.colours import LINES
from dfpipe.infer.aggregate import by_person
from dfpipe.infer.words import clock, person_name, telling
from dfpipe.types import FaceCrop, FrameScore, Verdict, VerdictKind

MOST_PEOPLE = 8  # with pictures and a line in the chart; the others stand in the table. As many as there are colours
FACES = 5  # pictures that speak for the answer on a person ...
AGAINST = 1  # ... and against it, so that the selection itself does not persuade

# Chart, px of its own coordinates.
WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 24, 12, 34
DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2", "6 2 1 2 1 2")
TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # s between two ticks
MOST_TICKS = 9


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face to look at."""

    score: FrameScore
    crop: FaceCrop
    against: bool  # it speaks against the answer on this person


def faces_to_show(verdict: Verdict, crops: Sequence[FaceCrop]) -> dict[int, list[Face]]:
    """The most telling faces of each person, by track number, the most telling first.

    Args:
        verdict: Of one input.
        crops: One for each of `verdict.scores`, in their order.
    """
    crop_of = {(score.track, score.frame_index): crop for score, crop in zip(verdict.scores, crops, strict=True)}
    kinds = {person.track: person.verdict for person in verdict.people}
    shown: dict[int, list[Face]] = {}
    for track, scores in list(by_person(verdict.scores).items())[:MOST_PEOPLE]:
        chosen = _chosen(scores, kinds[track])
        shown[track] = [Face(s, crop_of[s.track, s.frame_index], against) for s, against in chosen]
    return shown


def _chosen(scores: Sequence[FrameScore], kind: VerdictKind) -> list[tuple[FrameScore, bool]]:
    if kind is VerdictKind.UNCERTAIN:  # both sides, half and half
        high = telling(scores, (FACES + AGAINST) // 2)
        rest = [s for s in scores if s not in high]
        return [(s, False) for s in high + telling(rest, (FACES + AGAINST) // 2, fake=False)]
    fake = kind is VerdictKind.FAKE
    speaking = telling(scores, FACES, fake=fake)
    rest = [s for s in scores if s not in speaking]
    return [(s, False) for s in speaking] + [(s, True) for s in telling(rest, AGAINST, fake=not fake)]


def score_chart(line: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where everything lies in the chart of a clip's scores over time; None where there is no time to draw over.

    Args:
        line: Of verdicts.jsonl.

    Returns:
        lines (one per person: name, colour, dash, points, dots), band and threshold (y), ticks (x, label), marks (y,
        label), and how many people are left out.
    """
    times = [score["time_s"] for score in line["scores"]]
    if len(set(times)) < 2:
        return None
    end = max((line["media"] or {}).get("duration_s") or 0, max(times))
    people: dict[int, list[Mapping[str, Any]]] = {}
    for score in sorted(line["scores"], key=lambda s: (s["track"], s["frame"])):
        people.setdefault(score["track"], []).append(score)
    drawn = list(people.items())[:MOST_PEOPLE]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "lines": [_line(i, track, scores, end) for i, (track, scores) in enumerate(drawn)],
        "band": [_y(line["band"][1]), _y(line["band"][0]) - _y(line["band"][1])],
        "threshold": _y(line["threshold"]),
        "ticks": [(_x(t, end), _tick(t, end)) for t in _ticks(end)],
        "marks": [(_y(p), f"{p:g}") for p in (0, 0.25, 0.5, 0.75, 1)],
        "left_out": len(people) - len(drawn),
    }


def _line(place: int, track: int, scores: Sequence[Mapping[str, Any]], end: float) -> dict[str, Any]:
    points = [(_x(s["time_s"], end), _y(s["p_fake"])) for s in scores]
    return {
        "name": person_name(track),
        "colour": LINES[place],
        "dash": DASHES[place],
        "points": " ".join(f"{x},{y}" for x, y in points),
        "dots": [
            (x, y, f"{person_name(track)} at {clock(s['time_s'])}: {s['p_fake']:.2f}")
            for (x, y), s in zip(points, scores, strict=True)
        ],
    }


def _x(time_s: float, end: float) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * time_s / end, 1)


def _y(p: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - p), 1)


def _step(end: float) -> float:
    return next((s for s in TIME_STEPS if end / s <= MOST_TICKS), TIME_STEPS[-1])


def _ticks(end: float) -> list[float]:
    step = max(_step(end), end / MOST_TICKS if end / TIME_STEPS[-1] > MOST_TICKS else 0)
    return [i * step for i in range(int(end / step) + 1)]


def _tick(time_s: float, end: float) -> str:
    return clock(time_s) if _step(end) >= 1 else f"{time_s:.1f} s"
