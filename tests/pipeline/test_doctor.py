import pytest

from dfpipe import doctor
from dfpipe.doctor import CHECKS, examine, ffmpeg_version


def test_this_install_is_sound() -> None:
    said: list[str] = []
    checks = list(examine(said.append))
    assert [c.name for c in checks] == list(CHECKS)
    assert all(c.passed for c in checks), said
    assert len(said) == len(checks)


def test_a_broken_part_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "KNOWN_FACE", (0.0, 0.0, 10.0, 10.0))
    monkeypatch.setattr(doctor, "MIN_PYTHON", (9, 9))
    monkeypatch.setattr(doctor, "CLASHES", (("torch", "numpy"),))
    failed = {c.name: c.detail for c in examine(lambda _: None) if not c.passed}
    assert set(failed) == {"python", "face detector", "packages"}
    assert "not found where it is" in failed["face detector"]


def test_ffmpeg_versions_are_read_from_the_libraries() -> None:
    assert ffmpeg_version("av")[0].isdigit()
    assert ffmpeg_version("click") == "of unknown version"
