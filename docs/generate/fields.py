"""What the comments beside the fields of a dataclass say."""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from typing import Any


def comments_of(cls: type) -> dict[str, str]:
    """The comment at the end of each field's line, or of the last of its lines. A field without one is told by its name."""
    source = textwrap.dedent(inspect.getsource(cls))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    (tree,) = ast.parse(source).body
    assert isinstance(tree, ast.ClassDef)
    fields = [node for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return {node.target.id: comments.get(node.end_lineno or 0, "") for node in fields}  # type: ignore[union-attr]


def describe(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Adds the fields of a dataclass, with their comments, to its description."""
    if what == "class" and isinstance(obj, type) and dataclasses.is_dataclass(obj):
        told = {field: comment for field, comment in comments_of(obj).items() if comment}
        lines += ["", *(f"- ``{field}``: {_escaped(comment)}" for field, comment in told.items()), ""]


def _escaped(text: str) -> str:
    """As reStructuredText shows it; back-ticks are code there too, see default_role in conf.py."""
    return text.replace("\\", "\\\\").replace("*", "\\*").replace("|", "\\|")


def sign(app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None) -> Any:
    """Writes the default of a field that is made anew each time so that Sphinx can divide the signature at its commas."""
    return (signature.replace("<factory>", "..."), returned) if signature else None
