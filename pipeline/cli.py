"""The command line: a command parses its flags, calls one room, and prints.

The only place that turns errors into text and exit codes. Heavy imports happen inside the commands, so that `--help` is
instant.
"""

import errno
import functools
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from dfpipe import __version__
from dfpipe.errors import DfpipeError, InputsFailed, Interrupted, ResourceError

F = TypeVar("F", bound=Callable[..., Any])

DATA, RUNS, VERDICTS, DEMO = Path("data/faces"), Path("runs"), Path("verdicts"), Path("data/demo")
PATH = click.Path(path_type=Path)
EXIT_CODES = """\b
Exit codes: 0 all done; 1 a bug; 2 wrong usage, config or data; 3 some inputs
failed, the rest is done; 4 no usable model file; 5 out of disk or memory;
130 interrupted. Whatever was finished before stays valid."""


class _Doors(click.Group):
    """Turns every error that dfpipe raises on purpose into one line and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except DfpipeError as error:
            failure = error
        except KeyboardInterrupt:
            failure = Interrupted("interrupted; finished work is kept, the same command goes on from it")
        except MemoryError:
            failure = ResourceError("out of memory: try --workers 1 or a smaller --set train.batch_size")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            failure = ResourceError("no space left on the disk: free some and run the same command again")
        click.echo(f"Error: {failure}", err=True)
        ctx.exit(failure.exit_code)


@click.group(cls=_Doors, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, "--version", prog_name="dfpipe")
def main() -> None:
    """Deepfake detection from clips and stills to verdicts that a person can check.

    \b
    The main job, in one folder:
      dfpipe extract --videos dfdc/   faces of labelled clips   -> data/faces/
      dfpipe train                    a model from the faces    -> runs/
      dfpipe infer clip.mp4           a verdict with the model  -> verdicts/

    \b
    No data yet?      dfpipe demo
    Does it work here? dfpipe doctor
    """


# ---- flags that mean the same everywhere -------------------------------------------------------------------------------


def _settings(command: F) -> F:
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


def _running(command: F) -> F:
    """--workers, --engine."""
    command = click.option(
        "--engine", default="local", metavar="NAME", help="local (killable processes) or serial (for debugging)."
    )(command)
    return click.option("--workers", type=click.IntRange(0), default=0, help="Processes; 0 = one per core.")(command)


def _voice(command: F) -> F:
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

        tqdm.write(self.format(record), file=sys.stderr)


def _shard(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Turns "2/8" into (2, 8)."""
    part, _, parts = value.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"{value!r} is not I/N with I from 1 to N, as 2/8", ctx, param)
    return int(part), int(parts)


_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable on stdout, all else on stderr.")
_device = click.option("--device", default="auto", help="cpu, cuda, cuda:1, ...  [default: a GPU if there is one]")


# ---- commands --------------------------------------------------------------------------------------------------------


@main.command()
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="PATH...")
@_json
@_voice
def sources(paths: tuple[Path, ...], as_json: bool) -> None:
    """Say what is in folders, archives and lists, before extracting.

    Per collection: the layout, counts per label, method and split, what is
    named but not on disk, and what looks odd: the same content twice, or with
    two labels, or a label that contradicts its folder.

    \b
    Example:
      dfpipe sources dfdc/ crops.zip my_clips.csv
    """
    from dfpipe.preprocess.sources import scan_any, summary, text

    found = summary([source for path in paths for source in scan_any(path)])
    click.echo(json.dumps(found) if as_json else "\n".join(text(found)))


@main.command()
@click.option("--videos", multiple=True, type=PATH, metavar="DIR", help="Folder of clips; may be given several times.")
@click.option("--images", multiple=True, type=PATH, metavar="DIR", help="Folder of stills; may be given several times.")
@click.option("--out", type=PATH, default=DATA, show_default=True, help="Crops, manifest, states.")
@click.option("--stills", type=click.Choice(["auto", "detect", "as-is"]), help="Are stills face crops already?")
@click.option("--folds", type=click.IntRange(2), help="Also give cross-validation folds by group.")
@click.option("--shard", callback=_shard, default="1/1", metavar="I/N", help="Only part I of N; its own --out.")
@click.option("--redo", default="", metavar="STATES", help="Work again on inputs in these states, as no_face,timeout.")
@click.option("--limit", type=click.IntRange(0), default=0, help="At most so many inputs per folder, spread over it.")
@click.option("--dry-run", is_flag=True, help="Only say how many inputs there are and how many are to do.")
@_running
@_json
@_voice
@_settings
def extract(
    videos: tuple[Path, ...],
    images: tuple[Path, ...],
    out: Path,
    stills: str | None,
    folds: int | None,
    shard: tuple[int, int],
    redo: str,
    limit: int,
    dry_run: bool,
    workers: int,
    engine: str,
    as_json: bool,
    config: Any,
    recipe: str,
) -> None:
    """Find the faces in clips and stills, and write crops and a manifest.

    Reads DFDC parts (also partial downloads), FaceForensics++, and folders
    named real and fake, perhaps below train, validation and test. What an
    earlier run finished is not opened again.

    \b
    Example:
      dfpipe extract --videos dfdc/ --images crops.zip --out data/faces
    """
    from dfpipe.preprocess import extract as room

    if not videos and not images:
        raise click.UsageError("name at least one folder with --videos or --images")
    flags = {"stills": stills, "folds": folds}
    config = config.with_preprocess(**{name: value for name, value in flags.items() if value is not None})
    states = [state.strip() for state in redo.split(",") if state.strip()]
    options: dict[str, Any] = {"engine": engine, "workers": workers, "limit": limit, "shard": shard, "redo": states}
    if dry_run:
        inputs, todo = room.dry_run(videos, images, out, config, **options)
        told = {"inputs": inputs, "to_do": todo, "finished": inputs - todo}
        click.echo(json.dumps(told) if as_json else f"{inputs} inputs, {inputs - todo} finished, {todo} to do")
        return
    summary = room.extract(videos, images, out, config, **options)
    click.echo(json.dumps(_extract_json(summary)) if as_json else _extract_text(summary))
    if summary.failed:
        raise InputsFailed(
            f"{summary.failed} of {summary.inputs} inputs failed; see reasons in {out / 'inputs.parquet'}"
        )


@main.command()
@click.argument("data", type=PATH, default=DATA, metavar="[DIR]")
@click.option("--out", type=PATH, help="Page, charts and numbers.  [default: explore/ in DIR]")
@click.option("--sample", type=click.IntRange(1), default=4000, show_default=True, help="Crops to look at closely.")
@_json
@_voice
def explore(data: Path, out: Path | None, sample: int, as_json: bool) -> None:
    """Show what extracted faces look like: one page with charts and samples.

    Counts per split, label, method and dataset; face sizes, brightness and
    sharpness; contact sheets; and candidates for duplicates across splits.

    \b
    Example:
      dfpipe explore data/faces
    """
    from dfpipe.preprocess.explore import explore as run

    done = run(data, out or data / "explore", sample=sample)
    if as_json:
        click.echo(done.summary.read_text(encoding="utf-8"))
        return
    click.echo(f"{done.inputs} inputs, {done.crops} crops, {done.opened} looked at, {done.missing} not on disk")
    conflicts = f", {done.label_conflicts} of them with different labels" if done.label_conflicts else ""
    click.echo(f"{done.pairs} pairs across splits look alike{conflicts}: {done.duplicates}")
    click.echo(f"page: {done.page}")


@main.command()
@click.option("--data", type=PATH, default=DATA, show_default=True, help="Folder that 'dfpipe extract' wrote.")
@click.option("--out", type=PATH, default=RUNS, show_default=True, help="The run gets a folder of its own in it.")
@_device
@_json
@_voice
@_settings
def train(data: Path, out: Path, device: str, as_json: bool, config: Any, recipe: str) -> None:
    """Fit a model to extracted faces, and keep the epoch that validates best.

    Needs crops with both labels in the splits train and validation. The test
    split is not touched.

    \b
    Example:
      dfpipe train --data data/faces --set train.epochs=3
    """
    from dfpipe.train.loop import shown
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


@main.command()
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="PATH...")
@click.option("--out", type=PATH, default=VERDICTS, show_default=True, help="verdicts.jsonl and verdicts.csv.")
@click.option("--model", type=PATH, metavar="FILE", help="Model file.  [default: the newest under runs/]")
@_device
@_running
@_json
@_voice
@_settings
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


@main.command()
@click.option("--out", type=PATH, default=DEMO, show_default=True, help="Clips, faces, model and verdicts.")
@_voice
def demo(out: Path) -> None:
    """Do the whole job on made-up clips: extract, train, infer. Needs no data.

    \b
    Example:
      dfpipe demo --out data/demo
    """
    from dfpipe.demo import run

    run(out, click.echo)


@main.command()
@_voice
def doctor() -> None:
    """Check whether this install can do the main job.

    \b
    Example:
      dfpipe doctor
    """
    from dfpipe.doctor import examine

    failed = [check for check in examine(click.echo) if not check.passed]
    if failed:
        raise DfpipeError(f"this install cannot do the main job: {', '.join(check.name for check in failed)} failed")
    click.echo("the main job can run here")


# ---- what the commands print -----------------------------------------------------------------------------------------


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


def _extract_json(summary: Any) -> dict[str, Any]:
    import dataclasses

    return {**dataclasses.asdict(summary), "out": str(summary.out), "failed": summary.failed}


def _extract_text(summary: Any) -> str:
    from dfpipe.infer.report import printable

    lines = [f"{state:<12} {count:>7}" for state, count in sorted(summary.states.items())]
    lines.append(f"{'inputs':<12} {summary.inputs:>7}   ({summary.resumed} of them finished by an earlier run)")
    if summary.missing:
        names = ", ".join(printable(name) for name in summary.missing[:3])
        where = summary.out / "missing.txt"
        lines.append(
            f"{'missing':<12} {len(summary.missing):>7}   named by the dataset, not on disk ({names}, ...): {where}"
        )
    lines += [f"note: {printable(note)}" for note in summary.notes]
    lines += [f"failed: {printable(path)}  {printable(why)}" for path, why in list(summary.reasons.items())[:20]]
    for split in ("train", "validation", "test"):
        labels = summary.splits.get(split, {})
        mix = ", ".join(f"{count} {label}" for label, count in sorted(labels.items())) or "none"
        lines.append(f"{split:<12} {sum(labels.values()):>7} crops   ({mix})")
    lines.append(f"written to {summary.out}")
    lines.append(f"next: dfpipe train{'' if summary.out == DATA else f' --data {summary.out}'}")
    return "\n".join(lines)
