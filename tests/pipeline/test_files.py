import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfpipe.errors import UnreadableMedia, UsageError
from dfpipe.files import atomic_file, atomic_folder, locked, sha256_file, sweep


def test_atomic_file_replaces_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"


def test_atomic_file_keeps_the_old_content_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_file(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_output_below_a_file_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another --out"), locked(tmp_path / "file" / "out"):
        pass


def test_a_folder_is_held_by_one_run_and_freed_by_its_death(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from dfpipe.files import locked
with locked(Path({str(tmp_path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match="another run"), locked(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with locked(tmp_path):
        pass


def test_sweep_removes_only_leftovers(tmp_path: Path) -> None:
    (tmp_path / ".tmp-1-x").mkdir()
    (tmp_path / ".tmp-1-x" / "a.jpg").write_text("")
    (tmp_path / ".tmp-2-manifest").write_text("")
    (tmp_path / "kept").write_text("")
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["kept"]


def test_sweep_goes_deep_when_asked(tmp_path: Path) -> None:
    (tmp_path / "run" / ".tmp-1-x" / ".tmp-2-y").mkdir(parents=True)
    (tmp_path / "run" / ".tmp-3-state.pt").write_text("")
    sweep(tmp_path)
    assert len(list((tmp_path / "run").iterdir())) == 2
    sweep(tmp_path, deep=True)
    assert list((tmp_path / "run").iterdir()) == []


def test_the_next_attempt_removes_what_a_killed_one_left_but_not_what_a_living_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "model [1].safetensors"
    code = f"""
import sys
from pathlib import Path
from dfpipe.files import atomic_file
with atomic_file(Path({str(path)!r})) as temporary:
    temporary.write_text("half")
    print("begun", flush=True)
    sys.stdin.read()
"""
    writer = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "begun\n"
    (tmp_path / f".tmp-{writer.pid}-another file").write_text("")
    left = {p.name for p in tmp_path.iterdir()}
    assert len(left) == 2
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {*left, path.name}
    writer.kill()
    writer.communicate()
    with atomic_file(path) as temporary:
        temporary.write_text("whole again")
    assert {p.name for p in tmp_path.iterdir()} == {f".tmp-{writer.pid}-another file", path.name}


def test_everything_is_flushed_before_the_rename_and_the_folder_above_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[int, bool]] = []
    final = tmp_path / "final"
    real = os.fsync

    def noted(handle: int) -> None:
        flushed.append((os.fstat(handle).st_ino, final.exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", noted)
    with atomic_folder(final) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text("a")
        (folder / "b").write_text("b")
    inside = [final, final / "deep", final / "deep" / "a", final / "b"]
    assert sorted(flushed) == sorted([*((p.stat().st_ino, False) for p in inside), (tmp_path.stat().st_ino, True)])
    flushed.clear()
    final = tmp_path / "file"
    with atomic_file(final) as temporary:
        temporary.write_text("a")
    assert flushed == [(final.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")  # FIPS 180-2, appendix B.1
    with pytest.raises(UnreadableMedia):
        sha256_file(tmp_path / "b")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a") as folder:
        (folder / "old").touch()
        assert not (tmp_path / "a").exists()
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "a") as folder:
        (folder / "new").touch()
        raise RuntimeError
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["old"]
    with atomic_folder(tmp_path / "a") as folder:
        (folder / "new").touch()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
