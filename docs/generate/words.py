"""Text as Markdown shows it."""

import re
from collections.abc import Sequence


def escaped(text: str) -> str:
    """Without any sign that Markdown, or a cell of its tables, would take for its own."""
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", text)


def code(text: str) -> str:
    """In the type of code, in a cell of a table too."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{text}{fence}".replace("|", r"\|")


def prose(text: str) -> str:
    """A sentence of a help text or a comment: commands, flags, and what stands in back-ticks, as code; the rest escaped."""
    parts = re.split(r"('dfpipe [^']+'|`[^`]+`|(?<![\w-])--[a-z][a-z-]*)", text)
    return "".join(code(part.strip("'`")) if i % 2 else escaped(part) for i, part in enumerate(parts))


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table; the cells are Markdown already."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
