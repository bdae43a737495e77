"""Commands about the install itself."""

from pathlib import Path

import click

from dfpipe.errors import DfpipeError
from dfpipe.flags import DEMO, PATH, voice


@click.command()
@click.option("--out", type=PATH, default=DEMO, show_default=True, help="Clips, faces, model and verdicts.")
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
@voice
def doctor(selftest: bool) -> None:
    """Check whether this install can do the main job, and safely.

    \b
    Example:
      dfpipe doctor --selftest
    """
    from dfpipe import doctor as room

    checks = [*room.examine(click.echo), *([room.selftest(click.echo)] if selftest else [])]
    failed = [check for check in checks if not check.passed]
    if failed:
        raise DfpipeError(f"this install is not sound: {', '.join(check.name for check in failed)} failed")
    click.echo("the main job can run here")


COMMANDS = (demo, doctor)
