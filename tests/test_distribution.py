"""What strangers install: the sdist holds all, the wheel made from it the packages, and it works without the repository."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import dfpipe

ROOT = Path(__file__).parent.parent
ROOMS = {
    "pipeline": "dfpipe",
    **{room: f"dfpipe/{room}" for room in ("preprocess", "train", "infer", "web", "configs")},
}
MADE = ("__pycache__", "*.pyc", "*.egg-info", "build", "dist", "data", "runs", "verdicts", "site", ".*")

pytestmark = pytest.mark.skipif(find_spec("build") is None, reason="the package build is missing: pip install '.[dev]'")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository without what was made in it: building would write into it."""
    return Path(
        shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "dfpipe", ignore=shutil.ignore_patterns(*MADE))
    )


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is made from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel: of any Python and any machine."""
    return built / f"dfpipe-{dfpipe.__version__}-py3-none-any.whl"


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(source: Path, wheel: Path) -> None:
    wanted = {f"{package}/{name}" for room, package in ROOMS.items() for name in files_in(source / room)}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert found == wanted


def test_the_sdist_holds_what_building_and_testing_need(source: Path, built: Path) -> None:
    with tarfile.open(built / f"dfpipe-{dfpipe.__version__}.tar.gz") as tar:
        found = {member.name.partition("/")[2] for member in tar if member.isfile()}
    assert files_in(source) <= found
    assert (built / f"dfpipe-{dfpipe.__version__}.tar.gz").stat().st_size < 12e6  # 7 MB of it are the model that ships


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        text = file.read(f"dfpipe-{dfpipe.__version__}.dist-info/METADATA")
        licence = file.read(f"dfpipe-{dfpipe.__version__}.dist-info/licenses/LICENSE")
    told = Metadata.from_email(text)  # raises on what a package index would refuse
    assert (told.name, str(told.version)) == ("dfpipe", dfpipe.__version__)
    assert BytesParser().parsebytes(text)["License"] == "Apache-2.0"
    assert b"Apache License" in licence
    assert told.description is not None
    assert told.description.startswith("# dfpipe")


def test_the_wheel_works_without_the_repository(wheel: Path, clip: Path, tmp_path: Path) -> None:
    """In an environment of its own (with this one's libraries), an empty home and an empty folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv" / "lib").glob("python3*/site-packages")
    zipfile.ZipFile(wheel).extractall(site)
    (site / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    home = tmp_path / "home"
    home.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        done = subprocess.run([python, *words], cwd=home, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert Path(run("-c", "import dfpipe; print(dfpipe.__file__)").strip()).is_relative_to(site)
    assert dfpipe.__version__ in run("-m", "dfpipe", "--version")
    verdict = json.loads(run("-m", "dfpipe", "infer", str(clip), "--json"))
    assert verdict["state"] == "ok"
    assert (home / "verdicts" / "verdicts.csv").is_file()
