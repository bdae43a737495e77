import pytest

from dfpipe import doctor
from dfpipe.doctor import CHECKS, examine
from dfpipe.preprocess.ffmpeg import ffmpeg_version


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


def test_the_model_that_ships_answers_as_where_it_was_made() -> None:
    check = doctor.selftest(lambda _: None)
    assert check.passed, check.detail
    assert "real" in check.detail


def test_a_wrong_answer_of_the_model_that_ships_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "selftest_answers", lambda model: {"real": -1.0, "fake": 2.0})
    said: list[str] = []
    check = doctor.selftest(said.append)
    assert not check.passed
    assert "real -1.000 instead of 0." in check.detail
    assert said[0].startswith("FAIL self-test")
    monkeypatch.setattr("dfpipe.infer.embedded.embedded_model", lambda: None)
    assert "comes without a model" in doctor.selftest(said.append).detail
