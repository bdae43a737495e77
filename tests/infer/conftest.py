"""Verdicts for tests of what is written about them."""

from collections.abc import Callable
from typing import Any

import pytest

from dfpipe.types import (
    FaceBox,
    FrameScore,
    PersonVerdict,
    Rule,
    Segment,
    State,
    Verdict,
    VerdictKind,
    VideoInfo,
)


def make_verdict(path: str = "a.mp4", **change: Any) -> Verdict:
    """A FAKE of one person in a clip."""
    person = PersonVerdict(0, VerdictKind.FAKE, 0.93, 31, 0.0, 9.9)
    fields: dict[str, Any] = {
        "path": path,
        "state": State.OK,
        "verdict": VerdictKind.FAKE,
        "p_fake": 0.93,
        "reason": "the one person seen looks manipulated",
        "threshold": 0.5,
        "band": (0.4, 0.6),
        "frames_wanted": 32,
        "frames_decoded": 32,
        "frames_with_face": 31,
        "people": (person,),
        "segments": (Segment(0, 1.0, 2.0, 0.9),),
        "scores": (
            FrameScore(3, 0.1, 0, 0.93, FaceBox(1, 2, 30.04, 40, 1.0)),
            FrameScore(60, 2.0, 0, 0.4, FaceBox(1, 2, 30, 40, 1.0)),
        ),
        "model_name": "m",
        "model_sha256": "ab",
        "media_sha256": "cd",
        "seconds": 2.1,
        "rule": Rule("mean_logit", {"logit_limit": 16.0}, 4, 32, 0.015),
        "how_sure": "how sure this is cannot be said: the model is not calibrated",
        "kind": "video",
        "media": VideoInfo(640, 360, 25.0, 250, 10.0, "h264", 0, "decord"),
        "media_bytes": 1_200_000,
    }
    return Verdict(**{**fields, **change})


def make_error(path: str) -> Verdict:
    """A file that could not be read."""
    return make_verdict(
        path,
        state=State.CORRUPT,
        verdict=VerdictKind.ERROR,
        p_fake=None,
        reason="broken",
        people=(),
        segments=(),
        scores=(),
        how_sure="",
        kind="",
        media=None,
        media_bytes=None,
    )


@pytest.fixture
def verdict() -> Callable[..., Verdict]:
    """Makes a FAKE of one person in a clip; any field can be given another value."""
    return make_verdict


@pytest.fixture
def error() -> Callable[[str], Verdict]:
    """Makes the verdict on a file that could not be read."""
    return make_error
