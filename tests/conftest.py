"""Made-up media for every test, and the way to the real data where it is there."""

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from dfpipe.config import Config, load_config
from dfpipe.demo import clip_frames, write_clip
from dfpipe.preprocess.extract import extract
from dfpipe.store import Url
from dfpipe.types import Image, Label

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first.

    `make test` gives a file to one of two processes, and the last minute should not be one of them waiting for the other.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real clips, for tests that want more than made-up ones."""
    folder = Path(os.environ.get("DFPIPE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: name their folder in DFPIPE_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def portrait() -> Image:
    """One face, (512, 512, 3)."""
    from skimage.data import astronaut

    return np.asarray(astronaut())


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up clip of one face: 48 frames of 320 x 320 at 24 frames/s, in a folder with a difficult name."""
    path = tmp_path_factory.mktemp("made up") / "a 'clip' ünï.mp4"
    write_clip(path, clip_frames(0, Label.REAL))
    return path


@pytest.fixture(scope="session")
def faceless_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of a moving ramp."""
    path = tmp_path_factory.mktemp("faceless") / "ramp.mp4"
    ramp = np.arange(160, dtype=np.uint8)
    write_clip(path, (np.tile((ramp + 4 * i)[None, :, None], (160, 1, 3)) for i in range(24)))
    return path


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight sources, each real and fake, in folders real/ and fake/."""
    folder = tmp_path_factory.mktemp("clips")
    for source in range(8):
        for label in Label:
            write_clip(folder / label.name.lower() / f"source_{source}.mp4", clip_frames(source, label))
    return folder


@pytest.fixture(scope="session")
def small_config() -> Config:
    """A short training on small pictures."""
    return load_config("demo", ["preprocess.faces.frames=6", "train.epochs=6"])


@pytest.fixture(scope="session")
def faces(clips: Path, tmp_path_factory: pytest.TempPathFactory, small_config: Config) -> Path:
    """The folder that extraction makes of `clips`."""
    out = tmp_path_factory.mktemp("extracted") / "faces"
    summary = extract([clips], [], out, small_config, engine="serial")
    assert summary.states == {"ok": 16}
    return out


@pytest.fixture(scope="session")
def model(faces: Path, tmp_path_factory: pytest.TempPathFactory, small_config: Config) -> Path:
    """A model file trained on `faces`."""
    from dfpipe.train.loop import train

    return train(small_config, faces, tmp_path_factory.mktemp("runs"), "demo", "cpu").model


@pytest.fixture
def save_still(tmp_path: Path) -> Callable[[str, Image], Path]:
    """Writes a picture below the test's folder."""

    def save(name: str, image: Image) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(image).save(path)
        return path

    return save


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """An empty current folder."""
    before = Path.cwd()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """An S3 server, which the AWS variables point to."""
    pytest.importorskip("s3fs", reason="needs dfpipe[store]")
    moto_server = pytest.importorskip("moto.server", reason="needs moto[server]: an S3 server on this machine")
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str) -> Any:
    """The client to fill an empty bucket, and its name."""
    import s3fs

    fs = s3fs.S3FileSystem(use_listings_cache=False)
    name = f"bucket-{uuid.uuid4().hex}"
    fs.mkdir(name)
    return fs, name


@pytest.fixture
def lost_after(bucket: Any) -> Callable[[int], AbstractContextManager[None]]:
    """Within `lost_after(3)` the store takes three files, and then the connection is lost."""
    import s3fs

    @contextmanager
    def lost_after(files: int) -> Iterator[None]:
        real, left = s3fs.S3FileSystem._put_file, itertools.repeat(True, files)

        async def lossy(self: Any, path: str, target: str, **rest: Any) -> Any:
            if not next(left, False):
                raise ConnectionResetError("connection lost")
            return await real(self, path, target, **rest)

        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(s3fs.S3FileSystem, "_put_file", lossy)
            yield
        s3fs.S3FileSystem.clear_instance_cache()

    return lost_after


@pytest.fixture
def upload(bucket: Any) -> Callable[[Path], Url]:
    """Puts the files of a folder into the store, and says where they are."""

    def upload(folder: Path) -> Url:
        fs, name = bucket
        for path in sorted(folder.rglob("*.*")):
            fs.put_file(str(path), f"{name}/in/{folder.name}/{path.relative_to(folder).as_posix()}")
        return Url(f"s3://{name}/in/{folder.name}")

    return upload
