"""Commands that make models."""

import json
from pathlib import Path
from typing import Any

import click

from dfpipe.flags import DATA, PATH, RUNS, device_flag, json_flag, settings, voice


@click.command()
@click.option("--data", type=PATH, default=DATA, show_default=True, help="Folder that 'dfpipe extract' wrote.")
@click.option("--out", type=PATH, default=RUNS, show_default=True, help="The run gets a folder of its own in it.")
@device_flag
@json_flag
@voice
@settings
def train(data: Path, out: Path, device: str, as_json: bool, config: Any, recipe: str) -> None:
    """Fit a model to extracted faces, and keep the epoch that validates best.

    Needs crops with both labels in the splits train and validation. The test
    split is not touched.

    \b
    Example:
      dfpipe train --data data/faces --set train.epochs=3
    """
    from dfpipe.train.fit import shown
    from dfpipe.train.loop import train as run

    done = run(config, data, out, recipe, device)
    if as_json:
        values = {"model": str(done.model), "best_epoch": done.best_epoch, "validation": done.validation}
        click.echo(json.dumps(values))
        return
    auc, loss = shown(done.validation["auc"]), shown(done.validation["log_loss"])
    click.echo(
        f"validation AUC {auc}, log loss {loss} in epoch {done.best_epoch} of {done.epochs}, {done.seconds:.0f} s"
    )
    click.echo(f"model: {done.model}")
    click.echo(f"next:  dfpipe infer clip.mp4{'' if out == RUNS else f' --model {done.model}'}")


COMMANDS = (train,)
