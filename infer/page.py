"""The pages of this room, and how they write figures."""

from collections.abc import Mapping
from typing import Any

from dfpipe.preprocess.looks import png_uri
from dfpipe.preprocess.page import environment


def render(template: str, pictures: Mapping[str, bytes], **values: Any) -> str:
    """Fills in a template of this room.

    Args:
        template: Its file name.
        pictures: File name to PNG, for `charts` in the template.
        **values: What the template shows.
    """
    charts = {name: png_uri(data) for name, data in pictures.items()}
    return environment("dfpipe.infer", FILTERS).get_template(template).render(charts=charts, **values)


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


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


FILTERS = (("share", share), ("figure", figure), ("span", span), ("number", number), ("capitalize_first", _capitalized))
