"""The engine `ray` with inputs and results in a store: what the driver fetches lies where all nodes see it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dfpipe.cli import main
from dfpipe.config import Config
from dfpipe.preprocess.extract import extract
from dfpipe.preprocess.manifest import MANIFEST
from dfpipe.preprocess.mirror import VARIABLE, here
from dfpipe.store import Url

pytest.importorskip("s3fs", reason="needs dfpipe[store]")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]


@pytest.fixture
def collection(clips: Path, tmp_path: Path) -> Path:
    """Four clips, and one that is none."""
    folder = tmp_path / "made"
    shutil.copytree(clips, folder, ignore=shutil.ignore_patterns("source_[2-7].mp4"))
    (folder / "real" / "broken ünï.mp4").write_bytes(b"no clip")
    return folder


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the folder on a shared disk that TMPDIR names on every node."""
    folder = tmp_path / "shared scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    files = [folder / MANIFEST, *sorted((folder / "crops").rglob("*.jpg"))]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_crops_from_a_store_to_a_store(
    bucket: Any,
    collection: Path,
    shared: Path,
    tmp_path: Path,
    small_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    upload: Callable[[Path], Url],
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    extract([collection], [], tmp_path / "here", small_config, engine="serial")
    url, out = upload(collection), Url(f"s3://{bucket[1]}/faces")
    summary = extract([url], [], out, small_config, engine="ray", workers=2)
    assert summary.states == {"ok": 4, "unsupported": 1}
    assert not list(shared.glob("dfpipe-*"))
    with here(out) as folder:
        assert tree(folder) == tree(tmp_path / "here")
    assert extract([url], [], out, small_config, engine="ray", workers=2).resumed == 5


def test_verdicts_from_a_store_to_a_store(
    bucket: Any, collection: Path, shared: Path, tmp_path: Path, upload: Callable[[Path], Url]
) -> None:
    url = upload(collection)

    def infer(place: object, out: object, *words: str) -> dict[str, Any]:
        line = ["infer", str(place), "--out", str(out), "--frames", "4", "--workers", "2", "--json", "-q", *words]
        done = CliRunner().invoke(main, line)
        assert done.exit_code == 3, done.output
        told = [json.loads(text) for text in done.stdout.splitlines()]
        return {Path(each["path"]).parent.name + Path(each["path"]).name: each for each in told}

    ours = infer(collection, tmp_path / "here")
    theirs = infer(url, f"s3://{bucket[1]}/verdicts", "--engine", "ray")
    assert ours.keys() == theirs.keys()
    for name, line in ours.items():
        for fact in ("state", "verdict", "p_fake", "reason", "sha256"):
            assert theirs[name][fact] == line[fact], (name, fact)
    fs, _ = bucket
    assert all(fs.exists(f"{bucket[1]}/verdicts/{line['report']}") for line in theirs.values())
    assert not list(shared.glob("dfpipe-*"))
