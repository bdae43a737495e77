"""What a stranger sees first: links, pictures, the citation, and the script that draws the terminal."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image as PillowImage

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", ROOT / "docs" / "comparison.md"]
PICTURES = ROOT / "docs" / "pictures"
TOOLS = 10  # compared, with dfpipe itself


def links_in(text: str) -> list[str]:
    """Where a page points to: links and pictures, in Markdown and in HTML, outside of code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    return re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)


def anchors_of(page: Path) -> set[str]:
    """The headings of a page as GitHub makes addresses of them: lower case, no signs but - and _, blanks to -."""
    headings = re.findall(r"^#+ +(.+?)\s*$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Links that lead nowhere. Addresses of the web are not asked."""
    wrong = []
    for link in links_in(page.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = page.parent / unquote(name) if name else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_and_picture_and_heading_is_there(page: Path) -> None:
    assert links_in(page.read_text(encoding="utf-8"))
    assert broken(page) == []


def test_a_link_that_leads_nowhere_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text(
        '# One two: three\n[a](#one-two-three) [b](#four) [c](no.md) <img src="no.png"> [d](https://x.org)\n'
    )
    assert broken(page) == ["#four", "no.md", "no.png"]


def test_pictures_are_small_and_described() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"<img ([^>]+)>", text)
    assert len(shown) >= 3
    for attributes in shown:
        assert re.search(r'alt="[^"]{40,}"', attributes), "who cannot see it, on PyPI too, reads this"
    files = [path for path in PICTURES.iterdir() if path.suffix != ".py" and path.is_file()]
    assert all(path.stat().st_size < 300_000 for path in files)
    assert sum(path.stat().st_size for path in files) < 1_000_000
    for path in PICTURES.glob("*.webp"):
        with PillowImage.open(path) as picture:
            assert picture.width >= 900
    assert ElementTree.parse(PICTURES / "terminal.svg").getroot().tag.endswith("svg")


def test_the_readme_and_the_comparison_say_the_same() -> None:
    """A cell of the short table stands in the long one too, for each tool that both have."""
    long = {row[0]: row for row in table((ROOT / "docs" / "comparison.md").read_text(encoding="utf-8"), "| | own file")}
    short = table((ROOT / "README.md").read_text(encoding="utf-8"), "| | dfpipe |")
    assert len(long) == TOOLS + 1
    columns = [re.sub(r".*#(.*)\)", r"\1", cell) for cell in short[0][1:]]
    for question in ("no face", "several people", "CPU", "tests"):
        cells = next(row for row in short if row[0].startswith(question))[1:]
        heading = next(i for i, cell in enumerate(long[""]) if cell.startswith(question))
        for column, cell in zip(columns, cells, strict=True):
            row = next(row for name, row in long.items() if column in name)
            assert row[heading].split(",")[0].split(" with")[0] == cell.split(",")[0].split(" with")[0], (
                question,
                column,
            )


def table(text: str, start: str) -> list[list[str]]:
    """The cells of the Markdown table whose first line begins so, without the line below it."""
    lines = text[text.index(start) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for i, line in enumerate(lines) if i != 1]


def test_the_citation_is_complete() -> None:
    """What the Citation File Format 1.2.0 requires, and the names that are ours."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(cited)
    assert cited["authors"] == [{"name": "The dfpipe authors"}]
    assert cited["license"] == "Apache-2.0"
    assert re.fullmatch(r"\d+\.\d+\.\d+", cited["version"])
    assert f"Version {cited['version']}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def terminal() -> ModuleType:
    """docs/pictures/terminal.py, which is no part of the package."""
    pytest.importorskip("pty", reason="needs a system with terminals")
    spec = importlib.util.spec_from_file_location("terminal", PICTURES / "terminal.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_screen_keeps_what_was_written_last_in_its_colours(terminal: ModuleType) -> None:
    rows = terminal.screen("bar 10 %\r\x1b[1;31mFAKE\x1b[0m 1\r\n" + "x" * 130 + "\n\n")
    assert "".join(sign for sign, _ in rows[0]) == "FAKE 1 %"
    assert {style for _, style in rows[0][:4]} == {"1;31"}
    assert [len(row) for row in rows[1:]] == [100, 30]
    drawn = terminal.svg(rows, "a & b")
    assert ElementTree.fromstring(drawn).attrib["aria-label"] == "a & b"
    assert 'fill="#FF9D66" font-weight="bold">FAKE<' in drawn


@pytest.mark.slow
def test_at_a_terminal_the_table_has_its_header_in_a_line_of_its_own(terminal: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "no clip.mp4").write_text("text")
    rows = terminal.screen(terminal.run([sys.executable, "-m", "dfpipe", "infer", "no clip.mp4"], tmp_path))
    lines = ["".join(sign for sign, _ in row).rstrip() for row in rows]
    assert "verdict    p_fake  input" in lines
    assert next(line for line in lines if "no clip.mp4" in line) == "ERROR         -    no clip.mp4"
