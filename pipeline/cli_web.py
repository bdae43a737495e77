"""The command that opens the second door."""

import os
from pathlib import Path
from typing import Any

import click

from dfpipe.errors import UsageError, reason_of
from dfpipe.flags import DIR, FILE, Number, Whole, device_flag, frames_flag, settings, voice

SERVICE = Path("data/service")
KEY_VARIABLE = "DFPIPE_API_KEY"
MB = 1_000_000


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="NAME", help="Address to listen on.")
@click.option("--port", type=Whole(0, 65535), default=8000, show_default=True, help="Port to listen on; 0 = any free.")
@click.option(
    "--out",
    "--data",
    "data",
    type=DIR,
    default=SERVICE,
    show_default=True,
    help="Folder to write: jobs, uploads, reports.",
)
@click.option("--model", type=FILE, show_default="newest under runs/, else the one that ships", help="Model file.")
@frames_flag
@click.option("--queue", type=Whole(1), default=8, show_default=True, help="Files that may wait.")
@click.option(
    "--keep-days",
    type=Number(0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="Time for which a job, its file and its report are kept.",
)
@click.option("--max-mb", type=Whole(1), default=200, show_default=True, metavar="MB", help="Size of a file at most.")
@click.option(
    "--min-free-mb",
    type=Whole(0),
    default=1000,
    show_default=True,
    metavar="MB",
    help="Space on the disk to leave free.",
)
@click.option(
    "--patience",
    type=Number(0.1),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for which an upload may pause.",
)
@click.option(
    "--key-file", type=FILE, show_default=f"the variable {KEY_VARIABLE}, else none", help="File with the API key."
)
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME", help="Name of this machine for a proxy; can be repeated."
)
@click.option("--insecure", is_flag=True, help="Listen for other machines without a key.")
@settings
@device_flag
@voice
def serve(**flags: Any) -> None:
    """Open a web page and a REST API on which files are judged.

    Listens on this machine only, unless told otherwise. Jobs survive a restart.
    With a key in the environment variable DFPIPE_API_KEY, or in --key-file,
    every request must bring it; without one, other machines are not let in.

    \b
    Example:
      dfpipe serve --port 8000 --out data/service
    """
    from dfpipe.extras import need
    from dfpipe.signals import as_usual
    from dfpipe.web.settings import Settings

    need("serve", "web", ["fastapi", "uvicorn", "python_multipart"])
    as_usual()
    told = Settings(
        data=flags["data"],
        host=flags["host"],
        port=flags["port"],
        model=flags["model"],
        device=flags["device"],
        frames=flags["frames"],
        config=flags["config"],
        queue=flags["queue"],
        keep_days=flags["keep_days"],
        max_bytes=flags["max_mb"] * MB,
        min_free_bytes=flags["min_free_mb"] * MB,
        chunk_seconds=flags["patience"],
        key=_key(flags["key_file"]),
        hosts=flags["hosts"],
        insecure=flags["insecure"],
    )
    from dfpipe.web.server import serve as run

    run(told, click.echo)


def _key(file: Path | None) -> str | None:
    """The API key, if there is one. Not a flag: what is on a command line, every user of the machine can read."""
    if file is None:
        return os.environ.get(KEY_VARIABLE, "").strip() or None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"key file {file} cannot be read: {reason_of(error)}") from error
    if not key:
        raise UsageError(f"key file {file} is empty: write the key into it")
    return key


COMMANDS = (serve,)
