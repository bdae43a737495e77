"""Extracted faces in a store: copied once, whole, by one process, and as they are there."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dfpipe.cli import main
from dfpipe.config import Config
from dfpipe.errors import DataError, ResourceError, SourceError, UsageError
from dfpipe.ledger import LEDGER
from dfpipe.preprocess import mirror
from dfpipe.preprocess.cropfiles import crop_bytes
from dfpipe.preprocess.manifest import CONFIG, CROPS_SCHEMA, INPUTS, MANIFEST, read_manifest, write_table
from dfpipe.preprocess.mirror import ORIGIN, VARIABLE, here, source_of
from dfpipe.preprocess.packed import pack
from dfpipe.store import Url
from dfpipe.train.loop import resume, train
from dfpipe.types import Origin

pytest.importorskip("s3fs", reason="needs dfpipe[store]")

TABLES = {MANIFEST, INPUTS, CONFIG}
QUICK = [
    *("--config", "demo", "--set", "train.model=simple_cnn", "--set", "train.pretrained=none"),
    *("--set", "train.image_size=32", "--set", "train.epochs=2", "--set", "train.early_stop=0"),
    *("--set", "train.loader_workers=0"),
]
WAIT_S = 120.0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def packed(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up faces in tar files of 1 MB at most."""
    folder = tmp_path_factory.mktemp("packed") / "out"
    pack(faces, folder, 1)
    return folder


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs of files that are copied from here on."""
    urls, copy = [], mirror.copy

    def noting(origin: Origin, path: Path, stop: Any = None) -> None:
        copy(origin, path, stop)
        urls.append(origin.url)

    monkeypatch.setattr(mirror, "copy", noting)
    return urls


def upload(bucket: Any, folder: Path, place: str = "sets/gesichter ünï 1") -> Url:
    fs, name = bucket
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        fs.put_file(str(path), f"{name}/{place}/{path.relative_to(folder).as_posix()}")
    return Url(f"s3://{name}/{place}")


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def crops_of(folder: Path) -> list[bytes]:
    manifest = read_manifest(folder)
    return [crop_bytes(str(manifest.path(row))) for row in range(len(manifest))]


def crop_names(folder: Path) -> set[str]:
    return set(read_manifest(folder).columns["crop"])


# ---- what is copied --------------------------------------------------------------------------------------------------


def test_a_copy_is_made_once(bucket: Any, faces: Path, cache: Path, copied: list[str]) -> None:
    url = upload(bucket, faces)
    with here(url) as folder:
        assert crops_of(folder) == crops_of(faces)
        assert folder.is_relative_to(cache)
        assert source_of(folder) == str(url)
        assert LEDGER not in names(folder)  # nothing that is not needed
    assert sorted(copied) == sorted(f"{url}/{name}" for name in TABLES | crop_names(faces))
    copied.clear()
    with here(url):
        assert not copied
    with here(faces) as folder:
        assert folder is faces
        assert source_of(folder) == str(faces)


def test_tar_files_are_copied_whole(bucket: Any, faces: Path, packed: Path, copied: list[str]) -> None:
    url = upload(bucket, packed)
    with here(url) as folder:
        assert crops_of(folder) == crops_of(packed)
        assert names(folder / "shards") == names(packed / "shards")
    assert len(copied) == 3 + len(names(packed / "shards"))


def test_the_cache_is_where_systems_keep_theirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert mirror._cache() == tmp_path / ".cache" / "dfpipe"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert mirror._cache() == tmp_path / "x" / "dfpipe"


def shortened(faces: Path, folder: Path) -> Path:
    """The faces without those of one input."""
    shutil.copytree(faces, folder)
    manifest = read_manifest(faces)
    first = manifest.columns["media_id"][0]
    rows = [{name: manifest.columns[name][row] for name in manifest.columns} for row in range(len(manifest))]
    write_table(folder / MANIFEST, CROPS_SCHEMA, [row for row in rows if row["media_id"] != first])
    return folder


def test_what_changes_in_the_store_is_copied_again_and_nothing_else(
    bucket: Any, faces: Path, tmp_path: Path, copied: list[str]
) -> None:
    fs, _ = bucket
    url = upload(bucket, shortened(faces, tmp_path / "short"))
    with here(url) as folder:
        short = crop_names(folder)
    changed = min(short)
    fs.pipe_file(f"{url}/{changed}", b"another picture")
    fs.put_file(str(faces / MANIFEST), f"{url}/{MANIFEST}")
    copied.clear()
    with here(url) as folder:
        assert (folder / changed).read_bytes() == b"another picture"
        assert crop_names(folder) == crop_names(faces)
    new = crop_names(faces) - short
    assert new
    assert sorted(copied) == sorted(f"{url}/{name}" for name in {MANIFEST, changed, *new})
    fs.put_file(str(tmp_path / "short" / MANIFEST), f"{url}/{MANIFEST}")
    with here(url) as folder:
        assert names(folder / "crops") == {name.removeprefix("crops/") for name in short}


def test_what_is_lost_here_is_copied_again(bucket: Any, faces: Path, copied: list[str]) -> None:
    url = upload(bucket, faces)
    with here(url) as folder:
        lost, cut = sorted(crop_names(folder))[:2]
        (folder / lost).unlink()
        (folder / cut).write_bytes(b"cut")
    copied.clear()
    with here(url) as folder:
        assert sorted(copied) == [f"{url}/{lost}", f"{url}/{cut}"]
        assert crops_of(folder) == crops_of(faces)


def test_a_folder_that_changes_while_it_is_copied_is_listed_again(
    bucket: Any, faces: Path, copied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, _ = bucket
    url = upload(bucket, faces)
    first, listing, left = min(crop_names(faces)), mirror.listing, [1]

    def moving(place: Url) -> dict[str, Origin]:
        found = listing(place)
        if left[0]:
            left[0] -= 1
            fs.pipe_file(f"{url}/{first}", os.urandom(found[first].size))  # of the same size
        return found

    monkeypatch.setattr(mirror, "listing", moving)
    with here(url) as folder:
        assert (folder / first).read_bytes() == fs.cat_file(f"{url}/{first}")
    assert copied.count(f"{url}/{first}") == 2
    left[0] = 99
    fs.pipe_file(f"{url}/{first}", b"another")
    with pytest.raises(ResourceError, match="changes while it is copied"), here(url):
        pass


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def test_the_store_vanishes_in_the_middle(
    bucket: Any, faces: Path, copied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    url = upload(bucket, faces)
    real, left = s3fs.S3FileSystem._cat_file, [30]

    async def lossy(self: Any, path: str, **rest: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise ConnectionResetError("connection lost")
        return await real(self, path, **rest)

    s3fs.S3FileSystem.clear_instance_cache()
    with monkeypatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "_cat_file", lossy)
        with pytest.raises(ResourceError, match=r"cannot be fetched .*connection lost.* is kept"), here(url):
            pass
    s3fs.S3FileSystem.clear_instance_cache()
    assert len(copied) == 30
    with here(url) as folder:
        assert crops_of(folder) == crops_of(faces)
    assert len(copied) == len(set(copied)) == 3 + len(crop_names(faces))  # none of them twice


@pytest.fixture
def mortal(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts an S3 server of its own process, always at the same place; what was in an earlier one is gone."""
    import s3fs

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        started.append(subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return started[-1]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    s3fs.S3FileSystem.clear_instance_cache()
    yield start
    for process in started:
        process.kill()
        process.wait()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_the_server_ends_and_comes_back(
    mortal: Callable[[], subprocess.Popen[bytes]], faces: Path, cache: Path, copied: list[str]
) -> None:
    import s3fs

    def filled() -> tuple[subprocess.Popen[bytes], Url]:
        process = mortal()
        fs = s3fs.S3FileSystem(use_listings_cache=False)
        fs.mkdir("some-bucket")
        return process, upload((fs, "some-bucket"), faces)

    process, url = filled()

    def end() -> None:
        while len(copied) < 20:
            time.sleep(0.001)
        process.kill()

    killer = threading.Thread(target=end)
    killer.start()
    with pytest.raises(ResourceError, match=r"cannot be fetched .*what was copied whole is kept"), here(url):
        pass
    killer.join()
    process.wait()
    assert 20 <= len(copied) < len(crop_names(faces))
    assert filled()[1] == url
    with here(url) as folder:
        assert crops_of(folder) == crops_of(faces)
    assert len(copied) == len(set(copied)) == 3 + len(crop_names(faces))


def test_ctrl_c_keeps_what_was_copied_whole(
    bucket: Any, faces: Path, copied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = upload(bucket, faces)

    class Stopped(mirror.tqdm):  # type: ignore[misc]
        def update(self, n: float | None = 1) -> bool | None:
            if len(copied) > 20:
                raise KeyboardInterrupt
            return super().update(n)

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "tqdm", Stopped)
        with pytest.raises(KeyboardInterrupt), here(url):
            pass
    assert 20 < len(copied) < len(crop_names(faces))
    with here(url) as folder:
        assert crops_of(folder) == crops_of(faces)
    assert len(copied) == len(set(copied)) == 3 + len(crop_names(faces))


SLOW = """
import sys, time
from dfpipe.preprocess import mirror
from dfpipe.store import Url

copy = mirror.copy

def slow(*arguments):
    time.sleep(0.3)
    copy(*arguments)

mirror.copy = slow
with mirror.here(Url(sys.argv[1])):
    print("whole")
"""


def test_what_was_copied_before_a_kill_is_kept(bucket: Any, faces: Path, cache: Path, copied: list[str]) -> None:
    url = upload(bucket, faces)
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(url)], stdout=subprocess.PIPE)
    deadline = time.monotonic() + WAIT_S
    while len(list(cache.rglob("*.jpg"))) < 20:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.communicate()[0] == b""
    there = len([path for path in cache.rglob("*.jpg") if not path.name.startswith(".tmp-")])
    with here(url) as folder:
        assert crops_of(folder) == crops_of(faces)
        assert not list(folder.rglob(".tmp-*"))
    assert len(copied) <= len(crop_names(faces)) - there + 16  # those that were under way, and not noted yet


def test_several_at_a_time_copy_once(bucket: Any, faces: Path, copied: list[str]) -> None:
    url = upload(bucket, faces)
    found: list[list[bytes]] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        with here(url) as folder:
            found.append(crops_of(folder))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [crops_of(faces)] * 4
    assert len(copied) == 3 + len(crop_names(faces))


def test_one_that_waited_for_one_that_failed_copies_itself(
    bucket: Any, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = upload(bucket, faces)
    copy, began, go_on = mirror.copy, threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def failing(*arguments: Any) -> None:
        if threading.current_thread().name.startswith("dfpipe-copy") and not go_on.is_set():
            began.set()
            go_on.wait()
            raise ResourceError("lost")
        copy(*arguments)

    def first() -> None:
        try:
            with here(url):
                pass
        except ResourceError as error:
            failed.append(error)

    monkeypatch.setattr(mirror, "copy", failing)
    thread = threading.Thread(target=first)
    thread.start()
    began.wait()
    threading.Timer(0.5, go_on.set).start()
    with here(url) as folder:
        assert crops_of(folder) == crops_of(faces)
    thread.join()
    assert str(failed[0]) == "lost"


def test_a_copy_that_is_used_is_not_changed(bucket: Any, faces: Path, cache: Path) -> None:
    fs, _ = bucket
    url = upload(bucket, faces)
    first = min(crop_names(faces))
    with here(url) as folder:
        with here(url):  # others may use it too
            pass
        fs.pipe_file(f"{url}/{first}", b"another picture")
        with pytest.raises(UsageError, match=rf"has changed, and another command .*{VARIABLE}"), here(url):
            pass
        assert crops_of(folder) == crops_of(faces)
    with here(url) as folder:
        assert (folder / first).read_bytes() == b"another picture"


def test_space_is_looked_at_before(bucket: Any, faces: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    url = upload(bucket, faces)
    usage = shutil.disk_usage("/")._replace(free=200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match=rf"\d\.\d MB are to be copied .* has 0\.2 MB free.*{VARIABLE}"), here(url):
        pass
    assert not list(cache.rglob("*.jpg"))


def test_a_cache_that_cannot_be_written(
    bucket: Any, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with pytest.raises(UsageError, match=f"cannot write to .*{VARIABLE}"), here(upload(bucket, faces)):
        pass


def test_places_without_faces(bucket: Any, faces: Path) -> None:
    fs, name = bucket
    with pytest.raises(SourceError, match=f"no {MANIFEST} in s3://{name}/nothing"), here(Url(f"s3://{name}/nothing")):
        pass
    with (
        pytest.raises(SourceError, match=r"s3://no-such-bucket/x cannot be listed"),
        here(Url("s3://no-such-bucket/x")),
    ):
        pass
    url = upload(bucket, faces)
    fs.rm_file(f"{url}/{min(crop_names(faces))}")
    with pytest.raises(DataError, match=r"1 files of crops are not in s3://.* run the same"), here(url):
        pass
    fs.pipe_file(f"{url}/{MANIFEST}", b"no table")
    with pytest.raises(DataError, match="damaged"), here(url):
        pass


def test_wrong_credentials(server: str, bucket: Any, faces: Path) -> None:
    """The server is told to look at them, and knows nobody."""
    import s3fs

    url = upload(bucket, faces)

    def check_after(requests: str) -> None:
        asked = urllib.request.Request(
            f"{server}/moto-api/reset-auth", requests.encode(), {"Content-Type": "text/plain"}, method="POST"
        )
        with urllib.request.urlopen(asked) as answer:
            assert answer.status == 200

    check_after("0")
    try:
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(SourceError, match=r"cannot be listed .*credentials"), here(url):
            pass
    finally:
        check_after("inf")
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("crop", ["crops/../../../out.jpg", "/tmp/out.jpg", mirror._FETCHED, MANIFEST, ".lock"])
def test_a_manifest_cannot_name_other_files(bucket: Any, faces: Path, tmp_path: Path, crop: str) -> None:
    folder = shortened(faces, tmp_path / "odd")
    manifest = read_manifest(folder)
    row = {name: manifest.columns[name][0] for name in manifest.columns}
    write_table(folder / MANIFEST, CROPS_SCHEMA, [{**row, "crop": crop}])
    wrong = r"points outside|names files that no extraction writes"
    with pytest.raises(DataError, match=wrong), here(upload(bucket, folder)):
        pass


# ---- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(elsewhere: Path) -> Callable[..., Result]:
    """Runs dfpipe in an empty folder."""

    def call(*words: object) -> Result:
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result

    return call


@pytest.mark.slow
def test_commands_take_a_place_in_a_store(
    bucket: Any, faces: Path, run: Callable[..., Result], elsewhere: Path, model: Path
) -> None:
    url = upload(bucket, faces)
    trained = json.loads(run("train", "--data", url, *QUICK, "--json", "-q").stdout)
    same = json.loads(run("train", "--data", faces, *QUICK, "--json", "-q", "--out", "same").stdout)
    assert trained["validation"] == same["validation"]
    known = json.loads((Path(trained["model"]).parent / "run.json").read_text())
    assert known["data"] == str(url)
    shutil.copy(model, "model.safetensors")
    run("evaluate", "model.safetensors", "--data", url, "--resamples", 10, "-q")
    assert json.loads(Path("evaluation/metrics.json").read_text())["data"] == str(url)
    run("calibrate", "model.safetensors", "--data", url, "-q")
    run("explore", url, "-q")
    assert (elsewhere / "explore").is_dir()
    run("pack", url, "--out", "packed", "-q")
    assert crops_of(elsewhere / "packed") == crops_of(faces)
    assert str(url) in run("model", "export", "model.safetensors", "--onnx", "o.onnx", "--data", url).output
    folds = run("crossval", "--data", url, *QUICK, "--folds", 2, "-q").output
    assert f"--data '{url}'" in folds
    assert f"--data '{url}'" in run("tune", "--data", url, *QUICK, "--trials", 1, "-q").output


def test_a_run_goes_on_where_there_is_no_copy(
    bucket: Any, faces: Path, cache: Path, small_config: Config, tmp_path: Path
) -> None:
    url = upload(bucket, faces)
    config = small_config.with_train(epochs=2, early_stop=0)

    def stop(epoch: int, _: Any) -> None:
        raise KeyboardInterrupt

    with here(url) as folder, pytest.raises(KeyboardInterrupt):
        train(config, folder, tmp_path / "runs", "demo", "cpu", on_epoch=stop)
    shutil.rmtree(cache)
    (begun,) = (tmp_path / "runs").iterdir()
    assert resume(begun, "cpu").epochs == 2
    assert len(list(cache.glob(f"*/{ORIGIN}"))) == 1


@pytest.mark.slow
def test_the_processes_of_torchrun_copy_once(bucket: Any, faces: Path, tmp_path: Path) -> None:
    url = upload(bucket, faces)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "dfpipe"),
            *("train", "--data", str(url), "--out", str(tmp_path / "runs"), "--device", "cpu", *QUICK),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"copying {len(crop_names(faces))} files") == 1
    assert done.stderr.count("copying 3 files") == 1


@pytest.fixture(autouse=True)
def _nothing_is_left_locked() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dfpipe-copy")]
