"""Imports point from right to left: media -> preprocess -> train -> infer, words below, doors above."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("pipeline", "preprocess", "train", "infer", "web", "configs")
WORDS = {
    *("types", "errors", "names", "config", "files", "ledger", "progress"),
    *("sandbox", "child", "pool", "workers", "signals", "threads", "store", "fetching", "outbox"),
    *("rayengine", "rayworker"),
}
DOORS = {
    "cli",
    "cli_preprocess",
    "cli_train",
    "cli_model",
    "cli_evaluate",
    "cli_infer",
    "cli_web",
    "cli_trunk",
    "flags",
    "demo",
    "doctor",
    "floors",
    "__main__",
}
MAY_IMPORT = {  # room -> what of dfpipe it may know
    "words": WORDS,
    "preprocess": WORDS | {"preprocess"},
    "train": WORDS | {"preprocess", "train"},
    "infer": WORDS | {"preprocess", "train", "infer"},
    "web": WORDS | {"preprocess", "train", "infer", "web"},
    "doors": WORDS | DOORS | {"preprocess", "train", "infer", "web"},
    "configs": set(),
}
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def room_of(path: Path) -> str:
    folder, stem = path.relative_to(ROOT).parts[0], path.stem
    if folder != "pipeline":
        return folder
    return "doors" if stem in DOORS | {"__init__"} else "words"  # `from dfpipe import Detector` is a door too


def imported(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.append(node.module or "")
            if node.module == "dfpipe":
                names += [f"dfpipe.{alias.name}" for alias in node.names if not alias.name.startswith("__")]
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_from_right_to_left(path: Path) -> None:
    allowed = MAY_IMPORT[room_of(path)]
    for name in imported(path):
        assert name.split(".")[0] not in ROOMS, f"{path} imports {name}: rooms are imported as dfpipe.X"
        if name.startswith("dfpipe."):
            assert name.split(".")[1] in allowed, f"{path} may not import {name}"


def test_every_trunk_module_is_a_word_or_a_door() -> None:
    found = {path.stem for path in (ROOT / "pipeline").glob("*.py")} - {"__init__"}
    assert found == WORDS | DOORS


def test_only_the_command_line_knows_click() -> None:
    for path in MODULES:
        if path.stem != "flags" and not path.stem.startswith("cli"):
            assert "click" not in imported(path), path


def test_nothing_unpickles() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if path.stem not in ("rayengine", "rayworker"):  # whose processes talk as those of multiprocessing do
            assert "pickle" not in imported(path)
        for line in text.splitlines():
            if re.search(r"(?<!safetensors\.)torch\.load\(", line):
                assert "weights_only=True" in line, path


# What decodes pictures or clips, and the only modules that may. Bytes from strangers go to preprocess/readers.py,
# which knows the limits and runs in a killable child; the others read what dfpipe itself wrote. OpenCV's and
# torchvision's readers of clips, and the readers behind scikit-image and matplotlib, are never asked.
DECODERS = {
    "av.open(": {
        "preprocess/readers.py",
        "pipeline/demo.py",
        "infer/degradations.py",
        "infer/overlay.py",
    },  # three write
    "decord.VideoReader(": {"preprocess/readers.py"},
    "Image.open(": {"preprocess/readers.py"},
    "cv2.imread(": {"train/dataset.py"},  # crops that extraction wrote
    "cv2.imdecode(": {
        "preprocess/looks.py",
        "train/dataset.py",
        "train/degrade.py",
    },  # such crops, two of them; what it has just encoded
    "VideoCapture": set(),
    "torchvision.io": set(),
    "skimage.io": set(),
    "imageio": set(),
    "plt.imread": set(),
}


@pytest.mark.parametrize("decoder", DECODERS)
def test_only_the_readers_parse_what_strangers_send(decoder: str) -> None:
    found = {str(path.relative_to(ROOT)) for path in MODULES if decoder in path.read_text(encoding="utf-8")}
    assert found == DECODERS[decoder]
