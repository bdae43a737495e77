"""The recipes, from the files in configs/: what `dfpipe recipes` lists."""

import re
from importlib import resources

from dfpipe.config import about, load_config
from dfpipe.config import recipes as names
from generate.words import code, escaped, prose, table


def text() -> str:
    """A table of all, and each with where it comes from and what it sets."""
    rows = []
    for name in names():
        train = load_config(name).train
        rows.append((f"[{code(name)}](#{name})", code(train.model), str(train.image_size), prose(about(name)[0])))
    return "\n\n".join([table(("recipe", "network", "px", "what it is"), rows), *map(_entry, names())])


def _entry(name: str) -> str:
    lines = about(name)
    written = (resources.files("dfpipe.configs") / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    told = "\n".join(written[len(lines) :]).strip("\n")
    sets = "[All settings](settings.md) at their defaults." if name == "default" else f"```yaml\n{told}\n```"
    points = "\n".join(f"- {prose(point)}" for point in _points(lines[1:]))
    return "\n\n".join(filter(None, [f"## {escaped(name)}", f"**{prose(lines[0])}**", points, sets]))


def _points(lines: list[str]) -> list[str]:
    """What the head of the file says, divided where a line begins with a word and a colon, as "Reported there: "."""
    points: list[str] = []
    for line in lines:
        if not points or re.match(r"[A-Z][\w ,]{2,40}: ", line):
            points.append(line)
        else:  # a word that was cut at its hyphen keeps it
            points[-1] += ("" if points[-1].endswith("-") else " ") + line
    return points
