"""Commands that measure models: evaluate, calibrate, stress."""

import json
from pathlib import Path
from typing import Any

import click

from dfpipe.flags import DATA, PATH, data_flag, device_flag, faces_here, json_flag, running, settings, voice

EVALUATION, STRESS = Path("evaluation"), Path("stress")
SPLIT = click.option(
    "--split", default="test", show_default=True, help="train, validation, test or all, of extracted faces."
)
ANY_CROPS = click.option("--any-crops", is_flag=True, help="Also crops cut otherwise than the model wants them.")
LEAKS = click.option(
    "--leaks",
    type=click.Choice(["refuse", "drop", "keep"]),
    default="refuse",
    show_default=True,
    help="What to do with inputs of sources that the model was trained on.",
)
RESAMPLES = click.option(
    "--resamples", type=click.IntRange(1), default=1000, show_default=True, help="Of the bootstrap."
)
LIMIT = click.option("--limit", type=click.IntRange(0), default=0, help="At most so many inputs, spread evenly.")
RECORD = click.option("--record", is_flag=True, help="Write the figures into the model file, for its model card.")


@click.command()
@click.argument("models", nargs=-1, type=PATH, metavar="[MODEL]...")
@data_flag("Extracted faces; clips and stills too if they are here.", str(DATA))
@click.option("--scores", type=PATH, metavar="FILE", help="Measure this table of scores again; needs no model.")
@click.option("--out", type=PATH, default=EVALUATION, show_default=True, help="Page, pictures, figures, scores.")
@SPLIT
@click.option("--ensemble", default="", metavar="HOW", help="All models as one too: mean-prob, mean-logit or stacked.")
@ANY_CROPS
@LEAKS
@RESAMPLES
@LIMIT
@RECORD
@device_flag
@running
@json_flag
@voice
@settings
@faces_here
def evaluate(
    models: tuple[Path, ...],
    data: Path | None,
    scores: Path | None,
    out: Path,
    split: str,
    ensemble: str,
    any_crops: bool,
    leaks: str,
    resamples: int,
    limit: int,
    record: bool,
    device: str,
    workers: int,
    engine: Any,
    as_json: bool,
    config: Any,
    recipe: str,
) -> None:
    """Measure model files, or folders of them, on labelled data.

    Frame, person and clip level, with 95 % intervals by bootstrap over source
    clips; one page, pictures, metrics.json, and scores.parquet, from which all
    can be computed again. What cannot be scored is counted, never guessed.

    \b
    Example:
      dfpipe evaluate runs/ --data data/faces --split test --out evaluation
      dfpipe evaluate --scores evaluation/scores.parquet --out again
    """
    from dfpipe.infer import evaluate as room
    from dfpipe.infer.summary import markdown

    if scores is not None:
        if models or data or ensemble or record:
            raise click.UsageError("--scores needs no model: leave out MODEL, --data, --ensemble and --record")
        done = room.evaluate_scores(scores, out, resamples, config.seed)
    else:
        detectors = _detectors(models, device, config)
        options = room.Options(split, resamples, any_crops, leaks, engine, workers, limit, ensemble)
        done = room.evaluate(detectors, data or DATA, out, config, options)
        if record:
            room.record_all(done, detectors)
    if as_json:
        click.echo(json.dumps(done.results))
        return
    _print_reports(done.results)
    click.echo(markdown(done.results))
    click.echo(f"page: {done.page}")


@click.command()
@click.argument("model", type=PATH, metavar="MODEL")
@data_flag()
@click.option("--split", default="validation", show_default=True, help="What to fit on; train and test are refused.")
@click.option("--out", type=PATH, metavar="FILE", help="Model file to write.  [default: MODEL itself]")
@click.option("--method", default="platt", show_default=True, help="platt, temperature or isotonic.")
@click.option(
    "--threshold",
    "rule",
    default="youden",
    show_default=True,
    metavar="RULE",
    help="youden, f1, fpr=SHARE or cost=RATIO.",
)
@click.option("--error", type=float, default=0.1, show_default=True, help="Share of wrong answers outside the band.")
@ANY_CROPS
@LEAKS
@device_flag
@json_flag
@voice
@settings
@faces_here
def calibrate(
    model: Path,
    data: Path,
    split: str,
    out: Path | None,
    method: str,
    rule: str,
    error: float,
    any_crops: bool,
    leaks: str,
    device: str,
    as_json: bool,
    config: Any,
    recipe: str,
) -> None:
    """Fit calibration, threshold and uncertain band, into the model file.

    Fitted to clips of the validation split; outside the band, on either side,
    at most --error of the answers are wrong there. cost=5 means that calling a
    real clip fake is five times as bad as missing a fake.

    \b
    Example:
      dfpipe calibrate runs/NAME/model.safetensors --threshold fpr=0.05
    """
    from dfpipe.infer.calibrate import calibrate as run
    from dfpipe.infer.detector import Detector, find_model
    from dfpipe.infer.page import figure, share

    path = find_model(model, model)
    detector = Detector.load(path, device, config.infer)
    done = run(
        detector,
        data,
        out or path,
        config,
        split=split,
        method=method,
        rule=rule,
        error_rate=error,
        any_crops=any_crops,
        leaks=leaks,
    )
    if as_json:
        told = {
            "model": str(done.model),
            "threshold": done.threshold,
            "band": done.band,
            "calibration": done.calibration,
        }
        click.echo(json.dumps(told))
        return
    before, after, on = (done.calibration[key] for key in ("before", "after", "fitted_on"))
    click.echo(f"fitted to {on['clips']} clips ({on['real']} real, {on['fake']} fake), split {on['split']}")
    for name in ("log_loss", "brier", "ece"):
        click.echo(f"{name:<9} {figure(before[name])} -> {figure(after[name])} on these clips")
    click.echo(f"threshold {done.threshold:.3f} ({rule}), band {done.band[0]:.3f} to {done.band[1]:.3f}")
    outside = done.calibration["outside"]
    click.echo(
        f"outside the band: {outside['wrong']} of {outside['decided']} answers wrong ({share(outside['error'])})"
    )
    click.echo(f"model: {done.model}")


@click.command()
@click.argument("model", type=PATH, metavar="MODEL")
@data_flag("Extracted faces; clips and stills too if they are here.")
@click.option("--out", type=PATH, default=STRESS, show_default=True, help="Page, charts, figures, scores.")
@SPLIT
@click.option("--only", default="", metavar="NAMES", help="Some of crf,downscale,blur,jpeg,noise,dark,bright,fps.")
@ANY_CROPS
@LEAKS
@RESAMPLES
@LIMIT
@RECORD
@device_flag
@running
@json_flag
@voice
@settings
@faces_here
def stress(
    model: Path,
    data: Path,
    out: Path,
    split: str,
    only: str,
    any_crops: bool,
    leaks: str,
    resamples: int,
    limit: int,
    record: bool,
    device: str,
    workers: int,
    engine: Any,
    as_json: bool,
    config: Any,
    recipe: str,
) -> None:
    """Measure a model on the same inputs, compressed, scaled, blurred, darkened.

    Clips are really encoded again (H.264, CRF 23 to 40, fewer frames); the rest
    is done to their frames, and faces are found anew. Needs the clips where
    they lay at extraction. Face crops are changed as they are.

    \b
    Example:
      dfpipe stress runs/NAME/model.safetensors --data data/faces --limit 100
    """
    from dfpipe.infer import stress as room
    from dfpipe.infer.detector import Detector, find_model
    from dfpipe.infer.evaluate import Options
    from dfpipe.infer.summary import stress_markdown

    path = find_model(model, model)
    detector = Detector.load(path, device, config.infer, config.preprocess.limits)
    options = Options(split, resamples, any_crops, leaks, engine, workers, limit)
    done = room.stress(detector, data, out, config, options, room.parse_kinds(only))
    if record:
        room.record_all(done, path)
    if as_json:
        click.echo(json.dumps(done.results))
        return
    click.echo(stress_markdown(done.results["conditions"]))
    click.echo(f"page: {done.page}")


def _detectors(models: tuple[Path, ...], device: str, config: Any) -> Any:
    from dfpipe.infer.detector import Detector
    from dfpipe.infer.evaluate import named
    from dfpipe.infer.scoring import model_files

    limits = config.preprocess.limits
    return named([Detector.load(path, device, config.infer, limits) for path in model_files(models)])


def _print_reports(results: Any) -> None:
    """The classification report of each model, per clip."""
    from dfpipe.infer.page import share
    from dfpipe.names import printable
    from dfpipe.train.metrics import report_text

    for name, model in results["models"].items():
        told = model["coverage"]
        click.echo(f"{printable(name)}: {told['scored']} of {told['inputs']} inputs scored ({share(told['share'])})")
        click.echo(report_text(model["levels"]["clip"]["confusion"]))


COMMANDS = (evaluate, calibrate, stress)
