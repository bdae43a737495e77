"""What is written for people is true."""

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click
import pytest

from dfpipe.cli import main
from dfpipe.config import load_config
from dfpipe.errors import ConfigError

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def every_command(group: click.Group = main, above: str = "") -> dict[str, click.Command]:
    """All commands by their whole name, those of groups too."""
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        found[above + name] = command
        if isinstance(command, click.Group):
            found |= every_command(command, f"{above}{name} ")
    return found


def parse(words: list[str]) -> None:
    """Parses a command line without running it, down to the command of a group, and the settings that it names."""
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        name, *words = words
        assert name in command.commands, name
        command = command.commands[name]
    if words:  # else named in a sentence
        words = [re.sub(r"\$\w+", "1", word) for word in words]  # as a shell fills in a variable
        context = command.make_context(name, words, resilient_parsing=False)
        check_settings(context.params.get("overrides", ()))


def check_settings(told: Iterable[str]) -> None:
    """Every KEY=VALUE is one that a config takes; those that stand for others are written in capitals."""
    load_config("default", [text for text in told if not re.search(r"\bKEY=|=(NAME|VALUE)\b", text)])


@pytest.mark.parametrize("name", sorted(every_command()))
def test_every_command_has_help_with_an_example(name: str) -> None:
    command = every_command()[name]
    assert command.help
    assert "Example:" in command.help
    assert f"dfpipe {name}" in command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.name}"


def code_in(text: str) -> list[str]:
    """Every code block, whole, and everything in back-ticks, in one line."""
    blocks = re.findall(r"^ *```.*?\n(.*?)^ *```", text, re.S | re.M)
    blocks += re.findall(r"^(?: {4}.*\n)+", text, re.M)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)
    return blocks + [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", prose)]


def commands_in(text: str) -> list[list[str]]:
    """Every `dfpipe ...` in code blocks and back-ticks, as words; also what torchrun and srun start, and what comes next."""
    lines = "\n".join(code_in(text)).replace("\\\n", " ").replace("&& ", "\n")
    before = r"(?:\$ |next: +|srun |(?:\S+=\S+ +)*(?:torchrun|python) .*?-m )?"
    found = re.findall(rf"^\s*{before}dfpipe ([^\n#&|>;]*)", lines, re.M)
    return [shlex.split(line) for line in found if line]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_documented_command_parses(page: Path) -> None:
    for words in commands_in(page.read_text(encoding="utf-8")):
        if words[0].startswith("-"):
            continue
        parse(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_documented_setting_and_script_is_there(page: Path) -> None:
    code = "\n".join(code_in(page.read_text(encoding="utf-8")))
    check_settings(re.findall(r"(?:^|\s)--set ([\w.]+=[^\s\\]+)", code))
    for script in re.findall(r"\bpython ([\w/]+\.py)", code):
        assert (ROOT / script).is_file(), script


def targets() -> set[str]:
    """What `make` can make."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def made_in(code: list[str]) -> set[str]:
    """The targets that pieces of code name."""
    return set(re.findall(r"^\s*make ([a-z-]+)", "\n".join(code), re.M))


def test_every_documented_make_target_is_there() -> None:
    for page in PAGES:
        assert made_in(code_in(page.read_text(encoding="utf-8"))) <= targets(), page
    assert made_in([(ROOT / ".ci" / "run").read_text(encoding="utf-8")]) <= targets()
    assert made_in(["make demo", "make nothing-at-all"]) - targets() == {"nothing-at-all"}


def examples_in(text: str) -> list[list[str]]:
    """The commands in a help text, as words; a line that is indented more goes on with the one above."""
    joined = re.sub(r"\n {6,}(?! *dfpipe)", " ", inspect.cleandoc(text).replace("\n\n", "\n\f"))
    return [shlex.split(line) for line in re.findall(r"^ *(?:torchrun .* -m )?dfpipe (.*?)(?:  .*)?$", joined, re.M)]


@pytest.mark.parametrize("name", sorted(every_command()))
def test_every_example_in_a_help_text_parses(name: str) -> None:
    found = examples_in(every_command()[name].help or "")
    assert found
    for words in found:
        parse([word for word in words if word != "..."])


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in main.commands if f"dfpipe {name}" not in text]


@pytest.mark.parametrize(
    "words",
    [
        ["trian"],
        ["model", "shw", "x"],
        ["model", "export", "x"],
        ["train", "--epoch", "1"],
        ["train", "--set", "train.epoks=3"],
    ],
)
def test_a_wrong_command_in_a_page_would_be_seen(words: list[str]) -> None:
    with pytest.raises((AssertionError, click.UsageError, ConfigError)):
        parse(words)


def test_documented_commands_are_found_at_all() -> None:
    assert commands_in("```\n$ dfpipe infer a.mp4 --out x\n```") == [["infer", "a.mp4", "--out", "x"]]
    assert commands_in("`dfpipe\ntrain` or `torchrun --x=4 -m dfpipe train --seed 1`") == [
        ["train"],
        ["train", "--seed", "1"],
    ]
    assert commands_in("1. One:\n\n   ```sh\n   dfpipe serve \\\n      --port 1\n   ```\n") == [
        ["serve", "--port", "1"]
    ]
    assert examples_in("Do.\n\nExample:\n  dfpipe tune --a\n              --b\n  dfpipe x   why") == [
        ["tune", "--a", "--b"],
        ["x"],
    ]
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
