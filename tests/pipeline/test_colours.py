"""One table of colours: legible, and the same wherever it had to be written again."""

import re
from pathlib import Path

import pytest

from dfpipe.colours import BAND, LABELS, LINES, LINES_DARK, THRESHOLD, VERDICTS, rgb
from dfpipe.types import VerdictKind

ROOT = Path(__file__).parent.parent.parent
WHITE, PAGE_DARK = "#FFFFFF", "#14171A"
READ, SEEN = 4.5, 3.0  # WCAG 2.2: 1.4.3 for text, 1.4.11 for what is not text


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [c / 255 for c in rgb(colour)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def colours_in(text: str) -> list[str]:
    """Every colour, as #RRGGBB."""
    found = re.findall(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3})\b", text)
    return [("#" + "".join(c * 2 for c in each[1:]) if len(each) == 4 else each).upper() for each in found]


def test_contrast_is_measured_right() -> None:
    assert contrast("#000000", WHITE) == pytest.approx(21)
    assert contrast("#777777", WHITE) == pytest.approx(4.48, abs=0.01)  # the well-known grey that just fails


def test_every_verdict_has_colours_that_can_be_read() -> None:
    assert set(VERDICTS) == set(VerdictKind)
    for shades in VERDICTS.values():
        assert contrast(shades.text, WHITE) >= READ
        assert contrast(shades.dark, PAGE_DARK) >= READ
        assert contrast(shades.area, WHITE) >= SEEN
    for line, dark in zip(LINES, LINES_DARK, strict=True):
        assert min(contrast(line, WHITE), contrast(dark, PAGE_DARK)) >= SEEN


def properties(css: str) -> dict[str, str]:
    """Custom properties of a style sheet: name -> colour."""
    return {name: colours_in(value)[0] for name, value in re.findall(r"--([\w-]+): (#[0-9a-fA-F]+);", css)}


def test_the_web_page_has_the_same() -> None:
    light, dark = (ROOT / "web" / "page" / "style.css").read_text(encoding="utf-8").split("@media", 1)
    for name, kinds in (("fake", "FAKE"), ("real", "REAL"), ("uncertain", "UNCERTAIN"), ("none", "NO_FACE")):
        assert properties(light)[name] == VERDICTS[kinds].text
        assert properties(dark)[name] == VERDICTS[kinds].dark
    assert [properties(light)[f"p{i}"] for i in range(len(LINES))] == list(LINES)
    assert [properties(dark)[f"p{i}"] for i in range(len(LINES))] == list(LINES_DARK)
    assert (properties(light)["band"], properties(light)["threshold"]) == (BAND, THRESHOLD)


def test_the_player_draws_as_the_overlay() -> None:
    text = (ROOT / "web" / "page" / "player.js").read_text(encoding="utf-8")
    (line,) = re.findall(r"const COLOURS = {(.*)}", text)
    drawn = dict(re.findall(r'(\w+): "(#\w+)"', line))
    assert drawn == {kind: VERDICTS[kind].text for kind in ("FAKE", "REAL", "UNCERTAIN")}


def test_reports_have_the_same() -> None:
    report = (ROOT / "infer" / "templates" / "report.html").read_text(encoding="utf-8")
    light, dark = (line for line in report.splitlines() if ".badge.fake" in line)
    kinds = ("FAKE", "REAL", "UNCERTAIN", "NO_FACE")
    assert colours_in(light) == [VERDICTS[kind].text for kind in kinds]
    assert colours_in(dark) == [VERDICTS[kind].dark for kind in kinds]
    assert {BAND, THRESHOLD} <= set(colours_in(report))
    base = (ROOT / "preprocess" / "templates" / "base.html").read_text(encoding="utf-8")
    dots = re.findall(r"\.dot\.(\w+) { background: (#\w+)", base)
    assert dict(dots) == {kind: LABELS[kind] for kind in ("real", "fake")}
