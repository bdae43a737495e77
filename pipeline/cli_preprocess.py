"""Commands over collections of media and the faces in them."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import click

from dfpipe.errors import InputsFailed
from dfpipe.flags import DATA, PATH, PLACE, faces_here, json_flag, running, settings, voice


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
@click.option(
    "--videos", multiple=True, type=PLACE, metavar="DIR|URL", help="Folder of clips; may be given several times."
)
@click.option(
    "--images", multiple=True, type=PLACE, metavar="DIR|URL", help="Folder of stills; may be given several times."
)
@click.option(
    "--out", type=PLACE, metavar="DIR|URL", default=str(DATA), show_default=True, help="Crops, manifest, states."
)
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
    videos: tuple[Any, ...],
    images: tuple[Any, ...],
    out: Any,
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
    earlier run finished is not opened again. With --shard, each machine works
    on a part of the inputs; 'dfpipe merge' joins the parts.

    A URL is a folder in a store, as s3://bucket/folder, and may also stand in
    the column path of a list (.csv, .parquet); credentials are taken
    from where the store's own tools take them. Inputs are copied here when
    their turn comes, a few at a time. A store has no lock: one run at a time
    may write to a place there.

    \b
    Example:
      dfpipe extract --videos dfdc/ --images crops.zip --out data/faces
      dfpipe extract --videos dfdc/ --shard 2/8 --out shards/2
      dfpipe extract --videos s3://media/dfdc --out s3://media/faces
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
        raise InputsFailed(f"{summary.failed} of {summary.inputs} inputs failed; see reasons in {out}/inputs.parquet")


@click.command()
@click.argument("shards", nargs=-1, required=True, type=PLACE, metavar="SHARD...")
@click.option(
    "--out",
    type=PLACE,
    metavar="DIR|URL",
    default=str(DATA),
    show_default=True,
    help="The whole: crops, manifest, states.",
)
@json_flag
@voice
def merge(shards: tuple[Any, ...], out: Any, as_json: bool) -> None:
    """Join the folders of 'dfpipe extract --shard I/N' into one.

    The result is what one run without shards would have written: splits and
    folds are given over all inputs together. Crops are linked, or copied where
    links cannot be. Folders of different settings, and inputs that two folders
    tell different things of, are refused. Stopped, it goes on when started
    again; further shards can be merged into the same folder later. Shards and
    the whole may lie here or in a store.

    As an array job of SLURM, extract.sh being:

    \b
      #!/bin/sh
      #SBATCH --array=1-64
      #SBATCH --cpus-per-task=4
      I=$SLURM_ARRAY_TASK_ID
      dfpipe extract --videos dfdc/ --workers 4 --shard $I/64 --out shards/$I

    \b
      job=$(sbatch --parsable extract.sh)
      sbatch --dependency=afterany:$job --wrap 'dfpipe merge shards/* --out faces'

    \b
    Example:
      dfpipe merge shards/1 shards/2 shards/3 --out data/faces
      dfpipe merge s3://media/shards/1 s3://media/shards/2 --out data/faces
    """
    from dfpipe.preprocess.merge import absent_text
    from dfpipe.preprocess.merge import merge as run

    done = run(shards, out)
    told = {**_extract_json(done.summary), "shards": done.shards, "absent": done.absent}
    click.echo(json.dumps(told) if as_json else _extract_text(done.summary))
    if done.absent:
        raise InputsFailed(absent_text(done.absent))


@click.command()
@click.argument("data", type=PLACE, default=str(DATA), metavar="[DIR|URL]")
@click.option("--out", type=PLACE, metavar="DIR|URL", required=True, help="Tar files, manifest, states.")
@click.option("--shard-mb", type=click.IntRange(1), default=256, show_default=True, help="Size of a tar file at most.")
@voice
@faces_here
def pack(data: Path, out: Any, shard_mb: int) -> None:
    """Put the crops of a folder into a few large tar files.

    For shared disks and stores, where millions of small files are slow. The
    result is a folder of faces for train, evaluate and explore like any other;
    its tar files can be streamed as WebDataset reads them. The folder of the
    crops stays as it is, and extract and merge go on with that one.

    \b
    Example:
      dfpipe pack data/faces --out data/packed
      dfpipe pack data/faces --out s3://media/packed
      dfpipe train --data data/packed
    """
    from dfpipe.preprocess.packed import pack as run

    done = run(data, out, shard_mb)
    click.echo(f"{done.crops} crops in {done.shards} tar files, {done.bytes / 1e6:.1f} MB, written to {out}")
    click.echo(f"next: dfpipe train --data {shlex.quote(str(out))}")


@click.command()
@click.argument("data", type=PLACE, default=str(DATA), metavar="[DIR|URL]")
@click.option("--out", type=PATH, help="Page, charts and numbers.  [default: explore/ in DIR, or here for a URL]")
@click.option("--sample", type=click.IntRange(1), default=4000, show_default=True, help="Crops to look at closely.")
@json_flag
@voice
def explore(data: Any, out: Path | None, sample: int, as_json: bool) -> None:
    """Show what extracted faces look like: one page with charts and samples.

    Counts per split, label, method and dataset; face sizes, brightness and
    sharpness; contact sheets; and candidates for duplicates across splits. Of
    faces in a store (s3://bucket/folder) a copy is made first, as for train.

    \b
    Example:
      dfpipe explore data/faces
    """
    from dfpipe.preprocess.explore import explore as run
    from dfpipe.preprocess.mirror import here

    with here(data) as folder:
        done = run(folder, out or (data / "explore" if folder is data else Path("explore")), sample=sample)
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
        where = f"{summary.out}/missing.txt"
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
    lines.append(f"next: dfpipe train{'' if summary.out == DATA else f' --data {shlex.quote(str(summary.out))}'}")
    return "\n".join(lines)


COMMANDS = (sources, extract, merge, pack, explore)
