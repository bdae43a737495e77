"""The reference of the settings, from the dataclasses in pipeline/config.py and the comments beside their fields."""

import dataclasses
from typing import Any

from dfpipe.config import Config, StageConfig
from generate.fields import comments_of
from generate.words import code, prose, table


def text() -> str:
    """A table for each dataclass: the whole key, as `--set` takes it, the default, and what it means."""
    return "\n\n".join([*_section(Config(), ""), "## train.stages", *_described(StageConfig(), "")])


def _section(config: Any, above: str) -> list[str]:
    parts = [f"## {above.rstrip('.')}"] if above else []
    parts += _described(config, above)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            parts += _section(value, f"{above}{field.name}.")
    return parts


def _described(config: Any, above: str) -> list[str]:
    comments = comments_of(type(config))
    rows = [
        (code(above + field.name), code(_plain(getattr(config, field.name))), prose(comments[field.name]))
        for field in dataclasses.fields(config)
        if not dataclasses.is_dataclass(getattr(config, field.name))
    ]
    about = " ".join((type(config).__doc__ or "").split())
    return [prose(about), *([table(("setting", "default", "means"), rows)] if rows else [])]


def _plain(value: Any) -> str:
    """As YAML and `--set` write it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "''"
