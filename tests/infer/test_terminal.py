import re
from collections.abc import Callable

import pytest

from dfpipe.infer.terminal import one_line, paragraph
from dfpipe.infer.verdicts import to_json
from dfpipe.names import printable
from dfpipe.types import Verdict, VerdictKind


def test_a_name_cannot_rewrite_the_terminal(verdict: Callable[..., Verdict]) -> None:
    evil = to_json(verdict("\x1b[2Ja\nb.mp4"))
    for text in (one_line(evil), paragraph(evil, 80, False)):
        assert "\x1b" not in text
        assert text.startswith("FAKE")
        assert "0.93" in text
    assert "\n" not in one_line(evil)
    assert printable("ünï 视频") == "ünï 视频"


def test_no_number_where_there_is_none(error: Callable[..., Verdict]) -> None:
    line = to_json(error("x.mp4"))
    assert one_line(line).split()[:2] == ["ERROR", "-"]
    assert "[corrupt] broken" in one_line(line)
    assert paragraph(line, 80, False).split()[:2] == ["ERROR", "-"]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("kind", list(VerdictKind))
def test_a_paragraph_fits_the_terminal(verdict: Callable[..., Verdict], width: int, kind: VerdictKind) -> None:
    long = verdict("some/very/" + "long/" * 30 + "name of a clip.mp4", verdict=kind, reason="a reason " * 20)
    line = to_json(long) | {"cautions": ["small faces (30 px)", "strong compression"]}
    text = paragraph(line, width, colour=False)
    rows = text.splitlines()
    assert max(map(len, rows)) <= width
    assert "clip.mp4" in rows[0]
    assert "limits: small faces" in " ".join(text.split())
    coloured = paragraph(line, width, colour=True)
    assert coloured != text
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text
