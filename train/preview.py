"""A picture of what an augmentation set does to the crops of a dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dfpipe.colours import VERDICTS, rgb
from dfpipe.errors import DataError
from dfpipe.files import atomic_file
from dfpipe.train.dataset import CropDataset
from dfpipe.train.transforms import in_unit_range
from dfpipe.types import Label

TILES = (128, 256)  # px of the side of one crop: as the network sees it within this range, else scaled into it
GAP, LINE = 8, 22  # px between tiles, and of the line of text above each
FONT = 14  # px
COLOURS = {label: rgb(VERDICTS[label.name].text) for label in Label}

_Tile = tuple[Image.Image, str, Label]  # picture, caption, label as drawn


def show_batch(data: CropDataset, out: Path, seed: int, rows: int = 8, draws: int = 6) -> None:
    """Draws some real and fake crops, each as it lies on disk and as training would see it.

    Args:
        data: Crops with their augmentation set.
        out: The PNG to write.
        seed: Decides which crops, and what is drawn of them.
        rows: Crops, half of them real as far as there are enough.
        draws: Drawings of each.

    Raises:
        DataError: There is no crop, or one is missing or damaged.
        ResourceError: The disk is full.
    """
    if not len(data):
        raise DataError("no crop to show in split 'train': extract more")
    rng = np.random.default_rng(seed)
    lines = [_line(data, position, rng, draws) for position in _chosen(data.labels, rows, rng)]
    picture = _sheet(f"augmentation {data.augment!r}, network input {data.image_size} x {data.image_size} px", lines)
    with atomic_file(out) as temporary:
        picture.save(temporary, format="PNG")


def _chosen(labels: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    """Positions of real and fake crops in turn; where one kind runs out, the other fills up."""
    shuffled = rng.permutation(len(labels))
    turns: dict[int, int] = {}
    order = []
    for position in shuffled.tolist():
        turn = turns[labels[position]] = turns.get(labels[position], -1) + 1
        order.append((turn, labels[position], position))
    return [position for _, _, position in sorted(order)[:count]]


def _line(data: CropDataset, position: int, rng: np.random.Generator, draws: int) -> list[_Tile]:
    """The crop, then its drawings, each with its caption."""
    sample = data.sample(position)
    label = Label(sample.label)
    line = [(Image.fromarray(sample.image), f"{label.name}, as on disk", label)]
    for draw in rng.integers(0, 2**62, draws).tolist():
        tensor, value = data[(position, draw)]
        drawn = Label(int(value))
        caption = drawn.name if drawn == label else f"{drawn.name} (self-blended)"
        line.append(
            (
                Image.fromarray((in_unit_range(tensor).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)),
                caption,
                drawn,
            )
        )
    side = min(max(data.image_size, TILES[0]), TILES[1])
    return [(image.resize((side, side)), caption, label) for image, caption, label in line]


def _sheet(title: str, lines: Sequence[Sequence[_Tile]]) -> Image.Image:
    side = lines[0][0][0].width
    across, down = side + GAP, side + LINE + GAP
    sheet = Image.new("RGB", (GAP + across * len(lines[0]), 2 * LINE + down * len(lines)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    pen.text((GAP, GAP), title, "black", ImageFont.load_default(FONT + 4))
    for row, line in enumerate(lines):
        for column, (image, caption, label) in enumerate(line):
            left, top = GAP + across * column, 2 * LINE + down * row
            pen.text((left, top), caption, COLOURS[label], font)
            sheet.paste(image, (left, top + LINE))
    return sheet
