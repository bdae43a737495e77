"""What `--help` and the Tab key tell: the same flag is the same thing in every command."""

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from dfpipe.cli import main

WORKING = ["--config", "--set", "--seed", "--device", "--workers", "--engine", "--address", "--gpus-per-worker"]
LAST = [*WORKING, "--json", "--quiet", "--verbose"]  # in this order, after what a command has of its own
OTHERWISE = {"--out", "--data", "--model", "--folds", "--resume", "--split"}  # told by each command for itself
NO_RESULT = {"serve", "demo", "model card"}  # a service, a show, and Markdown


def leaves(group: click.Group = main, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands that do something, by their words."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*above, name))
        else:
            yield (*above, name), command


COMMANDS = dict(leaves())
every_command = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


def options(words: tuple[str, ...]) -> dict[str, click.Option]:
    found = [each for each in COMMANDS[words].params if isinstance(each, click.Option)]
    return {next(name for name in each.opts if name.startswith("--")): each for each in found}


def help_of(*words: str) -> str:
    result = CliRunner().invoke(main, [*words, "--help"], env={"COLUMNS": "80"}, prog_name="dfpipe")
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("words", [(), ("model",), *COMMANDS], ids=" ".join)
def test_help_fits_80_columns(words: tuple[str, ...]) -> None:
    assert max(map(len, help_of(*words).splitlines())) <= 80


@pytest.mark.parametrize("group", [(), ("model",)])
def test_lists_of_commands_are_not_cut(group: tuple[str, ...]) -> None:
    listed = help_of(*group).partition("Commands:\n")[2].partition("\n\n")[0]
    assert len(listed.splitlines()) > 3
    assert "..." not in listed


@every_command
def test_help_is_sentences_and_names_what_a_value_is(words: tuple[str, ...]) -> None:
    context = click.Context(COMMANDS[words], info_name="dfpipe")
    for name, option in options(words).items():
        told = option.help or ""
        assert told[:1].isupper(), name
        assert told.endswith("."), name
        assert "[default" not in told, f"{name}: its default is shown by click"
        metavar = "" if option.is_flag else option.make_metavar(context)
        assert metavar not in {"TEXT", "INTEGER", "FLOAT", "INTEGER RANGE", "FLOAT RANGE"}, name
        assert not option.multiple or "repeat" in told or name == "--redo", name


@every_command
def test_common_flags_come_last_and_in_one_order(words: tuple[str, ...]) -> None:
    known = list(options(words))
    common = [name for name in LAST if name in known]
    assert known[len(known) - len(common) :] == common
    assert {"--quiet", "--verbose"} <= set(common)
    assert "--json" in common or " ".join(words) in NO_RESULT


def test_a_flag_means_the_same_everywhere() -> None:
    told: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for words, command in COMMANDS.items():
        for name, option in options(words).items():
            told[name].add((option.help or "", option.make_metavar(click.Context(command))))
    assert {name for name, ways in told.items() if len(ways) > 1} <= OTHERWISE


@every_command
def test_out_says_what_it_is_and_what_comes_into_it(words: tuple[str, ...]) -> None:
    out = options(words).get("--out")
    if out is None:
        assert "Writes no file." in (COMMANDS[words].help or "")
    else:
        kind = out.make_metavar(click.Context(COMMANDS[words]))
        assert (
            (out.help or "").startswith("Folder to write: ") if "DIR" in kind else "file to write" in (out.help or "")
        )


def test_choices_are_those_of_the_rooms() -> None:
    from dfpipe.infer.calibration import METHODS
    from dfpipe.infer.degradations import DEGRADATIONS
    from dfpipe.infer.guards import LEAKS
    from dfpipe.infer.scoring import ALL
    from dfpipe.preprocess.splits import SPLITS
    from dfpipe.train.ensemble import ENSEMBLES
    from dfpipe.workers import ENGINES

    def choices(command: str, flag: str) -> set[str]:
        kind = options((command,))[flag].type
        assert isinstance(kind, click.Choice)
        return set(kind.choices)

    assert choices("calibrate", "--method") == set(METHODS)
    assert choices("evaluate", "--ensemble") == set(ENSEMBLES)
    assert choices("evaluate", "--leaks") == set(LEAKS)
    assert choices("evaluate", "--split") == {*SPLITS, ALL}
    assert choices("extract", "--engine") == {*ENGINES, "ray"}
    assert ", ".join(DEGRADATIONS) in (options(("stress",))["--only"].help or "")


def completed(typed: str) -> list[str]:
    """What a shell is told when Tab is pressed behind `typed`: kind and word."""
    words = typed.split()
    position = len(words) if typed.endswith(" ") else len(words) - 1
    asked = {"_DFPIPE_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(position)}
    told = subprocess.run(
        [sys.executable, "-c", "from dfpipe.cli import main; main(prog_name='dfpipe')"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.split()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("dfpipe tra", ["plain,train"]),
        ("dfpipe model sh", ["plain,show"]),
        ("dfpipe train --show", ["plain,--show-batch"]),
        ("dfpipe train --config kfold_v", ["plain,kfold_vgg16", "plain,kfold_vit"]),
        ("dfpipe train --config my", ["file,my"]),
        ("dfpipe train --set train.ep", ["plain,train.epochs="]),
        ("dfpipe infer --engine s", ["plain,serial"]),
        ("dfpipe infer cl", ["file,cl"]),
        ("dfpipe infer --out ve", ["dir,ve"]),
        ("dfpipe extract --images cr", ["file,cr"]),
        ("dfpipe merge sh", ["dir,sh"]),
        ("dfpipe model show ru", ["file,ru"]),
        ("dfpipe recipes res", [f"plain,resnet50_{kind}" for kind in ("ce", "end_to_end", "frozen", "two_phase")]),
    ],
)
def test_tab(typed: str, expected: list[str]) -> None:
    assert completed(typed) == expected


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_tab_in_bash(tmp_path: Path) -> None:
    """The line that help tells, in a shell, and what its function then finds."""
    line = next(line for line in help_of().splitlines() if "Tab completion" in line).partition(": ")[2]
    (tmp_path / "dfpipe").write_text(
        f"#!{sys.executable}\nfrom dfpipe.cli import main\nmain(prog_name='dfpipe')\n", encoding="utf-8"
    )
    (tmp_path / "dfpipe").chmod(0o755)
    script = f'{line}\nCOMP_WORDS=(dfpipe cali); COMP_CWORD=1\n_dfpipe_completion dfpipe\necho "${{COMPREPLY[@]}}"'
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["calibrate"]
