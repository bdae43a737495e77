"""Frame scores to people and clips, as inference joins them, each with its truth. Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from dfpipe.infer.aggregate import judge_clip, judge_people
from dfpipe.infer.scores import Scores
from dfpipe.preprocess.groups import group_key
from dfpipe.types import FrameScore, PersonVerdict

LEVELS = ("frame", "person", "clip")  # a still is a clip of one frame
FACTS = ("media_id", "dataset", "name", "method", "group", "compression")  # what every level keeps of an input


@dataclass(frozen=True)
class Level:
    """What is measured, one entry each: faces in frames, people of a clip, or clips. All are labelled and scored."""

    labels: list[int]
    p_fake: list[float]
    columns: Mapping[str, list[Any]]  # FACTS, key (what the unit is, the same for all models), face_side, crop, verdict

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def groups(self) -> list[str]:
        """What the bootstrap draws together."""
        return [group_key(d, g) for d, g in zip(self.columns["dataset"], self.columns["group"], strict=True)]

    def take(self, rows: Sequence[int]) -> "Level":
        """Some of the units."""
        columns = {name: [values[i] for i in rows] for name, values in self.columns.items()}
        return Level([self.labels[i] for i in rows], [self.p_fake[i] for i in rows], columns)


def levels_of(scores: Scores, aggregate: str, band: tuple[float, float], min_frames: int) -> dict[str, Level]:
    """Joins the scores of one model.

    The label of a clip counts for every person and every frame in it, because data sets say no more. In a fake clip with
    an untouched person beside the altered one, figures per person and frame are therefore too low; those per clip are not.

    Args:
        scores: Of one model. Rows without score or label are left out.
        aggregate: A key of `AGGREGATES`.
        band: Inside it a person is uncertain.
        min_frames: A person seen in fewer frames is uncertain, as in `Detector`.

    Returns:
        A level for each of `LEVELS`.

    Raises:
        ConfigError: Unknown aggregate.
    """
    columns = scores.columns
    inputs: dict[str, list[int]] = defaultdict(list)
    for row, (media_id, label, p) in enumerate(
        zip(columns["media_id"], columns["label"], columns["p_fake"], strict=True)
    ):
        if label is not None and p is not None:
            inputs[media_id].append(row)
    units: dict[str, list[dict[str, Any]]] = {level: [] for level in LEVELS}
    for rows in inputs.values():
        _join(columns, rows, aggregate, band, min_frames, units)
    return {level: _level(found) for level, found in units.items()}


def _join(
    columns: Mapping[str, list[Any]],
    rows: Sequence[int],
    aggregate: str,
    band: tuple[float, float],
    min_frames: int,
    units: dict[str, list[dict[str, Any]]],
) -> None:
    """Adds the units of one input."""
    facts = {name: columns[name][rows[0]] for name in FACTS} | {"label": columns["label"][rows[0]]}
    media_id = facts["media_id"]
    seen = [
        FrameScore(columns["frame_index"][r], columns["time_s"][r] or 0.0, columns["track"][r], columns["p_fake"][r])
        for r in rows
    ]
    least = min(min_frames, columns["frames_wanted"][rows[0]])  # a still cannot show anybody in four frames
    people = judge_people(seen, aggregate, band, least, columns["bits_per_pixel"][rows[0]])
    kind, p_fake = judge_clip(people, least)
    units["frame"] += [
        {**facts, "key": (media_id, s.track, s.frame_index), "p_fake": s.p_fake, "verdict": "", **_face(columns, [r])}
        for r, s in zip(rows, seen, strict=True)
    ]
    of_track: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        of_track[columns["track"][row]].append(row)
    units["person"] += [_person(facts, p, _face(columns, of_track[p.track])) for p in people]
    decider = max(people, key=lambda p: (p.p_fake == p_fake, p.frames))
    face = _face(columns, of_track[decider.track])
    units["clip"].append({**facts, "key": (media_id,), "p_fake": p_fake, "verdict": str(kind), **face})


def _person(facts: Mapping[str, Any], person: PersonVerdict, face: Mapping[str, Any]) -> dict[str, Any]:
    key = (facts["media_id"], person.track)
    return {**facts, "key": key, "p_fake": person.p_fake, "verdict": str(person.verdict), **face}


def _face(columns: Mapping[str, list[Any]], rows: Sequence[int]) -> dict[str, Any]:
    """The median size of some faces, and the crop whose score is the middle one of theirs."""
    sides = [columns["face_side"][r] for r in rows if columns["face_side"][r] is not None]
    ordered = sorted(rows, key=lambda r: float(columns["p_fake"][r]))
    return {"face_side": median(sides) if sides else None, "crop": columns["crop"][ordered[len(ordered) // 2]]}


def _level(units: Sequence[Mapping[str, Any]]) -> Level:
    names = (*FACTS, "key", "verdict", "face_side", "crop")
    columns = {name: [unit[name] for unit in units] for name in names}
    return Level([int(u["label"]) for u in units], [float(u["p_fake"]) for u in units], columns)


def coverage(scores: Scores) -> dict[str, Any]:
    """How much of the inputs could be scored: counted here, never scored as chance.

    Returns:
        inputs; scored (with a label and a face); unlabelled; states (state -> inputs); unscored (label -> inputs without a
        score); share (scored / labelled inputs, None without any).
    """
    columns = scores.columns
    first = {media_id: row for row, media_id in reversed(list(enumerate(columns["media_id"])))}
    has_score = {m for m, p in zip(columns["media_id"], columns["p_fake"], strict=True) if p is not None}
    labels = {media_id: columns["label"][row] for media_id, row in first.items()}
    known = [media_id for media_id, label in labels.items() if label is not None]
    lacking = Counter("fake" if labels[m] else "real" for m in known if m not in has_score)
    scored = sum(m in has_score for m in known)
    return {
        "inputs": len(first),
        "scored": scored,
        "unlabelled": len(first) - len(known),
        "unscored": {"real": lacking["real"], "fake": lacking["fake"]},
        "share": scored / len(known) if known else None,
        "states": dict(Counter(columns["state"][row] for row in first.values()).most_common()),
    }
