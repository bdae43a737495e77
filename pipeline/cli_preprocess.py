"""Commands over collections of media and the faces in them."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from dfpipe.errors import InputsFailed
from dfpipe.flags import DATA, PATH, json_flag, running, settings, voice


def _shard(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Turns "2/8" into (2, 8)."""
    part, _, parts = value.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise click.BadParameter(f"{value!r} is not I/N with I from 1 to N, as 2/8", ctx, param)
    return int(part), int(parts)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PATH, metavar="PATH...")
@json_flag
@voice
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


@click.command()
@click.option("--videos", multiple=True, type=PATH, metavar="DIR", help="Folder of clips; may be given several times.")
@click.option("--images", multiple=True, type=PATH, metavar="DIR", help="Folder of stills; may be given several times.")
@click.option("--out", type=PATH, default=DATA, show_default=True, help="Crops, manifest, states.")
@click.option("--stills", type=click.Choice(["auto", "detect", "as-is"]), help="Are stills face crops already?")
@click.option("--folds", type=click.IntRange(2), help="Also give cross-validation folds by group.")
@click.option("--shard", callback=_shard, default="1/1", metavar="I/N", help="Only part I of N; its own --out.")
@click.option("--redo", default="", metavar="STATES", help="Work again on inputs in these states, as no_face,timeout.")
@click.option("--limit", type=click.IntRange(0), default=0, help="At most so many inputs per folder, spread over it.")
@click.option("--dry-run", is_flag=True, help="Only say how many inputs there are and how many are to do.")
@running
@json_flag
@voice
@settings
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
    engine: Any,
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


@click.command()
@click.argument("data", type=PATH, default=DATA, metavar="[DIR]")
@click.option("--out", type=PATH, help="Page, charts and numbers.  [default: explore/ in DIR]")
@click.option("--sample", type=click.IntRange(1), default=4000, show_default=True, help="Crops to look at closely.")
@json_flag
@voice
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


def _extract_json(summary: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(summary), "out": str(summary.out), "failed": summary.failed}


def _extract_text(summary: Any) -> str:
    from dfpipe.names import printable

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


COMMANDS = (sources, extract, explore)
