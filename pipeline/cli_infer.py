"""Commands that judge media."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from dfpipe.errors import InputsFailed
from dfpipe.flags import PATH, RUNS, VERDICTS, device_flag, json_flag, running, settings, voice


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="PATH...")
@click.option("--out", type=PATH, default=VERDICTS, show_default=True, help="verdicts.jsonl and verdicts.csv.")
@click.option("--model", type=PATH, metavar="FILE", help="Model file.  [default: the newest under runs/]")
@device_flag
@running
@json_flag
@voice
@settings
def infer(
    paths: tuple[Path, ...],
    out: Path,
    model: Path | None,
    device: str,
    workers: int,
    engine: str,
    as_json: bool,
    config: Any,
    recipe: str,
) -> None:
    """Judge clips, stills and whole folders: FAKE, REAL, UNCERTAIN or NO_FACE.

    One line per input: verdict, probability of a fake, file, reason. A verdict
    is evidence, not proof. A file that cannot be read gets an ERROR and no
    number; the others go on.

    \b
    Example:
      dfpipe infer clip.mp4 uploads/ --out verdicts
    """
    from dfpipe.infer.detector import Detector, find_model
    from dfpipe.infer.inputs import collect
    from dfpipe.infer.report import printable

    inputs = collect(paths)
    detector = Detector.load(find_model(model, RUNS), device, config.infer, config.preprocess.limits)
    click.echo(_model_line(detector), err=as_json)
    if inputs.passed_over:
        names = ", ".join(printable(p.name) for p in inputs.passed_over[:3])
        click.echo(f"passed over, not media: {len(inputs.passed_over)} files ({names}, ...)", err=True)
    counts = _judge(detector, inputs.paths, out, engine, workers, as_json)
    total = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    click.echo(f"{len(inputs.paths)} inputs: {total}; written to {out / 'verdicts.jsonl'}", err=as_json)
    if counts.get("ERROR"):
        raise InputsFailed(
            f"{counts['ERROR']} of {len(inputs.paths)} inputs could not be judged; the reasons stand above"
        )


def _judge(
    detector: Any, paths: tuple[Path, ...], out: Path, engine: str, workers: int, as_json: bool
) -> dict[str, int]:
    """Judges, writes and prints each verdict as it comes. Returns how often each verdict was given."""
    from tqdm import tqdm

    from dfpipe.infer.report import VerdictLog, terminal_line, to_json

    counts: dict[str, int] = {}
    verdicts = detector.judge_all(paths, engine, workers)
    with VerdictLog(out) as written:
        for verdict in tqdm(verdicts, total=len(paths), desc="infer", unit="input", disable=None, leave=False):
            written.add(verdict)
            counts[verdict.verdict] = counts.get(verdict.verdict, 0) + 1
            line = json.dumps(to_json(verdict)) if as_json else terminal_line(verdict)
            tqdm.write(line, file=sys.stdout)
    return counts


def _model_line(detector: Any) -> str:
    card = detector.model.card
    auc = card.metrics.get("validation", {}).get("auc")
    measured = f"validation AUC {auc:.3f}" if auc is not None else "no measured AUC"
    fitted = "" if card.calibration else ", threshold and band are conventions, not calibrated"
    return f"model: {detector.model.path} ({measured}; FAKE from {card.band[1]:g}, REAL below {card.band[0]:g}{fitted})"


COMMANDS = (infer,)
