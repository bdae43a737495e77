"""Names come from strangers: as text for databases and pages, as cells of a table, and on a terminal."""

from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that starts so is run by spreadsheets


def as_text(name: str) -> str:
    """A file name as text that databases and tables can hold: bytes that are no UTF-8 are spelled out, as caf\\xe9."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def as_cell(value: Any) -> Any:
    """A value for a CSV table that spreadsheets take as text, never as a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def printable(text: str) -> str:
    """Text with control characters, line ends and undecodable bytes as escapes: none can move the cursor or fake a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
