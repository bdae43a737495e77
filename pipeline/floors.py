"""The oldest version of each package that dfpipe accepts, and the published holes below it.

The one table: `dfpipe doctor` compares what is installed with it, and a test the lower bounds in setup.cfg. Every package
that setup.cfg names and of which a hole is known is here.
"""

import re
from dataclasses import dataclass
from importlib import metadata

from packaging.version import InvalidVersion, Version


@dataclass(frozen=True)
class Floor:
    """The first version of a package in which holes are mended."""

    package: str  # as pip calls it
    version: str
    holes: str  # their published names and what they do


# Clips, pictures, model files, tables, pages and requests, in this order. Sources: the advisories of these names in
# the CVE list, the Python Packaging Advisory Database and GitHub's, read in November 2026.
FLOORS = (
    Floor("av", "18.1.0", "CVE-2026-8461 (its FFmpeg writes beyond a MagicYUV picture)"),
    Floor("pillow", "12.3", "CVE-2026-59199 and thirteen more (pictures write beyond memory or pass the size check)"),
    Floor("opencv-python-headless", "4.12", "CVE-2025-53644 (a JPEG makes it write to wrong memory)"),
    Floor("torch", "2.13", "CVE-2025-32434, CVE-2026-24747 (weights_only runs code), CVE-2026-4538 (.pt2 files)"),
    Floor("onnx", "1.21", "CVE-2026-27489, CVE-2026-34446, CVE-2026-34447 (a model reads other files)"),
    Floor("pyarrow", "23.0.1", "CVE-2026-25087 (an Arrow file makes it write to freed memory)"),
    Floor("jinja2", "3.1.6", "CVE-2025-27516 (a template leaves its sandbox)"),
    Floor("python-multipart", "0.0.31", "CVE-2026-40347, CVE-2026-42561, CVE-2026-53540 (uploads without end)"),
    Floor("starlette", "1.5.1", "CVE-2025-62727 (Range headers of quadratic cost) and Range headers without end"),
    Floor("h11", "0.16", "CVE-2025-43859 (smuggled chunks)"),
    Floor(
        "ray", "2.59", "CVE-2025-62593, CVE-2023-48022 (whoever reaches its ports runs code; now a token is asked for)"
    ),
    Floor("scikit-learn", "1.5", "CVE-2024-5206 (a vectoriser keeps words it should forget; dfpipe uses none)"),
    Floor("tqdm", "4.66.3", "CVE-2024-34062 (its own command line runs code; dfpipe calls none)"),
)

# Wheel -> the FFmpeg that must be inside. decord2 3.4.0, the newest, has 8.1.1: it is given only what
# preprocess/headers.py has compared with its list of codecs, so its MagicYUV decoder must never run. OpenCV's FFmpeg
# is never given anything.
FFMPEG = {
    "av": Floor("FFmpeg", "8.1.2", "CVE-2026-8461 (writes beyond a MagicYUV picture)"),
    "decord2": Floor("FFmpeg", "8.1", "CVE-2026-40962 (an encrypted MP4 makes it write beyond memory)"),
}


def below(version: str, floor: Floor) -> bool:
    """Whether a version is older than a floor. One that cannot be read, as of a build from a repository, is not.

    A leading n (FFmpeg's tags) and what a distribution adds behind a dash do not count.
    """
    try:
        return Version(re.sub(r"^n(?=\d)|-.*$", "", version)) < Version(floor.version)
    except InvalidVersion:
        return False


def holes_in(installed: dict[str, str]) -> list[str]:
    """Says for each package below its floor what is wrong and what to do.

    Args:
        installed: Versions by package, as of `installed_versions`.
    """
    return [
        f"{floor.package} {installed[floor.package]} has {floor.holes}: pip install '{floor.package}>={floor.version}'"
        for floor in FLOORS
        if floor.package in installed and below(installed[floor.package], floor)
    ]


def installed_versions() -> dict[str, str]:
    """The versions of those packages of the table that are installed."""
    found = {}
    for floor in FLOORS:
        try:
            found[floor.package] = metadata.version(floor.package)
        except metadata.PackageNotFoundError:  # packages of extras need not be there
            continue
    return found
