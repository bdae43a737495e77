import pytest

from dfpipe import doctor, floors
from dfpipe.doctor import CHECKS, examine
from dfpipe.floors import FLOORS, Floor, below, holes_in, installed_versions
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


def test_the_ffmpeg_of_every_wheel_is_told() -> None:
    told = doctor.CHECKS["decoders"]()
    assert [part.split()[0] for part in told.split(", ")] == ["av", "decord2", "opencv-python-headless"]
    assert told.count("(FFmpeg ") == 3
    assert "unknown" not in told


@pytest.mark.parametrize("package", ["av", "decord2"])
def test_an_ffmpeg_with_a_known_hole_is_refused(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ffmpeg_version", lambda name: "8.0.1" if name == package else "8.1.2")
    with pytest.raises(
        RuntimeError, match=f"^{package} .* carries FFmpeg 8.0.1, which has CVE-2026-.* install a newer {package}"
    ):
        doctor.CHECKS["decoders"]()


def test_packages_with_known_holes_are_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        floors, "FLOORS", (Floor("numpy", "99.1", "CVE-1 (bad)"), Floor("not-there", "1", "CVE-2 (worse)"))
    )
    with pytest.raises(RuntimeError, match=r"^numpy [\d.]+ has CVE-1 \(bad\): pip install 'numpy>=99.1'$"):
        doctor.CHECKS["known holes"]()


def test_each_floor_refuses_what_is_older_and_nothing_else() -> None:
    assert {"av", "pillow", "torch", "python-multipart"} <= set(installed_versions())
    assert not holes_in({floor.package: floor.version for floor in FLOORS})
    assert len(holes_in({floor.package: "0.0.1" for floor in FLOORS})) == len(FLOORS)


@pytest.mark.parametrize(
    ("version", "older"),
    [
        ("8.1.1", True),
        ("8.1.2", False),
        ("n8.1.1", True),
        ("8.1.2-1ubuntu1", False),
        ("7.1.5-0+deb13u1", True),
        ("10.0", False),
        ("8.1.2+cpu", False),
        ("N-118000-gabcdef", False),
        ("of unknown version", False),
    ],
)
def test_versions_are_compared_as_numbers(version: str, older: bool) -> None:
    assert below(version, Floor("FFmpeg", "8.1.2", "")) is older


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
