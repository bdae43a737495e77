"""Flags that mean the same in every command, and the folders that commands use unless told otherwise.

How a flag tells of itself: its help is a sentence; its value is called DIR, FILE, N or what it counts; a default is shown
by click, in parentheses where it is no fixed value or stands for a flag that is not there; what can be repeated says so.
"""

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])

DATA, RUNS, VERDICTS, DEMO = Path("data/faces"), Path("runs"), Path("verdicts"), Path("data/demo")


class Whole(click.IntRange):
    """A whole number, called N."""

    name = "whole number"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """What stands for it in help."""
        return "N"


class Number(click.FloatRange):
    """A number; the flag says of what."""

    name = "number"


class _Typed(click.ParamType[Any]):
    """Something on a disk: `name` is what help calls it, `completed` what a shell offers ("file": folders too)."""

    def __init__(self, name: str, completed: str = "file", convert: Callable[[str], Any] = Path) -> None:
        self.name, self._completed, self._convert = name, completed, convert

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What the command gets of a text that was typed."""
        return self._convert(value) if isinstance(value, str) else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Leaves it to the shell."""
        return [CompletionItem(incomplete, type=self._completed)]


def _place(text: str) -> Any:
    """A path, or a place in a store."""
    from dfpipe.store import place

    return place(text)


FILE, DIR, PATH = _Typed("file"), _Typed("dir", "dir"), _Typed("path")
PLACE, PLACES = _Typed("dir|url", "dir", _place), _Typed("path|url", "file", _place)  # a folder to write; what is read
MEDIA = _Typed("path", convert=str)  # also a pattern, a URL, or a list of paths


def complete_recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of recipes; where none begins so, files."""
    from dfpipe.config import recipes

    found = [CompletionItem(name) for name in recipes() if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def _complete_settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from dfpipe.config import setting_names

    return [CompletionItem(f"{name}=") for name in setting_names() if name.startswith(incomplete)]


COPIED = "A place in a store (s3://bucket/faces) is copied first, to ~/.cache/dfpipe or the folder in DFPIPE_CACHE."


def faces_here(command: F) -> F:
    """A place in a store that comes as `data` goes on as the folder here to which its faces are copied.

    Next to the command, so that nothing is copied before all else that was typed is understood.
    """

    @functools.wraps(command)
    def wrapped(data: Any, **rest: Any) -> Any:
        from dfpipe.store import Url

        if not isinstance(data, Url):
            return command(data=data, **rest)
        from dfpipe.preprocess.mirror import here

        with here(data) as folder:
            return command(data=folder, **rest)

    return wrapped  # type: ignore[return-value]


def data(what: str = "Folder that 'dfpipe extract' wrote.", otherwise: str = "") -> Callable[[F], F]:
    """--data: extracted faces here or in a store; arrives as `data`, see `faces_here`.

    Args:
        what: They are for.
        otherwise: What is taken where none are named, in words; `data` is then None. By default `DATA`.
    """
    return click.option(
        "--data",
        type=PLACES,
        default=None if otherwise else str(DATA),
        show_default=otherwise or True,
        help=f"{what} {COPIED}",
    )


def settings(command: F) -> F:
    """--config, --set, --seed: arrive as one `config` and the recipe's name as `recipe`."""

    @click.option(
        "--config",
        "recipe",
        default="default",
        show_default=True,
        metavar="NAME|FILE",
        shell_complete=complete_recipes,
        help="Recipe by name, or a YAML file.",
    )
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=_complete_settings,
        help="One setting, as train.epochs=3; can be repeated.",
    )
    @click.option("--seed", type=Whole(0), show_default="from the recipe", help="Seed of everything random.")
    @functools.wraps(command)
    def wrapped(recipe: str, overrides: tuple[str, ...], seed: int | None, **rest: Any) -> Any:
        from dfpipe.config import load_config

        seeded = (*overrides, f"seed={seed}") if seed is not None else overrides
        return command(config=load_config(recipe, seeded), recipe=recipe, **rest)

    return wrapped  # type: ignore[return-value]


def running(command: F) -> F:
    """--workers, --engine, --address, --gpus-per-worker: arrive as `workers` and `engine`, see `dfpipe.workers.run_all`."""

    @click.option(
        "--workers",
        type=Whole(0),
        default=0,
        show_default=True,
        help="Processes that work at a time; 0 = one per core.",
    )
    @click.option(
        "--engine",
        type=click.Choice(["local", "ray", "serial"]),
        default="local",
        show_default=True,
        help="What works: local (killable processes), ray (such processes on every node of a Ray cluster; all nodes must "
        "see the inputs under the same path), or serial (this process, for debugging).",
    )
    @click.option(
        "--address",
        metavar="HOST:PORT|auto",
        show_default="RAY_ADDRESS, else a cluster of its own on this machine",
        help="Ray cluster to join, with --engine ray.",
    )
    @click.option(
        "--gpus-per-worker",
        "gpus",
        type=Number(0),
        metavar="SHARE",
        show_default="0",
        help="Share of a GPU that each worker reserves, with --engine ray.",
    )
    @functools.wraps(command)
    def wrapped(engine: str, address: str | None, gpus: float | None, **rest: Any) -> Any:
        return command(engine=_engine(engine, address, gpus), **rest)

    return wrapped  # type: ignore[return-value]


def _engine(name: str, address: str | None, gpus: float | None) -> Any:
    from dfpipe.errors import UsageError
    from dfpipe.rayengine import Cluster

    if name == "ray":
        return Cluster(address, gpus or 0.0)
    if address is not None or gpus is not None:
        raise UsageError("--address and --gpus-per-worker belong to --engine ray")
    return name


def voice(command: F) -> F:
    """-q, -v: how much goes to stderr."""

    @click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors on stderr.")
    @click.option("-v", "--verbose", is_flag=True, help="More on stderr.")
    @functools.wraps(command)
    def wrapped(quiet: bool, verbose: bool, **rest: Any) -> Any:
        level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
        log = logging.getLogger("dfpipe")
        log.setLevel(level)
        log.handlers = [_BarHandler()]
        log.propagate = False
        return command(**rest)

    return wrapped  # type: ignore[return-value]


class _BarHandler(logging.Handler):
    """Log lines on stderr that do not tear a progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        from tqdm import tqdm

        from dfpipe.names import printable

        tqdm.write(printable(self.format(record)), file=sys.stderr)


def states(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Turns `--redo no_face,timeout --redo crashed` into its three states."""
    from dfpipe.ledger import check_states

    found = tuple(word.strip() for value in values for word in value.split(",") if word.strip())
    check_states(found)
    return found


def out(place: Path, what: str, stores: bool = False) -> Callable[[F], F]:
    """--out, a folder that is written, perhaps in a store: what comes into it."""
    kind = PLACE if stores else DIR
    return click.option("--out", type=kind, default=str(place), show_default=True, help=f"Folder to write: {what}.")


json_flag = click.option("--json", "as_json", is_flag=True, help="Machine-readable on stdout, all else on stderr.")
device_flag = click.option(
    "--device",
    default="auto",
    show_default="a GPU if there is one",
    metavar="NAME",
    help="Where networks run: cpu, cuda, cuda:1.",
)
limit_flag = click.option(
    "--limit", type=Whole(0), default=0, show_default=True, help="Inputs at most, spread evenly; 0 = all."
)
redo_flag = click.option(
    "--redo",
    multiple=True,
    callback=states,
    metavar="STATE,...",
    help="Work again on inputs that ended so, as no_face,timeout.",
)
frames_flag = click.option("--frames", type=Whole(1), show_default="as in training", help="Frames looked at in a clip.")
