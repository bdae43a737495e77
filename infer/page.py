"""HTML pages out of plain data: one file without links to outside, names escaped, ready to print."""

import functools
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from dfpipe.names import printable
from dfpipe.preprocess.looks import png_uri

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, pictures: Mapping[str, bytes], **values: Any) -> str:
    """Fills in a template of this room.

    Args:
        template: Its file name.
        pictures: File name to PNG, for `charts` in the template.
        **values: What the template shows.
    """
    charts = {name: png_uri(data) for name, data in pictures.items()}
    return _environment().get_template(template).render(charts=charts, **values)


@functools.cache
def _environment() -> "Environment":
    """With the templates it has compiled: to compile one takes longer than to fill it in a hundred times."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_template),
    )
    environment.filters |= {"plain": lambda text: printable(str(text)), "share": share}
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    environment.filters |= {"figure": figure, "span": span, "number": number}
    return environment


def _template(name: str) -> str:
    return resources.files("dfpipe.infer").joinpath("templates", name).read_text(encoding="utf-8")


def figure(value: float | None) -> str:
    """A metric for reading."""
    return "undefined" if value is None else f"{value:.3f}"


def span(interval: list[float] | None) -> str:
    """An interval for reading."""
    return "no interval" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"


def number(value: float) -> str:
    """A count for reading."""
    return f"{value:,.0f}"


def share(value: float | None) -> str:
    """A share for reading."""
    return "undefined" if value is None else f"{100 * value:.1f} %"
