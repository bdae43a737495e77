"""Flags that mean the same in every command, and the folders that commands use unless told otherwise."""

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DATA, RUNS, VERDICTS, DEMO = Path("data/faces"), Path("runs"), Path("verdicts"), Path("data/demo")
PATH = click.Path(path_type=Path)


class _Place(click.ParamType[Any]):
    """A path, or a place in a store."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Tells the two apart."""
        from dfpipe.store import place

        return place(value) if isinstance(value, str) else value


PLACE = _Place()
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


def data_flag(what: str = "Folder that 'dfpipe extract' wrote.", otherwise: str = "") -> Callable[[F], F]:
    """--data: extracted faces here or in a store; arrives as `data`, see `faces_here`.

    Args:
        what: They are for.
        otherwise: What is taken where none are named, in words; `data` is then None. By default `DATA`.
    """
    return click.option(
        "--data",
        type=PLACE,
        metavar="DIR|URL",
        default=None if otherwise else str(DATA),
        help=f"{what} {COPIED}  [default: {otherwise or DATA}]",
    )


def settings(command: F) -> F:
    """--config, --set, --seed: arrive as one `config` and the recipe's name as `recipe`."""

    @click.option("--config", "recipe", default="default", metavar="NAME|FILE", help="Recipe by name, or a YAML file.")
    @click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="One setting, as train.epochs=3.")
    @click.option("--seed", type=int, help="Of everything random.  [default: from the recipe]")
    @functools.wraps(command)
    def wrapped(recipe: str, overrides: tuple[str, ...], seed: int | None, **rest: Any) -> Any:
        from dfpipe.config import load_config

        seeded = (*overrides, f"seed={seed}") if seed is not None else overrides
        return command(config=load_config(recipe, seeded), recipe=recipe, **rest)

    return wrapped  # type: ignore[return-value]


def running(command: F) -> F:
    """--workers, --engine, --address, --gpus-per-worker: arrive as `workers` and `engine`, see `dfpipe.workers.run_all`."""

    @click.option("--workers", type=click.IntRange(0), default=0, help="Processes; 0 = one per core.")
    @click.option(
        "--engine",
        default="local",
        metavar="NAME",
        help="local (killable processes), ray (such processes on every node of a Ray cluster; all nodes must see the inputs "
        "under the same path), or serial (for debugging).",
    )
    @click.option(
        "--address",
        metavar="HOST:PORT|auto",
        help="Of a Ray cluster that is there.  [default: RAY_ADDRESS, else one of its own on this machine]",
    )
    @click.option(
        "--gpus-per-worker",
        "gpus",
        type=click.FloatRange(0),
        metavar="SHARE",
        help="Of a GPU, reserved by each worker of --engine ray.  [default: 0]",
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


json_flag = click.option("--json", "as_json", is_flag=True, help="Machine-readable on stdout, all else on stderr.")
device_flag = click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...  [default: a GPU if there is one]")
