"""Commands that make models."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import click

from dfpipe.flags import (
    DATA,
    DIR,
    FILE,
    RUNS,
    Whole,
    complete_recipes,
    data,
    device_flag,
    faces_here,
    json_flag,
    out,
    settings,
    voice,
)


@click.command()
@click.argument("name", required=False, shell_complete=complete_recipes)
@json_flag
@voice
def recipes(name: str | None, as_json: bool) -> None:
    """List the recipes for training, or show one and its origin.

    A recipe is a file of settings: what it does not set stays as in the recipe
    called default. Writes no file.

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
@data()
@out(RUNS, "each run makes a folder of its own in it")
@click.option("--resume", type=DIR, help="Go on with this run, with its own config and data.")
@click.option(
    "--keep-epochs", callback=_epochs, default="", metavar="N,...", help="Keep the models of these epochs too."
)
@click.option(
    "--start-from",
    metavar="MODEL",
    help="Begin with the weights of this model file (fine-tuning); 'embedded' is the one that ships.",
)
@click.option("--show-batch", type=FILE, help="Only draw what the network will see, into this PNG.")
@settings
@device_flag
@json_flag
@voice
@faces_here
def train(
    data: Path,
    out: Path,
    resume: Path | None,
    keep_epochs: tuple[int, ...],
    start_from: str | None,
    show_batch: Path | None,
    device: str,
    as_json: bool,
    config: Any,
    recipe: str,
) -> None:
    """Fit a model to extracted faces, and keep its best epoch.

    Needs crops of both labels in the split train. The split validation says
    which epoch is best, and how good the model is if it has both, too. The test
    split is not touched. The run's folder holds model.safetensors, the config,
    a log and curves.

    \b
    On several GPUs of one machine:
      torchrun --nproc_per_node=4 -m dfpipe train ...

    \b
    Example:
      dfpipe train --data data/faces --config resnet50_ce --set train.epochs=3
      dfpipe train --data s3://media/packed
      dfpipe train --data data/faces --start-from embedded
    """
    from dfpipe.train import loop

    _check_resume(resume, "keep_epochs", "start_from")
    if start_from:
        config = config.with_train(start_from=_model_file(start_from))
    if keep_epochs:
        config = config.with_train(keep_epochs=keep_epochs)
    if show_batch is not None:
        loop.show(config, data, show_batch)
        click.echo(f"picture: {show_batch}")
        return
    done = loop.resume(resume, device) if resume else loop.train(config, data, out, recipe, device)
    if loop.first_process():
        click.echo(json.dumps(_train_json(done)) if as_json else _train_text(done, out))


def _model_file(named: str) -> str:
    """The file that --start-from names, found from any folder when the run is resumed."""
    from dfpipe.infer.embedded import embedded_model

    path = embedded_model() if named == "embedded" else Path(named).absolute()
    if path is None:
        raise click.UsageError("this install has no embedded model: name a model file with --start-from")
    return str(path)


def _check_resume(resume: Path | None, *more: str) -> None:
    """A resumed run goes on as it was: what would change it is refused, not ignored. `more` are flags of the command."""
    context = click.get_current_context()
    changing = {"recipe": "--config", "overrides": "--set", "seed": "--seed", "data": "--data", "out": "--out"}
    changing |= {name: "--" + name.replace("_", "-") for name in more}
    given = [name for name in changing if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    if resume is not None and given:
        raise click.UsageError(f"--resume takes config and data from the run: leave out {', '.join(changing.values())}")


def _train_json(done: Any) -> dict[str, Any]:
    return {
        "model": str(done.model),
        "best_epoch": done.best_epoch,
        "epochs": done.epochs,
        "validation": done.validation,
        "seconds": round(done.seconds, 1),
    }


def _train_text(done: Any, out: Path) -> str:
    from dfpipe.train.validate import shown

    auc, loss = shown(done.validation["auc"]), shown(done.validation["log_loss"])
    name = "" if out == RUNS and done.model.parent.parent == RUNS else f" --model {shlex.quote(str(done.model))}"
    return "\n".join(
        [
            f"validation AUC {auc}, log loss {loss} in epoch {done.best_epoch} of {done.epochs}, {done.seconds:.0f} s",
            f"model: {done.model}",
            f"next: dfpipe calibrate {shlex.quote(str(done.model))}   # its threshold and band are conventions until then",
            f"then: dfpipe infer clip.mp4{name}",
        ]
    )


@click.command()
@data()
@out(RUNS, "each run makes a folder of its own in it")
@click.option("--folds", type=Whole(2), default=3, show_default=True, help="Folds to divide the sources into.")
@click.option("--resume", type=DIR, help="Go on with this run; finished folds stay.")
@settings
@device_flag
@json_flag
@voice
@faces_here
def crossval(
    data: Path, out: Path, folds: int, resume: Path | None, device: str, as_json: bool, config: Any, recipe: str
) -> None:
    """Train and score a recipe K times, each without one fold.

    Divides the splits train and validation by source into K folds; the test
    split stays untouched. Each fold is scored once, at the end, by the model
    trained on the others: its best epoch is chosen on a tenth of their sources,
    never on the fold that is scored.

    \b
    Example:
      dfpipe crossval --config kfold_resnet50 --folds 3
    """
    from dfpipe.train import crossval as room
    from dfpipe.train.foldreport import text

    _check_alone()
    _check_resume(resume, "folds")
    done = room.resume(resume, device) if resume else room.crossval(config, data, out, folds, recipe, device)
    known = room.read_result(done)
    if as_json:
        click.echo(json.dumps(known))
        return
    click.echo("\n".join([*text(known), f"table: {done / room.TABLE}"]))
    click.echo(f"next: dfpipe train{_flags_of(known)}")


@click.command()
@data()
@click.option(
    "--out", type=DIR, show_default="runs/tune-RECIPE", help="Folder to write: the study, which goes on there."
)
@click.option("--trials", type=Whole(1), required=True, help="Trials in all; a study goes on to reach them.")
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="KEY=RANGE",
    show_default="train.learning_rate=1e-5..1e-2:log",
    help="Setting to search; can be repeated.",
)
@settings
@device_flag
@json_flag
@voice
@faces_here
def tune(
    data: Path,
    out: Path | None,
    trials: int,
    params: tuple[str, ...],
    device: str,
    as_json: bool,
    config: Any,
    recipe: str,
) -> None:
    """Search for better settings of a recipe, by validation.

    Trains with values that Optuna proposes, and ends early what does worse than
    the median. A range is LOW..HIGH, or LOW..HIGH:log; words are listed with
    commas. With the phases of train.stages, their learning rates move by one
    factor, and the largest is shown. Killed, the same command goes on.

    \b
    Example:
      dfpipe tune --config default --trials 20
      dfpipe tune --trials 30 --param train.learning_rate=1e-4..1e-2:log
                  --param train.augment=light,strong
    """
    from dfpipe.preprocess.mirror import source_of
    from dfpipe.train import tune as room
    from dfpipe.train.trialreport import text

    _check_alone()
    folder = out or RUNS / f"tune-{Path(recipe).stem}"
    done = room.tune(config, data, folder, trials, params, recipe, device)
    if as_json:
        click.echo(json.dumps({"config": str(done.config), "best": done.best, "trials": done.trials}))
        return
    click.echo("\n".join([*text(done.trials, done.keys, config.train.monitor), f"trials: {folder / room.TABLE}"]))
    known = {"recipe": str(done.config), "data": source_of(data.resolve())}
    click.echo(f"next: dfpipe train{_flags_of(known)}")


def _check_alone() -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise click.UsageError("several trainings, one after the other, run in one process: leave out torchrun")


def _flags_of(known: Any) -> str:
    """What a training needs to be the same as one of a cross-validation."""
    config = "" if known["recipe"] == "default" else f" --config {shlex.quote(known['recipe'])}"
    return config + ("" if known["data"] == str(DATA.resolve()) else f" --data {shlex.quote(known['data'])}")


COMMANDS = (recipes, train, crossval, tune)
