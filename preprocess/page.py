"""HTML pages out of plain data: one file without links to outside, names escaped, ready to print."""

import functools
from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

from dfpipe.names import printable

if TYPE_CHECKING:
    from jinja2 import Environment

BASE = "base.html"  # what all pages share; it lies with the templates of this room
Filters = tuple[tuple[str, Callable[..., Any]], ...]


@functools.cache
def environment(room: str, filters: Filters) -> "Environment":
    """The templates of a room, with those it has compiled: to compile one takes longer than to fill it in a hundred times.

    Args:
        room: Its package.
        filters: What the templates call, by name, beside `plain` for names from strangers.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def template(name: str) -> str:
        home = "dfpipe.preprocess" if name == BASE else room
        return resources.files(home).joinpath("templates", name).read_text(encoding="utf-8")

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(template),
    )
    made.filters |= {"plain": lambda text: printable(str(text)), **dict(filters)}
    return made
