"""Verdicts on a terminal."""

import textwrap
from collections.abc import Mapping
from typing import Any

from dfpipe.colours import VERDICTS
from dfpipe.names import printable

HEADER = "verdict    p_fake  input"
_INDENT = " " * 19  # under the name of the input
_MIN_WIDTH = 40  # columns; narrower terminals wrap by themselves
_DIM = "2"


def one_line(line: Mapping[str, Any]) -> str:
    """A verdict in one line, for files and pipes: answer, p_fake, input, reason."""
    return f"{line['verdict']:<9} {_number(line)}  {printable(line['path'])}  {_reason(line)}"


def paragraph(line: Mapping[str, Any], width: int, colour: bool, note: str = "") -> str:
    """A verdict for a person at a terminal: a row of the table under `HEADER`, and the reasons below it.

    Args:
        line: Of verdicts.jsonl.
        width: Columns.
        colour: Whether the terminal shows colours.
        note: What else is to be said, below the reasons.
    """
    width = max(width, _MIN_WIDTH)
    room = width - len(_INDENT)
    verdict = _coloured(f"{line['verdict']:<9}", VERDICTS[line["verdict"]].terminal, colour)
    rows = [f"{verdict}  {_number(line)}   {_shortened(printable(line['path']), room)}"]
    told = [_reason(line), line["how_sure"]]
    if line["cautions"]:
        told.append(f"limits: {'; '.join(line['cautions'])}")
    for text in filter(None, [*told, note]):
        wrapped = textwrap.wrap(text, room, break_on_hyphens=False)
        rows += [_INDENT + _coloured(row, _DIM, colour) for row in wrapped]
    return "\n".join(rows)


def _number(line: Mapping[str, Any]) -> str:
    return "   - " if line["p_fake"] is None else f"{line['p_fake']:5.2f}"


def _reason(line: Mapping[str, Any]) -> str:
    state = f"[{line['state']}] " if line["verdict"] == "ERROR" else ""
    return f"{state}{printable(line['reason'])}"


def _shortened(name: str, room: int) -> str:
    """The start and the end of a name: the end tells files of one folder apart."""
    if len(name) <= room:
        return name
    tail = room * 2 // 3
    return f"{name[: room - tail - 1]}…{name[-tail:]}"


def _coloured(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
