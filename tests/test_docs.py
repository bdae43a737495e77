"""What is written for people is true."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from dfpipe.cli import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def every_command(group: click.Group = main, above: str = "") -> dict[str, click.Command]:
    """All commands by their whole name, those of groups too."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found[above + name] = command
        if isinstance(command, click.Group):
            found |= every_command(command, f"{above}{name} ")
    return found


def parse(words: list[str]) -> None:
    """Parses a command line without running it, down to the command of a group."""
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        name, *words = words
        assert name in command.commands, name
        command = command.commands[name]
    if words:  # else named in a sentence
        command.make_context(name, words, resilient_parsing=False)


@pytest.mark.parametrize("name", sorted(every_command()))
def test_every_command_has_help_with_an_example(name: str) -> None:
    command = every_command()[name]
    assert command.help
    assert "Example:" in command.help
    assert f"dfpipe {name}" in command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.name}"


def commands_in(text: str) -> list[list[str]]:
    """Every `dfpipe ...` in code blocks and back-ticks, as words."""
    blocks = re.findall(r"```.*?\n(.*?)```", text, re.S) + re.findall(r"`([^`\n]+)`", text)
    found = re.findall(r"^\s*(?:\$ )?(dfpipe [^\n#&|]*)", "\n".join(blocks).replace("&& dfpipe", "\ndfpipe"), re.M)
    return [shlex.split(line)[1:] for line in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_documented_command_parses(page: Path) -> None:
    for words in commands_in(page.read_text(encoding="utf-8")):
        if words[0].startswith("-"):
            continue
        parse(words)


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in main.commands if f"dfpipe {name}" not in text]


@pytest.mark.parametrize(
    "words", [["trian"], ["model", "shw", "x"], ["model", "export", "x"], ["train", "--epoch", "1"]]
)
def test_a_wrong_command_in_a_page_would_be_seen(words: list[str]) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        parse(words)


def test_documented_commands_are_found_at_all() -> None:
    assert commands_in("```\n$ dfpipe infer a.mp4 --out x\n```") == [["infer", "a.mp4", "--out", "x"]]
    assert len(commands_in((ROOT / "README.md").read_text(encoding="utf-8"))) > 5


@pytest.mark.parametrize(
    "words", [["--help"], ["extract", "--help"], ["serve", "--help"], ["infer", "-h"], ["--version"]]
)
def test_help_does_not_import_torch(words: list[str]) -> None:
    code = (
        "import sys; from dfpipe.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit as e: assert not e.code\n"
        "heavy = {'torch', 'cv2', 'numpy', 'av', 'decord', 'pyarrow', 'fastapi', 'uvicorn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_relative_links_in_pages_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
