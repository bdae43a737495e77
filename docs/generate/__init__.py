"""What the site's pages take from the code. Each function gives Markdown."""

from collections.abc import Callable

from generate.commands import commands
from generate.imports import imports
from generate.links import page
from generate.recipes import recipes
from generate.settings import settings

GENERATED: dict[str, Callable[..., str]] = {
    "commands": commands,
    "settings": settings,
    "recipes": recipes,
    "imports": imports,
    "page": page,
}
