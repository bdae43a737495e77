"""setup.cfg lists every package: an unlisted one works in an editable install and is missing from the wheel."""

import configparser
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import dfpipe
from dfpipe.floors import FLOORS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def test_every_folder_with_code_is_listed(setup: configparser.ConfigParser) -> None:
    rooms = dict(line.split(" = ") for line in lines(setup["options"]["package_dir"]))
    folders = {folder: package for package, folder in rooms.items()}
    expected = set()
    for init in ROOT.glob("*/**/__init__.py"):
        first, *rest = init.parent.relative_to(ROOT).parts
        if first in folders:
            expected.add(".".join([folders[first], *rest]))
    assert set(lines(setup["options"]["packages"])) == expected


def test_every_module_lies_in_a_package() -> None:
    for room in ("pipeline", "preprocess", "train", "infer", "web", "configs"):
        for module in (ROOT / room).rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), module


def test_the_installed_version_is_the_one_in_the_code() -> None:
    assert metadata.version("dfpipe") == dfpipe.__version__


def test_every_file_that_is_no_code_is_package_data(setup: configparser.ConfigParser) -> None:
    rooms = dict(line.split(" = ") for line in lines(setup["options"]["package_dir"]))
    for package, folder in rooms.items():
        patterns = lines(setup["options.package_data"].get(package, ""))
        files = {p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
        matched = {p for pattern in patterns for p in (ROOT / folder).glob(pattern)}
        assert files <= matched, f"{package}: {files - matched} would be missing from the wheel"


def test_pyproject_holds_no_second_truth() -> None:
    assert set(tomllib.loads((ROOT / "pyproject.toml").read_text())) == {"build-system", "tool"}


def test_no_two_packages_that_overwrite_each_other(setup: configparser.ConfigParser) -> None:
    wanted = {line.split(">")[0].split("=")[0] for line in lines(setup["options"]["install_requires"])}
    assert not {"decord", "opencv-python"} & wanted


def bounds(setup: configparser.ConfigParser) -> dict[str, list[Version]]:
    """Every lower bound in setup.cfg, by package: the extras name some again."""
    texts = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    found: dict[str, list[Version]] = {}
    for requirement in (Requirement(line) for text in texts for line in lines(text)):
        lowest = [Version(part.version) for part in requirement.specifier if part.operator in (">=", "==")]
        found.setdefault(requirement.name, []).append(max(lowest, default=Version("0")))
    return found


def test_no_lower_bound_lets_a_known_hole_in(setup: configparser.ConfigParser) -> None:
    wanted = bounds(setup)
    for floor in FLOORS:
        assert min(wanted[floor.package]) >= Version(floor.version), f"{floor.package}: {floor.holes}"
