"""The site builds, its links lead somewhere, it loads nothing from elsewhere, and it holds what the code says."""

import ast
import dataclasses
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest

from dfpipe import config

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))  # as docs/conf.py does

for package in ("sphinx", "myst_parser", "furo"):
    pytest.importorskip(package, reason="the site needs dfpipe[docs]")

from generate import GENERATED, fields, imports, links, words  # noqa: E402


def build(docs: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` does, into another folder."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (flags,) = re.findall(r"-m sphinx (-b html .*) docs site$", makefile, re.M)
    flags = flags.replace(".venv/doctrees", str(out.parent / "doctrees"))
    command = [sys.executable, "-m", "sphinx", *flags.split(), str(docs), str(out)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", out)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return out


class Page(HTMLParser):
    """What a page refers to, and what in it can be referred to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []  # that one follows
        self.parts: list[str] = []  # that a browser loads by itself
        self.ids: set[str] = set()
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        self.ids |= {told[name] for name in ("id", "name") if name in told}
        if tag == "a" and "href" in told:
            self.links.append(told["href"])
        elif tag == "link" or "src" in told or "srcset" in told:
            self.parts += [told[name] for name in ("href", "src", "srcset") if name in told]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


@pytest.mark.slow
def test_every_page_of_docs_is_a_page_of_the_site(site: Path) -> None:
    sources = {p.relative_to(ROOT / "docs").with_suffix(".html") for p in (ROOT / "docs").rglob("*.md")}
    assert len(sources) > 20
    assert sources <= {path.relative_to(site) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_every_link_and_picture_of_the_site_is_there(pages: dict[Path, Page]) -> None:
    looked_at = 0
    for path, page in pages.items():
        for link in page.links + page.parts:
            parts = urlsplit(link)
            if parts.scheme or link.startswith("data:"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path}: {link}"
            if parts.fragment and target.suffix == ".html":
                known = pages[target].ids
                assert unquote(parts.fragment) in known, f"{path}: {link}"
            looked_at += 1
    assert looked_at > 1000


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not [part for part in page.parts if re.match(r"(?:https?:)?//", part)], path
        assert not re.search(r"\bimport\(|@import", page.text.partition("<body")[0]), path
    for sheet in site.rglob("*.css"):
        loaded = re.findall(r"@import[^;]+|url\(\s*['\"]?((?:https?:)?//[^)]+)", sheet.read_text(encoding="utf-8"))
        assert not loaded, sheet


@pytest.mark.slow
def test_the_reference_has_every_command_recipe_and_setting(pages: dict[Path, Page], site: Path) -> None:
    every_command = runpy.run_path(str(ROOT / "tests" / "test_docs.py"))["every_command"]
    commands = pages[site / "reference" / "commands.html"]
    assert {f"dfpipe-{name.replace(' ', '-')}" for name in every_command()} <= commands.ids
    for command in every_command().values():
        for option in command.params:
            assert all(flag in commands.text for flag in option.opts if flag.startswith("--"))
    recipes = pages[site / "reference" / "recipes.html"]
    assert set(config.recipes()) <= recipes.ids
    settings = pages[site / "reference" / "settings.html"].text
    assert "train.head.dropout" in settings
    assert "preprocess.limits.archive_ratio" in settings


@pytest.mark.slow
def test_the_reference_has_what_a_program_may_rely_on(pages: dict[Path, Page], site: Path) -> None:
    ids = pages[site / "reference" / "python.html"].ids
    assert {
        "dfpipe.Detector.load",
        "dfpipe.Detector.judge",
        "dfpipe.Detector.judge_all",
        "dfpipe.Detector.judge_frames",
    } <= ids
    assert {
        "dfpipe.types.Verdict",
        "dfpipe.types.State",
        "dfpipe.errors.ModelFileError",
        "dfpipe.config.load_config",
    } <= ids


BROKEN = {  # what is written -> what is said of it
    "[a](nowhere.md)": "nowhere.md",
    "[b](training.md#no-such-heading)": "no-such-heading",
    "[c](../train/nowhere.py)": "train/nowhere.py is not in the repository",
    "[d](#nor-here)": "nor-here",
    "[e](../README.md#not-there)": "README.md has no heading #not-there",
    "[f](../CHANGELOG.md#not-there)": "local id not found",
    "[h](glossary.md#term-never-heard-of)": "never heard of",
    "{term}`nobody says so`": "nobody says so",
    "![g](pictures/nowhere.png)": "pictures/nowhere.png",
}


@pytest.mark.slow
def test_what_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(
        ROOT, copy, ignore=shutil.ignore_patterns(".*", "site", "build", "*.safetensors", "tests", "__pycache__")
    )
    page = copy / "docs" / "verdicts.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n\n" + "\n\n".join(BROKEN), encoding="utf-8")
    done = build(copy / "docs", tmp_path / "out")
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert [what for what in BROKEN.values() if not any(what in line for line in said)] == []
    assert len(said) == len(BROKEN)


# ---- what is made from the code ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["commands", "settings", "recipes", "tables", "imports"])
def test_the_same_code_gives_the_same_text(name: str) -> None:
    assert GENERATED[name]() == GENERATED[name]()


def test_every_setting_is_explained() -> None:
    classes = [c for c in vars(config).values() if isinstance(c, type) and dataclasses.is_dataclass(c)]
    assert len(classes) >= 7
    for cls in classes:
        told = fields.comments_of(cls)
        assert list(told) == [field.name for field in dataclasses.fields(cls)]
        nested = {f.name for f in dataclasses.fields(cls) if "Config" in str(f.type) and "tuple" not in str(f.type)}
        assert [name for name, comment in told.items() if not comment and name not in nested] == [], cls.__name__


def test_what_stands_in_a_help_text_is_not_taken_for_markdown() -> None:
    assert words.prose("a/**/*.mov or <b> [x](y) under_score") == r"a/\*\*/\*.mov or \<b\> \[x\](y) under\_score"
    assert words.prose("see 'dfpipe infer' and --out") == "see `dfpipe infer` and `--out`"
    assert words.code("NAME|FILE") == r"`NAME\|FILE`"


def test_links_of_a_page_from_the_root_lead_a_folder_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "A.md").write_text("[a](B.md#c) [d](https://e.f) [g](#h)", encoding="utf-8")
    monkeypatch.setattr(links, "DOCS", tmp_path / "docs")
    assert links.page("../A.md") == "[a](../B.md#c) [d](https://e.f) [g](#h)"


# ---- the picture of imports ----------------------------------------------------------------------------------------------


def test_the_picture_divides_the_trunk_as_the_test_of_the_architecture_does() -> None:
    held = runpy.run_path(str(ROOT / "tests" / "test_architecture.py"))
    told = {name.split(".")[1]: imports.room_of(name) for name in imports.modules() if name.count(".") == 1}
    assert {name for name, room in told.items() if room == "words"} == held["WORDS"]
    assert {name for name, room in told.items() if room == "doors"} == held["DOORS"] - {"__main__"}


def test_every_import_of_the_picture_leads_back() -> None:
    found, loaded = imports.edges(), imports.edges(anywhere=False)
    place = {name: i for i, name in enumerate(imports.in_order(loaded))}
    assert set(place) == set(imports.modules())
    assert len(found) > len(loaded) > 300
    assert [(a, b) for a, b in loaded if place[b] >= place[a]] == []
    rooms = {name: imports.ROOMS.index(imports.room_of(name)) for name in place}
    assert [(a, b) for a, b in found if rooms[b] > rooms[a]] == []


def test_an_import_is_found_however_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "import dfpipe.files\nfrom dfpipe import names, config as c\nfrom dfpipe.train.loop import train\n"
        "def f():\n    from dfpipe.names import printable\nimport os\n"
    )
    found = imports.imports_of(file, imports.modules())
    assert found == {"dfpipe.files": 1, "dfpipe.names": 2, "dfpipe.config": 1, "dfpipe.train.loop": 1}
    assert imports.imports_of(file, imports.modules(), anywhere=False)["dfpipe.names"] == 1


def test_the_drawings_are_sound_and_complete() -> None:
    found = imports.edges()
    bows, matrix = (ElementTree.fromstring(draw(found)) for draw in (imports.bows, imports.matrix))
    names = [text.text for text in bows.iter("text") if text.get("class") == "name"]
    assert names == list(imports.ROOMS)
    counts = sum(int(text.text or 0) for text in bows.iter("text") if text.get("class") == "count")
    assert counts == sum(n for (a, b), n in found.items() if imports.room_of(a) != imports.room_of(b))
    assert sum("dot" in rect.get("class", "").split() for rect in matrix.iter("rect")) == len(found)


# ---- pages that must keep up with the code -------------------------------------------------------------------------------


READ = {"layouts.py: List_of_testing_videos.txt", "page.py: base.html"}  # of a publisher, and a template: only read


def file_names() -> Iterator[tuple[Path, str]]:
    """Names of files that modules keep as constants: what they write, or read of what was written."""
    for path in imports.modules().values():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and all(isinstance(t, ast.Name | ast.Tuple) for t in node.targets):
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                for value in values:
                    if isinstance(value, ast.Constant) and re.fullmatch(r"[\w.]+\.[a-z]{2,11}", str(value.value)):
                        yield path, value.value


def test_every_file_that_is_written_is_told() -> None:
    text = (ROOT / "docs" / "folders.md").read_text(encoding="utf-8")
    known = list(file_names())
    assert {"manifest.parquet", "run.json", "verdicts.jsonl", "scores.parquet"} <= {name for _, name in known}
    assert {f"{path.name}: {name}" for path, name in known if name not in text} == READ


def test_every_module_stands_in_the_table_of_rooms() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for folder, package in imports.FOLDERS.items():
        (row,) = re.findall(rf"^\| {folder} \| {package} \| (.*) \|$", text, re.M)
        stems = {path.stem for path in imports.modules().values() if path.parent.name == folder}
        assert stems - set(re.findall(r"\w+", row)) == set(), f"{folder}: not named in docs/architecture.md"
