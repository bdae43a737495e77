"""Commands about the install itself."""

import dataclasses
import json
from pathlib import Path

import click

from dfpipe.errors import DfpipeError
from dfpipe.flags import DEMO, json_flag, out, voice


@click.command()
@out(DEMO, "clips, faces, a model, verdicts")
@voice
def demo(out: Path) -> None:
    """Do the whole job on made-up clips: extract, train, infer. Needs no data.

    \b
    Example:
      dfpipe demo --out data/demo
    """
    from dfpipe.demo import run

    run(out, click.echo)


@click.command()
@click.option("--selftest", is_flag=True, help="Also judge two made clips and compare with the stored answers.")
@json_flag
@voice
def doctor(selftest: bool, as_json: bool) -> None:
    """Check whether this install can do the main job, and safely.

    Writes no file.

    \b
    Example:
      dfpipe doctor --selftest
    """
    from dfpipe import doctor as room

    def say(line: str) -> None:
        click.echo(line, err=as_json)

    checks = [*room.examine(say), *([room.selftest(say)] if selftest else [])]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(check) for check in checks]))
    failed = [check for check in checks if not check.passed]
    if failed:
        raise DfpipeError(f"this install is not sound: {', '.join(check.name for check in failed)} failed")
    say("the main job can run here")


COMMANDS = (demo, doctor)
