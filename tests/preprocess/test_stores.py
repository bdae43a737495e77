"""Inputs and outputs in a store: an S3 server on this machine, and what can go wrong with one."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from click.testing import CliRunner

from dfpipe import outbox, store
from dfpipe.cli import main
from dfpipe.config import Config, LimitsConfig
from dfpipe.errors import MediaError, ResourceError, SourceError, TooLargeMedia, UnreadableMedia, UsageError
from dfpipe.fetching import run_fetched
from dfpipe.ledger import LEDGER, Ledger
from dfpipe.preprocess import packed
from dfpipe.preprocess.extract import dry_run, extract
from dfpipe.preprocess.manifest import MANIFEST, read_inputs
from dfpipe.preprocess.merge import merge
from dfpipe.preprocess.mirror import VARIABLE, here
from dfpipe.preprocess.remote import scan_url
from dfpipe.preprocess.sources import scan
from dfpipe.progress import Progress
from dfpipe.store import Url, fetch, listing, place
from dfpipe.types import Origin

pytest.importorskip("s3fs", reason="needs dfpipe[store]")


@pytest.fixture(scope="module")
def collection(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips, one that is none, and a list."""
    folder = tmp_path_factory.mktemp("collection") / "made"
    shutil.copytree(clips, folder, ignore=shutil.ignore_patterns("source_[2-7].mp4"))
    (folder / "real" / "broken ünï.mp4").write_bytes(b"no clip")
    (folder / "metadata.csv").write_text("image,label,original\nfake/source_1.mp4,fake,other\n")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    files = [folder / MANIFEST, *sorted((folder / "crops").rglob("*.jpg"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# ---- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["serial", "local"])
def test_a_store_gives_the_manifest_that_a_folder_gives(
    bucket: Any,
    collection: Path,
    tmp_path: Path,
    small_config: Config,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
    upload: Callable[[Path], Url],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    extract([collection], [], tmp_path / "here", small_config, engine="serial")
    url = upload(collection)
    summary = extract([url], [], tmp_path / "there", small_config, engine=engine, workers=2)
    assert tree(tmp_path / "there") == tree(tmp_path / "here")
    assert summary.states == {"ok": 4, "unsupported": 1}
    rows = {row["name"]: row for row in read_inputs(tmp_path / "there")}
    assert rows["real/broken ünï.mp4"]["path"] == f"{url}/real/broken ünï.mp4"
    assert rows["real/broken ünï.mp4"]["sha256"]
    assert rows["fake/source_1.mp4"]["group"] == "other"  # from the list
    assert not list(tmp_path.glob("dfpipe-scratch-*"))
    assert extract([url], [], tmp_path / "there", small_config, engine=engine).resumed == 5
    fs, name = bucket
    fs.pipe_file(f"{name}/in/made/real/broken ünï.mp4", b"another")
    assert extract([url], [], tmp_path / "there", small_config, engine=engine).resumed == 4


def test_stills_of_a_store(
    tmp_path: Path, save_still: Callable[..., Path], portrait: Any, small_config: Config, upload: Callable[[Path], Url]
) -> None:
    for label in ("real", "fake"):
        save_still(f"stills/{label}/a.png", portrait[60:180, 165:285])
    url = upload(tmp_path / "stills")
    extract([], [tmp_path / "stills"], tmp_path / "here", small_config, engine="serial")
    assert extract([], [url], tmp_path / "there", small_config, engine="serial").states == {"ok": 2}
    assert tree(tmp_path / "there") == tree(tmp_path / "here")


def test_layouts_with_lists_are_recognised(tmp_path: Path, upload: Callable[[Path], Url]) -> None:
    part = tmp_path / "dfdc" / "part_1"
    part.mkdir(parents=True)
    listed = {
        "a.mp4": {"label": "REAL"},
        "b.mp4": {"label": "FAKE", "original": "a.mp4"},
        "gone.mp4": {"label": "REAL"},
    }
    (part / "metadata.json").write_text(json.dumps(listed))
    for name in ("a.mp4", "b.mp4"):
        (part / name).write_bytes(name.encode())
    (tmp_path / "scratch").mkdir()
    (here,) = scan(tmp_path / "dfdc", "videos")
    (there,) = scan_url(upload(tmp_path / "dfdc"), "videos", LimitsConfig(), tmp_path / "scratch")
    assert [replace(item, path=Path(), origin=None) for item in there.items] == [
        replace(item, path=Path()) for item in here.items
    ]
    assert (there.layout, there.missing) == (here.layout, here.missing)


def test_a_list_names_places_in_stores(
    collection: Path,
    tmp_path: Path,
    small_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    upload: Callable[[Path], Url],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    url, clip = upload(collection), collection / "fake" / "source_1.mp4"
    rows = [
        *(f"{url}/{label}/source_0.mp4,{label}" for label in ("real", "fake")),
        f"{url}/real/broken ünï.mp4,real",
        f"{url}/real/gone.mp4,real",
        f"{clip},fake",
    ]
    (tmp_path / "some list.csv").write_text("\n".join(["path,label", *rows, ""]), encoding="utf-8")
    summary = extract([tmp_path / "some list.csv"], [], tmp_path / "out", small_config, engine="serial")
    assert summary.states == {"ok": 3, "unsupported": 1}
    assert summary.missing == (f"{url}/real/gone.mp4",)
    inputs = {row["path"]: row["label"] for row in read_inputs(tmp_path / "out")}
    assert inputs == {row.rpartition(",")[0]: int(row.endswith("fake")) for row in rows if "gone" not in row}
    again = extract([tmp_path / "some list.csv"], [], tmp_path / "out", small_config, engine="serial")
    assert again.resumed == 4
    assert not list(tmp_path.glob("dfpipe-scratch-*"))


def test_names_that_lead_out_are_left_out_and_told(bucket: Any, tmp_path: Path) -> None:
    fs, name = bucket
    for key in ("real/a.mp4", "real/../../../b.json", "real//c.mp4", ".hidden/d.mp4", f"real/{'x' * 300}.mp4"):
        fs.call_s3("put_object", Bucket=name, Key=f"in/set/{key}", Body=b"{}")
    (tmp_path / "scratch" / "deep").mkdir(parents=True)
    (source,) = scan_url(Url(f"s3://{name}/in/set"), "videos", LimitsConfig(), tmp_path / "scratch" / "deep")
    assert [item.name for item in source.items] == ["real/a.mp4"]
    assert any(note.startswith("3 names in s3://") for note in source.notes)
    assert not list(tmp_path.rglob("*.json"))


def test_no_such_place(server: str, bucket: Any, tmp_path: Path, small_config: Config) -> None:
    _, name = bucket
    with pytest.raises(SourceError, match=r"s3://no-such-bucket/x cannot be listed .*credentials"):
        extract([Url("s3://no-such-bucket/x")], [], tmp_path / "out", small_config)
    with pytest.raises(SourceError, match=f"nothing usable in s3://{name}/empty"):
        extract([Url(f"s3://{name}/empty")], [], tmp_path / "out", small_config)
    with pytest.raises(UsageError, match="no kind of store that fsspec knows"):
        extract([Url("nonsense://x/y")], [], tmp_path / "out", small_config)
    assert not (tmp_path / "out").exists()


def test_no_credentials_and_no_server(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(SourceError, match=r"(?i)credentials"):
        listing(Url("s3://some/x"))
    s3fs.S3FileSystem.clear_instance_cache()


def test_the_store_s_package_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"pip install 'dfpipe\[store\]'"):
        listing(Url("s3://bucket/x"))


@pytest.mark.parametrize("change", ["longer", "shorter", "other", "gone"])
def test_a_file_that_changes_after_it_was_listed(bucket: Any, tmp_path: Path, change: str) -> None:
    fs, name = bucket
    fs.pipe_file(f"{name}/x/a.mp4", b"0123456789")
    (origin,) = listing(Url(f"s3://{name}/x")).values()
    if change == "gone":
        fs.rm_file(f"{name}/x/a.mp4")
    else:
        fs.pipe_file(f"{name}/x/a.mp4", {"longer": b"0123456789+", "shorter": b"01", "other": b"9876543210"}[change])
    with pytest.raises(UnreadableMedia, match="run the same command again"):
        fetch(origin, tmp_path / "a", LimitsConfig())


def test_a_file_is_read_in_ranges_and_one_that_is_too_large_not_at_all(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, name = bucket
    monkeypatch.setattr(store, "RANGE_BYTES", 1000)
    content = os.urandom(2500)
    fs.pipe_file(f"{name}/x/a.mp4", content)
    fs.pipe_file(f"{name}/x/empty.mp4", b"")
    for file, origin in listing(Url(f"s3://{name}/x")).items():
        fetch(origin, tmp_path / file, LimitsConfig())
    assert (tmp_path / "a.mp4").read_bytes() == content
    assert (tmp_path / "empty.mp4").read_bytes() == b""
    stop = Event()
    stop.set()
    with pytest.raises(UnreadableMedia, match="not fetched to its end"):
        fetch(listing(Url(f"s3://{name}/x"))["a.mp4"], tmp_path / "c", LimitsConfig(), stop)
    with pytest.raises(TooLargeMedia, match="file_gb"):
        fetch(origin := listing(Url(f"s3://{name}/x"))["a.mp4"], tmp_path / "b", LimitsConfig(file_gb=1e-6))
    assert not (tmp_path / "b").exists()
    assert origin.size == 2500


class Asked:
    """An input of a made-up run."""

    def __init__(self, path: Path, origin: Origin | None) -> None:
        self.path, self.origin = path, origin


def read_task(item: Asked) -> bytes:
    return item.path.read_bytes()


def nothing() -> None:
    """No set-up."""


def test_the_network_goes_in_the_middle(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third file is lost on the way; the others go on, and few are on the disk at a time."""
    fs, name = bucket
    for number in range(30):
        fs.pipe_file(f"{name}/x/{number:02}.mp4", str(number).encode())
    origins = list(listing(Url(f"s3://{name}/x")).values())
    real, most = type(fs)._cat_file, []

    async def lossy(self: Any, path: str, **rest: Any) -> Any:
        if int(Path(path).stem) % 3 == 0:
            raise ConnectionResetError("connection lost")
        return await real(self, path, **rest)

    type(fs).clear_instance_cache()
    monkeypatch.setattr(type(fs), "_cat_file", lossy)
    items: list[Asked | None] = [Asked(tmp_path / str(number), origin) for number, origin in enumerate(origins)]
    here = Asked(tmp_path / "here", None)
    here.path.write_bytes(b"here")
    found: dict[str, Any] = {}
    for item, result in run_fetched(read_task, [*items[:5], None, here, *items[5:]], setup=nothing, engine="serial"):
        found[item.path.name] = result
        most.append(len(list(tmp_path.iterdir())))
    lost = {name for name, result in found.items() if isinstance(result, MediaError)}
    assert lost == {str(number) for number in range(0, 30, 3)}
    assert all("connection lost" in str(found[name]) and found[name].state == "unreadable" for name in lost)
    assert {name: result for name, result in found.items() if name not in lost} == {
        "here": b"here",
        **{str(number): str(number).encode() for number in range(30) if number % 3},
    }
    assert max(most) < 20
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    type(fs).clear_instance_cache()


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("a/b", Path("a/b")),
        ("file:///a/b", Path("/a/b")),
        ("s3://bucket/a/", Url("s3://bucket/a")),
        ("C:/a", Path("C:/a")),
        ("gcs://b", Url("gcs://b")),
    ],
)
def test_paths_and_places(word: str, meant: Path | Url) -> None:
    assert place(word) == meant


# ---- outputs ---------------------------------------------------------------------------------------------------------


def objects(bucket: Any, url: Url) -> dict[str, bytes]:
    """Manifest and crops as they lie in the store."""
    fs, _ = bucket
    root = url.text.removeprefix("s3://")
    found = {name.removeprefix(f"{root}/"): fs.cat_file(name) for name in fs.find(root)}
    return {name: data for name, data in found.items() if name == MANIFEST or name.startswith("crops/")}


def test_results_in_a_store_are_those_of_a_folder(
    bucket: Any, collection: Path, tmp_path: Path, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    extract([collection], [], tmp_path / "here", small_config, engine="serial")
    out = Url(f"s3://{bucket[1]}/out/faces")
    summary = extract([collection], [], out, small_config, engine="serial", limit=3)
    assert (summary.out, summary.resumed, summary.inputs) == (out, 0, 3)
    assert dry_run([collection], [], out, small_config, engine="serial") == (5, 2)
    assert extract([collection], [], out, small_config, engine="serial").resumed == 3
    assert objects(bucket, out) == tree(tmp_path / "here")
    assert not list(scratch.iterdir())
    merge([out], tmp_path / "back")
    assert tree(tmp_path / "back") == tree(tmp_path / "here")
    assert not list((tmp_path / "back").glob(".tmp-*"))


def test_shards_in_a_store_are_merged_here(
    bucket: Any, collection: Path, tmp_path: Path, small_config: Config, upload: Callable[[Path], Url]
) -> None:
    extract([collection], [], tmp_path / "here", small_config, engine="serial")
    url = upload(collection)
    shards = [Url(f"s3://{bucket[1]}/shards/{part}") for part in (1, 2)]
    for part, shard in enumerate(shards, start=1):
        extract([url], [], shard, small_config, engine="serial", shard=(part, 2))
    assert merge(shards[:1], tmp_path / "out").absent
    assert not merge(shards, tmp_path / "out").absent
    assert tree(tmp_path / "out") == tree(tmp_path / "here")
    with pytest.raises(SourceError, match=r"s3://.*/none holds no finished extraction"):
        merge([Url(f"s3://{bucket[1]}/none")], tmp_path / "out")


def test_shards_are_merged_in_a_store(
    bucket: Any,
    collection: Path,
    tmp_path: Path,
    small_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    lost_after: Callable[[int], AbstractContextManager[None]],
) -> None:
    """Some of them here, some there; the store goes in the middle, and another machine goes on."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    extract([collection], [], tmp_path / "here", small_config, engine="serial")
    out = Url(f"s3://{bucket[1]}/whole ünï")
    shards: list[Path | Url] = [tmp_path / "1", Url(f"s3://{bucket[1]}/shards/2")]
    for part, shard in enumerate(shards, start=1):
        extract([collection], [], shard, small_config, engine="serial", shard=(part, 2))
    assert merge(shards[:1], out).summary.out == out
    first = objects(bucket, out)
    with lost_after(3), pytest.raises(ResourceError, match=r"cannot be written .*connection lost"):
        merge(shards, out)
    stopped = objects(bucket, out)
    assert stopped[MANIFEST] == first[MANIFEST]
    assert len(stopped) == len(first) + 2
    done = merge(shards, out)
    assert not done.absent
    assert objects(bucket, out) == tree(tmp_path / "here")
    assert merge([out], tmp_path / "back").summary.crops == done.summary.crops
    assert tree(tmp_path / "back") == tree(tmp_path / "here")
    assert not list(scratch.iterdir())


def packed_objects(bucket: Any, url: Url) -> dict[str, bytes]:
    fs, _ = bucket
    root = url.text.removeprefix("s3://")
    found = {name.removeprefix(f"{root}/"): fs.cat_file(name) for name in fs.find(root)}
    return {
        name: data for name, data in found.items() if name.startswith("shards/") or name.endswith((".yaml", "quet"))
    }


def packed_files(folder: Path) -> dict[str, bytes]:
    kept = [path for path in folder.rglob("*") if path.suffix in (".tar", ".yaml", ".parquet")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}


def test_crops_are_packed_to_a_store(bucket: Any, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops in the middle, and goes on; with another size of files it begins anew and leaves nothing of the old."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    out, written = Url(f"s3://{bucket[1]}/packed ünï"), []
    write = packed._write

    def noting(path: Path, samples: Any) -> None:
        if len(written) == 1:
            written.append("stopped")
            raise KeyboardInterrupt
        write(path, samples)
        written.append(path.name)

    monkeypatch.setattr(packed, "_write", noting)
    with pytest.raises(KeyboardInterrupt):
        packed.pack(faces, out, 1)
    assert not {MANIFEST} & set(packed_objects(bucket, out))
    done = packed.pack(faces, out, 1)
    assert len(written) == len(set(written)) == done.shards + 1  # none of them twice
    again = tmp_path / "here"
    assert packed.pack(faces, again, 1) == done
    assert packed_objects(bucket, out) == packed_files(again)
    packed.pack(faces, out, 100)
    packed.pack(faces, tmp_path / "large", 100)
    assert packed_objects(bucket, out) == packed_files(tmp_path / "large")
    count = len(written)
    packed.pack(faces, out, 100)
    assert len(written) == count
    written[:] = ["one"]
    with pytest.raises(KeyboardInterrupt):
        packed.pack(faces, out, 1)
    assert MANIFEST not in packed_objects(bucket, out)  # whose places would not be those of the new files
    assert packed.pack(faces, out, 1) == done
    assert packed_objects(bucket, out) == packed_files(again)
    assert not list(scratch.iterdir())


def test_crops_are_not_packed_over_others(
    bucket: Any, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    fs, name = bucket
    fs.put(f"{faces}/", f"{name}/faces/", recursive=True)
    url = Url(f"s3://{name}/faces")
    before = objects(bucket, url)
    with here(url) as folder, pytest.raises(UsageError, match="another --out"):
        packed.pack(folder, url)
    with pytest.raises(UsageError, match="results of another dfpipe command"):
        packed.pack(faces, url)
    assert objects(bucket, url) == before


def test_the_store_goes_in_the_middle_and_nothing_is_done_twice(
    bucket: Any,
    collection: Path,
    tmp_path: Path,
    small_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    lost_after: Callable[[int], AbstractContextManager[None]],
) -> None:
    """The ledger in the store never names an input whose crops are not there."""
    extract([collection], [], tmp_path / "here", small_config, engine="serial")
    out = Url(f"s3://{bucket[1]}/out")
    monkeypatch.setattr(outbox, "SETTLE_S", 0.0)
    monkeypatch.setattr(outbox, "PAUSE", 0.0)
    # 6 crops for each of 4 clips
    with lost_after(15), pytest.raises(ResourceError, match=r"cannot be written .*connection lost"):
        extract([collection], [], out, small_config, engine="serial")
    assert MANIFEST not in objects(bucket, out)
    store.get(out / LEDGER, tmp_path / LEDGER)
    ledger = Ledger(tmp_path / LEDGER)
    named = {crop["crop"] for _, row in ledger.rows() for crop in row["crop_rows"]}
    ledger.close()
    assert named
    assert named <= set(objects(bucket, out))
    assert extract([collection], [], out, small_config, engine="serial").resumed == len(named) // 6
    assert objects(bucket, out) == tree(tmp_path / "here")


def test_what_was_finished_before_ctrl_c_is_kept(
    bucket: Any, collection: Path, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, step = Url(f"s3://{bucket[1]}/out"), Progress.step

    def stopped(self: Progress, counts: Any) -> None:
        step(self, counts)
        if counts["ok"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            extract([collection], [], out, small_config, engine="serial")
    assert extract([collection], [], out, small_config, engine="serial").resumed == 2


def test_a_place_that_takes_nothing_is_told_before_the_work(
    bucket: Any, collection: Path, small_config: Config
) -> None:
    with pytest.raises(ResourceError, match=r"s3://no-such-bucket/out/ledger.sqlite cannot be"):
        extract([collection], [], Url("s3://no-such-bucket/out"), small_config, engine="serial")


def test_the_command_writes_to_a_store(bucket: Any, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    shutil.copy(clip, tmp_path / "real" / "a.mp4")
    url = f"s3://{bucket[1]}/faces"
    words = ["extract", "--videos", str(tmp_path), "--out", url, "--config", "demo", "--engine", "serial", "-q"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert f"written: {url}\nnext: dfpipe train --data {url}\n" in done.output
    told = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert (told["out"], told["resumed"]) == (url, 1)
