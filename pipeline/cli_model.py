"""Commands about model files."""

import dataclasses
import json
import textwrap
from pathlib import Path
from typing import Any

import click

from dfpipe.flags import FILE, faces_here, json_flag, voice
from dfpipe.flags import data as data_flag

WIDTH, MARGIN = 80, 15  # columns: of a line, and before its value, so that a SHA-256 fits


@click.group()
def model() -> None:
    """Look into model files, and take them elsewhere.

    \b
    Example:
      dfpipe model show runs/NAME/model.safetensors
    """


@model.command()
@click.argument("file", type=FILE, metavar="MODEL")
@json_flag
@voice
def show(file: Path, as_json: bool) -> None:
    """Say what a model file says of itself.

    What it is, how its crops are cut, where its threshold comes from, how well
    it did on what, and what it was trained on. Writes no file.

    \b
    Example:
      dfpipe model show runs/NAME/model.safetensors
    """
    from dfpipe.train.modelfile import load_model

    loaded = load_model(file)
    facts = {
        "file": str(file),
        "sha256": loaded.sha256,
        "bytes": file.stat().st_size,
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
    }
    if as_json:
        told = dataclasses.asdict(loaded.card)
        told["data"].pop("trained_on", None)  # a hash for each source and file: no reading
        click.echo(json.dumps({**facts, **told}))
        return
    click.echo("\n".join(_lines(facts, loaded.card)))


@model.command()
@click.argument("file", type=FILE, metavar="MODEL")
@click.option("--out", type=FILE, show_default="stdout", help="Markdown file to write.")
@voice
def card(file: Path, out: Path | None) -> None:
    """Write a model card in Markdown, from a model file.

    Data, split fingerprint, figures with intervals, stress results, limits and
    licence. Figures get into the file by --record of evaluate and stress.

    \b
    Example:
      dfpipe model card runs/NAME/model.safetensors --out MODEL_CARD.md
    """
    from dfpipe.infer.detector import find_model
    from dfpipe.infer.modelcard import write_card

    text = write_card(find_model(file, file), out)
    click.echo(text if out is None else f"written: {out}")


def _lines(facts: dict[str, Any], card: Any) -> list[str]:
    """Everything as `name  value`, folded at `WIDTH` columns."""
    from dfpipe.names import printable

    told = {
        "name": card.name,
        "file": f"{facts['file']}, {facts['bytes'] / 1e6:.1f} MB",
        "sha256": facts["sha256"],
        "network": f"{card.architecture}, {facts['parameters']:,} parameters",
        "head": _head(card.head),
        "input": f"{card.image_size} x {card.image_size} px, RGB, mean {_triple(card.mean)}, std {_triple(card.std)}",
        "crops": _crops(card.faces),
        "verdict": f"FAKE from {card.band[1]:g}, REAL below {card.band[0]:g}, threshold {card.threshold:g}: "
        + _calibration(card.calibration),
        **{key: _metrics(figures) for key, figures in card.metrics.items()},
        **_data(card.data),
        "written by": f"dfpipe {card.code_version}",
    }
    lines = []
    for name, value in told.items():
        folded = textwrap.wrap(printable(str(value)), WIDTH - MARGIN, break_on_hyphens=False) or [""]
        lines += [f"{name if i == 0 else '':<{MARGIN}}{part}" for i, part in enumerate(folded)]
    return lines


def _head(head: Any) -> str:
    dense = f"dense {head.hidden} with ReLU, " if head.hidden else ""
    dropout = f"dropout {head.dropout:g}, " if head.dropout else ""
    outputs = "one output (sigmoid)" if head.outputs == 1 else "two outputs (softmax)"
    return f"{dense}{dropout}{outputs}" + (", mean of a crop and its mirror image" if head.mirror else "")


def _crops(faces: Any) -> str:
    turned = ", turned upright" if faces.align else ""
    cut = f"{faces.detector}, {faces.crop_scale:g} x the face box{turned}"
    return f"{cut}; of a clip {faces.frames} frames ({faces.sampling})"


def _calibration(calibration: dict[str, Any] | None) -> str:
    if calibration is None:
        return "conventions, not calibrated"
    return f"calibrated, {_metrics(calibration)}"


def _metrics(figures: Any) -> str:
    """Figures by name, perhaps of several kinds of input; evaluations and stress tests are for the model card."""
    if isinstance(figures, list):
        measured = "; ".join(", ".join(one.get("datasets", [])) for one in figures)
        return f"measured on {measured}: see 'dfpipe model card'"
    nested = {name.replace("_", " "): _metrics(value) for name, value in figures.items() if isinstance(value, dict)}
    flat = {name: _plain(value) for name, value in figures.items() if not isinstance(value, dict)}
    told = [", ".join(f"{name.replace('_', ' ')} {value}" for name, value in flat.items())]
    return "; ".join(filter(None, [*told, *(f"{name}: {value}" for name, value in nested.items())]))


def _data(data: dict[str, Any]) -> dict[str, str]:
    """What is known of the training data; a model file from elsewhere may say less."""
    crops = {
        split: f"{counts['real']} real, {counts['fake']} fake"
        for split, counts in data.get("crops", {}).items()
        if counts["real"] or counts["fake"]
    }
    told = {
        "trained on": "; ".join(f"{split} {counts}" for split, counts in crops.items()) + " crops" if crops else "",
        "datasets": ", ".join(
            [*data.get("datasets", []), *([f"{data['groups']} sources"] if "groups" in data else [])]
        ),
        "split": data.get("split_fingerprint", ""),
        "weights from": data.get("initial_weights", ""),
    }
    return {name: value for name, value in told.items() if value}


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return "undefined" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _triple(values: Any) -> str:
    return " ".join(f"{value:g}" for value in values)


@model.command()
@click.argument("file", type=FILE, metavar="MODEL")
@click.option("--out", "--onnx", "out", type=FILE, required=True, help="ONNX file to write.")
@data_flag("Extracted faces to check on.", "random pictures")
@json_flag
@voice
@faces_here
def export(file: Path, out: Path, data: Path | None, as_json: bool) -> None:
    """Write a model for other runtimes, checked against torch.

    The ONNX file takes float32 pictures (N, 3, S, S), RGB, 0..1, and gives one
    logit each: p_fake is its sigmoid. Normalisation is inside; what the model
    file says of itself is in the metadata under "dfpipe". onnxruntime must agree
    with torch within 1e-4, or nothing is written.

    \b
    Example:
      dfpipe model export runs/NAME/model.safetensors
                          --out model.onnx --data data/faces
    """
    from dfpipe.train.export import export_onnx

    done = export_onnx(file, out, data)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(done), "path": str(done.path)}))
        return
    click.echo(f"onnxruntime and torch differ by {done.difference:.1g} at most on {done.pictures} {done.checked_on}")
    if data is None:
        click.echo("no real crops were used for this check: name some with --data")
    click.echo(f"written: {done.path}")


@model.command()
@click.argument("files", type=FILE, nargs=-1, required=True, metavar="MODEL MODEL...")
@click.option("--out", type=FILE, required=True, help="Model file to write.")
@json_flag
@voice
def average(files: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Join model files of one training: the mean of their weights.

    As those that train.keep_epochs keeps. Measure on validation whether it is
    better than they are; calibrate it anew.

    \b
    Example:
      dfpipe model average runs/NAME/epoch_5.safetensors
                           runs/NAME/epoch_9.safetensors --out mean.safetensors
    """
    from dfpipe.train.averaging import average as run

    card = run(files, out)
    if as_json:
        click.echo(json.dumps({"path": str(out), "averaged": card.data["averaged"]}))
        return
    click.echo(f"written: {out}, the mean of {', '.join(card.data['averaged'])}")


@model.command()
@click.argument("file", type=FILE, metavar="MODEL")
@click.option("--out", type=FILE, required=True, help="Model file to write.")
@click.option("--name", default="", show_default="as before", metavar="NAME", help="Name of the model from now on.")
@click.option("--licence", default="", metavar="NAME", help="Licence of the weights, for the model card.")
@data_flag("Extracted faces to check on.", "random pictures")
@json_flag
@voice
@faces_here
def pack(file: Path, out: Path, name: str, licence: str, data: Path | None, as_json: bool) -> None:
    """Write a model file of half the size, to be handed on.

    Weights are stored in half precision and computed with in float32 as before.
    The scores are compared; nothing is written where one moves by 0.01.

    \b
    Example:
      dfpipe model pack runs/NAME/model.safetensors --out default.safetensors
                        --licence "research use" --data data/faces
    """
    from dfpipe.train.packing import pack as run

    done = run(file, out, name, licence, data)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(done), "path": str(done.path)}))
        return
    click.echo(f"p_fake moves by {done.difference:.1g} at most on {done.pictures} {done.checked_on}")
    click.echo(f"written: {done.path}, {done.bytes / 1e6:.1f} MB")


COMMANDS = (model,)
