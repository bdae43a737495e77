"""What the site's pages take from the code. Each function gives Markdown."""

from collections.abc import Callable

from generate import commands, imports, links, recipes, settings, tables

GENERATED: dict[str, Callable[..., str]] = {
    "commands": commands.text,
    "settings": settings.text,
    "recipes": recipes.text,
    "tables": tables.text,
    "imports": imports.text,
    "page": links.page,
}
