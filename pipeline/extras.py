"""Libraries that only some commands need: each comes with an extra of setup.cfg, as dfpipe[web]."""

import importlib.util
from collections.abc import Sequence

from dfpipe.errors import UsageError


def need(what: str, extra: str, modules: Sequence[str]) -> None:
    """Refuses to begin what could not be done to its end.

    Args:
        what: What is about to begin, as the person calls it.
        extra: The extra that brings the libraries.
        modules: Names under which they are imported.

    Raises:
        UsageError: One of them is not installed.
    """
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        names = ", ".join(name.replace("_", "-") for name in missing)
        raise UsageError(f"{what} needs {names}: pip install 'dfpipe[{extra}]'")
