"""A command in a terminal of its own, and a picture of what stood on the screen in the end: text as SVG.

Knows what dfpipe writes and no more: colours, carriage returns, line ends. Linux and macOS.
"""

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Sequence
from html import escape
from pathlib import Path

from dfpipe.colours import VERDICTS

COLUMNS, ROWS = 100, 40
CELL = (8.4, 19)  # px, width and height of a sign at FONT_PX
FONT_PX = 14
PAD = 18  # px around the text
TEXT, BACK = "#d7dce1", "#16191d"
# What a dark terminal may show for the SGR codes that dfpipe writes: its own shades for dark pages.
COLOURS = {shades.terminal.rpartition(";")[2]: shades.dark for shades in VERDICTS.values() if shades.terminal != "1"}
COLOURS["2"] = "#9aa5b0"  # dimmed, and still 4.5 : 1 on BACK
_SEQUENCE = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])")
_PIECE = re.compile(r"(\x1b\[[0-9;]*[A-Za-z]|\r|\n)")

Cell = tuple[str, str]  # a sign and its SGR code, "" for none


def run(words: Sequence[str], folder: Path) -> str:
    """Runs a command at a terminal and returns all that it wrote there, colours and all."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        os.execvp(words[0], list(words))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = b""
    while piece := _read(terminal):
        written += piece
    os.waitpid(pid, 0)
    return written.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # Linux says so when the other side has gone
        return b""


def screen(written: str) -> list[list[Cell]]:
    """What is left on the screen: rows of signs with their colours. A carriage return writes over what stood there."""
    rows: list[list[Cell]] = [[]]
    column, style = 0, ""
    for piece in _PIECE.split(written):
        if piece == "\n":
            rows.append([])
        elif piece == "\r":
            column = 0
        elif found := _SEQUENCE.fullmatch(piece):
            style = "" if found[1] in ("", "0") else found[1]
        else:
            for sign in piece:
                column = _put(rows, column, (sign, style))
    return _folded(rows)


def _put(rows: list[list[Cell]], column: int, cell: Cell) -> int:
    row = rows[-1]
    row += [(" ", "")] * (column + 1 - len(row))
    row[column] = cell
    return column + 1


def _folded(rows: list[list[Cell]]) -> list[list[Cell]]:
    """Rows without blanks at their end, long ones continued below, as terminals do; no empty ones at the end."""
    folded = []
    for row in rows:
        while row and row[-1] == (" ", ""):
            row.pop()
        folded += [row[i : i + COLUMNS] for i in range(0, max(1, len(row)), COLUMNS)]
    while folded and not folded[-1]:
        folded.pop()
    return folded


def svg(rows: Sequence[Sequence[Cell]], label: str) -> str:
    """The screen as a picture; `label` is read out to those who cannot see it."""
    width, height = COLUMNS * CELL[0] + 2 * PAD, len(rows) * CELL[1] + 2 * PAD
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" aria-label="{escape(label)}">',
        f'<rect width="100%" height="100%" rx="10" fill="{BACK}"/>',
        f'<g font-family="ui-monospace, \'DejaVu Sans Mono\', Menlo, Consolas, monospace" font-size="{FONT_PX}" '
        f'fill="{TEXT}">',
    ]
    for i, row in enumerate(rows):
        y = PAD + (i + 0.75) * CELL[1]
        lines += [_run(row, start, end, y) for start, end in _runs(row)]
    return "\n".join([*lines, "</g>", "</svg>", ""])


def _runs(row: Sequence[Cell]) -> list[tuple[int, int]]:
    """Where signs of one colour begin and end."""
    edges = [i for i in range(1, len(row)) if row[i][1] != row[i - 1][1]]
    return list(zip([0, *edges], [*edges, len(row)], strict=True)) if row else []


def _run(row: Sequence[Cell], start: int, end: int, y: float) -> str:
    """Signs of one colour. `textLength` keeps the columns straight in whatever font there is."""
    text = "".join(sign for sign, _ in row[start:end]).replace(" ", "\N{NO-BREAK SPACE}")  # XML would join blanks
    codes = row[start][1].split(";")
    fill = next((f' fill="{COLOURS[code]}"' for code in codes if code in COLOURS), "")
    weight = ' font-weight="bold"' if "1" in codes else ""
    x, length = PAD + start * CELL[0], (end - start) * CELL[0]
    return f'<text x="{x:.1f}" y="{y:.1f}" textLength="{length:.1f}"{fill}{weight}>{escape(text, quote=False)}</text>'
