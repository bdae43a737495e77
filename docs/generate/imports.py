"""The picture of who imports whom, drawn from the code.

Two drawings. In the first the rooms stand in a row, and a bow leads from each to every room that it imports from, with the
number of those imports; all bows lead to the left, because that is the rule. In the second every module has a row and a
column, in the same order, and a dot stands where the module of the row imports that of the column, a pale one where it
does so inside a function only: under the rule all dots lie in the rooms' own squares or to the left of them.

    python docs/generate/imports.py imports.html    writes it as a page of its own
"""

import ast
import sys
from collections import Counter
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = {"pipeline": "dfpipe", **{name: f"dfpipe.{name}" for name in ("preprocess", "train", "infer", "web")}}
ROOMS = ("words", "preprocess", "train", "infer", "web", "doors")  # from left to right: each knows only those before it
DOORS = {"flags", "demo", "doctor", "floors"}  # of the trunk, beside cli and cli_...
Edges = Counter[tuple[str, str]]  # (importing module, imported module) -> in how many statements


def modules() -> dict[str, Path]:
    """Every module with its file, without the `__init__` of rooms, which are empty but for that of the trunk."""
    return {
        f"{package}.{path.stem}": path
        for folder, package in FOLDERS.items()
        for path in sorted((ROOT / folder).glob("*.py"))
        if path.stem not in ("__init__", "__main__")
    }


def imports_of(path: Path, known: dict[str, Path], anywhere: bool = True) -> Counter[str]:
    """Which of the known modules a file imports, and in how many statements: anywhere in it, or when it is loaded."""
    found: Counter[str] = Counter()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if anywhere else tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(known)
            names = sorted(inside) or [node.module or ""]
        else:
            continue
        found.update(name for name in names if name in known)
    return found


def edges(anywhere: bool = True) -> Edges:
    """All imports between modules, or those alone by which loading one loads the other."""
    known = modules()
    return Counter(
        {(name, other): n for name, path in known.items() for other, n in imports_of(path, known, anywhere).items()}
    )


def room_of(module: str) -> str:
    """The room of a module; the trunk is two: words below all rooms, doors above them."""
    parts = module.split(".")
    if len(parts) > 2:
        return parts[1]
    return "doors" if parts[1] in DOORS or parts[1].startswith("cli") else "words"


def in_order(loaded: Edges) -> list[str]:
    """All modules, room after room; inside a room after all that loading them loads, else by name."""
    order: list[str] = []
    for room in ROOMS:
        left = {name for name in modules() if room_of(name) == room}
        while left:
            ready = sorted(name for name in left if not any(a == name and b in left for a, b in loaded))
            order += ready or sorted(left)  # the second if they load one another: a test tells
            left -= set(order)
    return order


# ---- the drawings ------------------------------------------------------------------------------------------------------

STEP, BOX, MARGIN = 136, (108, 58), 66  # px: from room to room, a room's box, from the edge to the first room's middle
RISE = 38  # px that a bow rises for each room that it passes
CELL, AXIS = 4, 84  # px of a module in the matrix, and of the names beside it


def bows(found: Edges) -> str:
    """The rooms in a row, and bows from each to those that it imports from."""
    between = Counter[tuple[str, str]]()
    for (a, b), count in found.items():
        between[room_of(a), room_of(b)] += count
    files = Counter(map(room_of, modules()))
    middle = {room: MARGIN + STEP * i for i, room in enumerate(ROOMS)}
    base = RISE * (len(ROOMS) - 1) + 24
    parts = []
    for (a, b), count in sorted(between.items()):
        span = ROOMS.index(a) - ROOMS.index(b)
        if span == 0:
            continue
        # A longer bow begins and ends outside the shorter ones, so that none cross at a box.
        start, end = middle[a] - 48 + 9 * abs(span), middle[b] + 48 - 9 * abs(span)
        top = base - RISE * abs(span)
        width = 1 + min(count, 120) / 30
        bend, peak = (start - end) / 5.2, top - RISE / 3.2
        ends = f"{start - bend:.1f} {peak:.1f} {end + bend:.1f} {peak:.1f} {end} {base - 4}"
        told = f"<title>{a} imports from {b} in {count} statements</title>"
        look = f'class="bow {a}" stroke-width="{width:.1f}" marker-end="url(#tip-{a})"'
        parts.append(f'<path {look} d="M{start} {base} C{ends}">{told}</path>')
        height = base - (base - peak) * 0.75 - 1  # where such a curve is highest
        parts.append(f'<text class="count" x="{(start + end) / 2:.0f}" y="{height + 4:.0f}">{count}</text>')
    for room, x in middle.items():
        parts.append(
            f'<rect class="room {room}" x="{x - BOX[0] / 2:.0f}" y="{base}" width="{BOX[0]}" height="{BOX[1]}" rx="6"/>'
        )
        parts.append(f'<text class="name" x="{x}" y="{base + 25}">{room}</text>')
        parts.append(
            f'<text class="small" x="{x}" y="{base + 44}">{files[room]} files, {between[room, room]} inside</text>'
        )
    tips = "".join(
        f'<marker id="tip-{room}" class="{room}" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>'
        for room in ROOMS
    )
    width = 2 * MARGIN + STEP * (len(ROOMS) - 1)
    return _svg(
        width, base + BOX[1] + 6, f"<defs>{tips}</defs>" + "".join(parts), "Imports between the rooms", top=base // 5
    )


def matrix(found: Edges) -> str:
    """A row and a column for every module, and a dot for every import."""
    loaded = edges(anywhere=False)
    order = in_order(loaded)
    at = {name: AXIS + CELL * i for i, name in enumerate(order)}
    side = CELL * len(order)
    parts = []
    for room in ROOMS:
        own = [name for name in order if room_of(name) == room]
        begin, length = at[own[0]], CELL * len(own)
        parts.append(f'<rect class="band" x="{AXIS}" y="{begin}" width="{side}" height="{length}"/>')
        parts.append(f'<rect class="square {room}" x="{begin}" y="{begin}" width="{length}" height="{length}"/>')
        parts.append(f'<text class="row" x="{AXIS - 8}" y="{begin + length / 2 + 4:.0f}">{room}</text>')
        parts.append(f'<text class="column" x="{begin + length / 2:.0f}" y="{AXIS - 10}">{room}</text>')
    for a, b in sorted(found):
        told = f"{a.removeprefix('dfpipe.')} imports {b.removeprefix('dfpipe.')}"
        spot = f'x="{at[b] + 0.5}" y="{at[a] + 0.5}" width="{CELL - 1}" height="{CELL - 1}"'
        late = "" if (a, b) in loaded else " late"
        parts.append(f'<rect class="dot {room_of(a)}{late}" {spot}><title>{escape(told)}</title></rect>')
    return _svg(AXIS + side + 8, AXIS + side + 8, "".join(parts), "Imports between all modules", top=AXIS - 30)


def _svg(width: int, height: int, inside: str, label: str, top: int = 0) -> str:
    return (
        f'<svg class="imports" viewBox="0 {top} {width} {height - top}" role="img" aria-label="{label}">{inside}</svg>'
    )


def text() -> str:
    """Both drawings as a block of HTML; the colours are in _static/site.css."""
    found = edges()
    return f'<div class="imports">\n{bows(found)}\n{matrix(found)}\n</div>'


if __name__ == "__main__":
    style = (Path(__file__).parent.parent / "_static" / "site.css").read_text(encoding="utf-8")
    Path(sys.argv[1]).write_text(f"<!doctype html><meta charset=utf-8><style>{style}</style>{text()}", encoding="utf-8")
