"""Commands that judge media."""

import json
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from dfpipe.errors import InputsFailed
from dfpipe.flags import (
    DIR,
    FILE,
    MEDIA,
    VERDICTS,
    Number,
    device_flag,
    frames_flag,
    json_flag,
    out,
    redo_flag,
    running,
    settings,
    voice,
)

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


def judging(command: F) -> F:
    """The flags that infer and watch share."""
    for flag in reversed(
        [
            click.option(
                "--model",
                "models",
                type=FILE,
                multiple=True,
                show_default="newest under runs/, else the one that ships",
                help="Model file; can be repeated: several are joined.",
            ),
            frames_flag,
            click.option("--heatmap", is_flag=True, help="Show in the reports what raised the scores."),
            click.option("--overlay", is_flag=True, help="Write each clip again, with boxes and scores."),
            redo_flag,
            settings,
            device_flag,
            running,
            json_flag,
            voice,
        ]
    ):
        command = flag(command)
    return command


@click.command()
@click.argument("paths", nargs=-1, required=True, type=MEDIA, metavar="PATH...")
@out(VERDICTS, "verdicts and reports", stores=True)
@judging
def infer(paths: tuple[str, ...], out: Any, as_json: bool, **flags: Any) -> None:
    """Judge clips and stills: FAKE, REAL, UNCERTAIN or NO_FACE.

    PATH is a file, a folder, a zip archive, a pattern in quotes ('*.mp4',
    'a/**/*.mov'), a place in a store (s3://bucket/folder) or @list.txt with a
    path or URL in each line, in any mix. Each input gets a line in verdicts.jsonl and
    verdicts.csv and a report for a person who checks it. A verdict is evidence, not proof. A file that cannot be read gets
    an ERROR and no number; the others go on. What was judged before with the
    same model and settings is not opened again.

    \b
    Example:
      dfpipe infer clip.mp4 uploads/ --out verdicts
      dfpipe infer '@list.txt' --overlay --heatmap
      dfpipe infer s3://media/new --out s3://media/verdicts
    """
    from dfpipe.files import scratch_folder
    from dfpipe.infer.inputs import collect

    with scratch_folder() as scratch:
        inputs = collect(paths, out, flags["config"].preprocess.limits, scratch)
        detector = _detector(flags, as_json, later=True)
        _tell_passed_over(inputs.passed_over)
        counts = _judge(detector, inputs.uploads, out, as_json, flags, len(inputs.uploads))
    total = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    s = "" if counts.total() == 1 else "s"
    _say(f"{counts.total()} input{s}: {total}; reports and verdicts.jsonl in {out}", as_json)
    if counts["ERROR"]:
        raise InputsFailed(f"{counts['ERROR']} of {counts.total()} inputs could not be judged; the reasons stand above")


@click.command()
@click.argument("inbox", type=DIR, metavar="INBOX")
@out(VERDICTS, "verdicts and reports")
@click.option(
    "--every",
    type=Number(0.1),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks.",
)
@click.option(
    "--settle",
    type=Number(0),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for which a file must not have changed.",
)
@judging
def watch(inbox: Path, out: Path, as_json: bool, every: float, settle: float, **flags: Any) -> None:
    """Judge files as they arrive in a folder, until Ctrl-C.

    A file is judged when it has stopped changing. Started again, it goes on
    where it was: nothing is judged twice, nothing is left out. Writes what
    'dfpipe infer' writes.

    \b
    Example:
      dfpipe watch inbox/ --out verdicts
    """
    from dfpipe.infer.inbox import Inbox

    limits = flags["config"].preprocess.limits
    arrivals = Inbox(inbox, skip=out, every=every, settle=settle, limits=limits).arrivals()
    detector = _detector(flags, as_json)
    log.info("watching %s; verdicts in %s; Ctrl-C ends it", inbox, out)
    _judge(detector, arrivals, out, as_json, flags, None)


def _detector(flags: dict[str, Any], as_json: bool, later: bool = False) -> Any:
    """The model or models that were named, told in a line. `later`: see `Detector.load`."""
    from dfpipe.infer.detector import Detector

    config = flags["config"]
    files = flags["models"] or (None,)
    detectors = [
        Detector.load(file, flags["device"], config.infer, config.preprocess.limits, flags["frames"], later)
        for file in files
    ]
    detector = _together(detectors) if len(detectors) > 1 else detectors[0]
    _say(_model_line(detector), as_json)
    return detector


def _say(text: str, as_json: bool) -> None:
    """Part of the answer for a person; beside JSON only a remark, which -q leaves out."""
    if as_json:
        log.info("%s", text)
    else:
        click.echo(text)


def _together(detectors: list[Any]) -> Any:
    from dfpipe.infer.ensemble import together

    return together(detectors)


def _model_line(detector: Any) -> str:
    """Which model it is, how good, and what its answers begin with."""
    from dfpipe.infer.embedded import embedded_model

    card, path = detector.model.card, detector.model.path
    auc = card.metrics.get("validation", {}).get("auc")
    shipped = card.metrics.get("shipped", {})
    told = [f"AUC {found['auc']:.2f} on {found['n']} {kind}" for kind, found in shipped.items() if found["auc"]]
    measured = ", ".join(told) or (f"validation AUC {auc:.3f}" if auc is not None else "no measured AUC")
    fitted = "" if card.calibration else ", not calibrated"
    where = card.name if card.ensemble is not None else path
    if path == embedded_model():
        where = f"{card.name}, which ships with dfpipe"
    return f"model: {where} ({measured}; FAKE from {card.band[1]:.2g}, REAL below {card.band[0]:.2g}{fitted})"


def _tell_passed_over(names: tuple[str, ...]) -> None:
    from dfpipe.names import printable

    if names:
        first = ", ".join(printable(Path(name).name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
        log.info("passed over, not media: %d files (%s)", len(names), first)


def _judge(
    detector: Any, uploads: Iterable[Any], out: Any, as_json: bool, flags: dict[str, Any], total: int | None
) -> Counter[str]:
    """Judges, and prints each verdict as it comes. Returns how often each was given."""
    from dfpipe.infer.judging import Options, judge_into
    from dfpipe.progress import Progress

    options = Options(flags["heatmap"], flags["overlay"], flags["redo"], flags["engine"], flags["workers"])
    counts: Counter[str] = Counter()
    with Progress("infer", total) as progress:
        tell = _teller(as_json, progress)
        for told in judge_into(detector, uploads, out, options):
            counts[told.line["verdict"]] += 1
            if told.fresh or total is not None:
                tell(told.line, told.fresh)
            progress.step(counts)
    return counts


def _teller(as_json: bool, progress: Any) -> Callable[[dict[str, Any], bool], None]:
    """How verdicts are printed: JSON, a table for a person, or a line each for files and pipes."""
    from dfpipe.infer.terminal import HEADER, one_line, paragraph

    terminal = sys.stdout.isatty() and not as_json
    if terminal:
        progress.write(HEADER)

    def tell(line: dict[str, Any], fresh: bool) -> None:
        again = "" if fresh else "  (judged before)"
        if as_json:
            text = json.dumps(line)
        elif terminal:
            text = paragraph(line, shutil.get_terminal_size().columns, _has_colour(), again.strip())
        else:
            text = one_line(line) + again
        progress.write(text)

    return tell


def _has_colour() -> bool:
    """Whether the terminal shows colours, and is wanted to: see no-color.org."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


COMMANDS = (infer, watch)
