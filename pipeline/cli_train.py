"""Commands that make models."""

import json
import shlex
from pathlib import Path
from typing import Any

import click

from dfpipe.flags import DATA, PATH, RUNS, device_flag, json_flag, settings, voice


@click.command()
@click.argument("name", required=False)
@json_flag
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes for training, or show one with where it comes from.

    A recipe is a file of settings: what it does not set stays as in `default`.

    \b
    Example:
      dfpipe recipes
      dfpipe recipes resnet50_two_phase
    """
    from dfpipe.config import about, load_config, to_mapping, to_yaml
    from dfpipe.config import recipes as known

    if name is None:
        told = {each: about(each)[0] for each in known()}
        width = max(map(len, told))
        click.echo(json.dumps(told) if as_json else "\n".join(f"{k:<{width}}  {v}" for k, v in told.items()))
        return
    config = load_config(name)
    if as_json:
        click.echo(json.dumps({"name": name, "about": " ".join(about(name)), "train": to_mapping(config.train)}))
        return
    click.echo("\n".join([*about(name), "", to_yaml(config.train)]))


def _epochs(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    """Turns "1,3,5" into (1, 3, 5)."""
    words = [word.strip() for word in value.split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) for word in words):
        raise click.BadParameter(f"{value!r} is no list of epochs from 1, as 1,3,5,8", ctx, param)
    return tuple(map(int, words))


@click.command()
@click.option("--data", type=PATH, default=DATA, show_default=True, help="Folder that 'dfpipe extract' wrote.")
@click.option("--out", type=PATH, default=RUNS, show_default=True, help="The run gets a folder of its own in it.")
@click.option(
    "--resume", type=PATH, metavar="RUN", help="Go on with a run that was killed; its config and data are used."
)
@click.option(
    "--keep-epochs", callback=_epochs, default="", metavar="LIST", help="Keep the models of these epochs too."
)
@click.option("--show-batch", type=PATH, metavar="PNG", help="Only draw what the network will see, and stop.")
@device_flag
@json_flag
@voice
@settings
def train(
    data: Path,
    out: Path,
    resume: Path | None,
    keep_epochs: tuple[int, ...],
    show_batch: Path | None,
    device: str,
    as_json: bool,
    config: Any,
    recipe: str,
) -> None:
    """Fit a model to extracted faces, and keep the epoch that validates best.

    Needs crops with both labels in the splits train and validation. The test
    split is not touched. On several GPUs of one machine:
    torchrun --nproc_per_node=4 -m dfpipe train ...

    \b
    Example:
      dfpipe train --data data/faces --config resnet50_ce --set train.epochs=3
    """
    from dfpipe.train import loop

    _check_resume(resume)
    if keep_epochs:
        config = config.with_train(keep_epochs=keep_epochs)
    if show_batch is not None:
        loop.show(config, data, show_batch)
        click.echo(f"picture: {show_batch}")
        return
    done = loop.resume(resume, device) if resume else loop.train(config, data, out, recipe, device)
    if loop.first_process():
        click.echo(json.dumps(_train_json(done)) if as_json else _train_text(done, out))


def _check_resume(resume: Path | None) -> None:
    """A resumed run goes on as it was: what would change it is refused, not ignored."""
    context = click.get_current_context()
    changing = ("recipe", "overrides", "seed", "data", "out", "keep_epochs")
    given = [name for name in changing if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if resume is not None and given:
        raise click.UsageError(
            "--resume takes config and data from the run: leave --config, --set, --seed, --data, --out, "
            "and --keep-epochs out"
        )


def _train_json(done: Any) -> dict[str, Any]:
    return {
        "model": str(done.model),
        "best_epoch": done.best_epoch,
        "epochs": done.epochs,
        "validation": done.validation,
        "seconds": round(done.seconds, 1),
    }


def _train_text(done: Any, out: Path) -> str:
    from dfpipe.train.fit import shown

    auc, loss = shown(done.validation["auc"]), shown(done.validation["log_loss"])
    name = "" if out == RUNS and done.model.parent.parent == RUNS else f" --model {shlex.quote(str(done.model))}"
    return "\n".join(
        [
            f"validation AUC {auc}, log loss {loss} in epoch {done.best_epoch} of {done.epochs}, {done.seconds:.0f} s",
            f"model: {done.model}",
            f"next:  dfpipe infer clip.mp4{name}",
        ]
    )


COMMANDS = (recipes, train)
