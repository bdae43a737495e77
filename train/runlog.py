"""What a run tells of itself: a table by epoch, curves, TensorBoard, and a description in run.json."""

import csv
import io
import json
import logging
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any

import torch

from dfpipe import __version__
from dfpipe.files import atomic_file, disk_errors
from dfpipe.train.curves import curves

log = logging.getLogger(__name__)

METRICS, CURVES, DESCRIPTION, BOARD = "metrics.csv", "curves.png", "run.json", "tensorboard"
PACKAGES = ("torch", "torchvision", "timm", "numpy", "opencv-python-headless", "scikit-learn")
DRAW_EVERY_S = 20.0  # a drawing takes a second, an epoch on few crops less
Row = dict[str, Any]


class RunLog:
    """The files that grow with a run. A resumed run goes on in them.

    Args:
        folder: Of the run.
        finished: Epochs that an earlier session finished; rows of later ones were never taken into account.
    """

    def __init__(self, folder: Path, finished: int = 0) -> None:
        self.folder = folder
        self.rows: list[Row] = [row for row in read_metrics(folder) if row["epoch"] <= finished]
        self._drawn = time.monotonic()
        self._writer: Any = None
        if util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            # Events of an epoch that was cut off are hidden by those of the second attempt.
            self._writer = SummaryWriter(str(folder / BOARD), purge_step=finished + 1)

    def add(self, row: Row) -> None:
        """Takes the figures of one epoch: metrics.csv, the curves and TensorBoard then show them."""
        self.rows.append(row)
        self._write()
        if time.monotonic() - self._drawn > DRAW_EVERY_S:
            self._draw()
        if self._writer is not None:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "epoch":
                    self._writer.add_scalar(name.replace("_", "/", 1), value, row["epoch"])
            self._writer.flush()

    def _write(self) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(self.rows[-1]))
        writer.writeheader()
        writer.writerows(self.rows)
        with disk_errors(self.folder), atomic_file(self.folder / METRICS) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="")

    def _draw(self) -> None:
        if util.find_spec("matplotlib") is None:
            return
        self._drawn = time.monotonic()
        with atomic_file(self.folder / CURVES) as temporary:
            temporary.write_bytes(curves(self.rows))

    def close(self) -> None:
        """Ends the event file, draws the last curves, and says what cannot be drawn here."""
        self._draw()
        if self._writer is not None:
            self._writer.close()
        missing = [name for name in ("matplotlib", "tensorboard") if util.find_spec(name) is None]
        if missing:
            log.info("no curves or events, for want of %s: pip install 'dfpipe[train]'", ", ".join(missing))


def read_metrics(folder: Path) -> list[Row]:
    """The rows of a run's metrics.csv, numbers as numbers and empty cells as None; none where there is no file."""
    path = folder / METRICS
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> Any:
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def describe_run(folder: Path, values: Mapping[str, Any]) -> None:
    """Writes run.json, over the one that is there: what was run on what, and what came out."""
    path = folder / DESCRIPTION
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    with disk_errors(folder), atomic_file(path) as temporary:
        temporary.write_text(json.dumps({**known, **values}, indent=2) + "\n", encoding="utf-8")


def read_description(folder: Path) -> dict[str, Any]:
    """What run.json says; empty where there is none, or a damaged one."""
    try:
        values: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of what a result depends on."""
    return {"dfpipe": __version__, "python": platform.python_version(), **{p: metadata.version(p) for p in packages}}


def hardware(device: torch.device) -> str:
    """A device as a person calls it."""
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{device.type}, {torch.get_num_threads()} threads"
    )
