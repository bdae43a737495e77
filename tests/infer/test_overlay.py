"""Overlays of made-up clips and stills, read back; and where the boxes are, by hand."""

import dataclasses
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dfpipe.config import LimitsConfig
from dfpipe.demo import FRAMES, RATE, SIDE, write_clip
from dfpipe.errors import ConfigError, CorruptMedia, ResourceError
from dfpipe.infer import drawing, overlay
from dfpipe.infer.drawing import COLOURS, Mark, shown_size
from dfpipe.infer.overlay import OverlayJob, by_frame, faces_at, overlay_task, start_overlay
from dfpipe.preprocess.readers import open_video
from dfpipe.preprocess.stills import open_image
from dfpipe.types import FaceBox, Frame, Image
from dfpipe.workers import run_all

GREY = 190  # far from the colours of all verdicts
BOX = FaceBox(100, 120, 200, 220, 1.0)


def mark(index: int, time_s: float, track: int = 0, box: FaceBox = BOX, p_fake: float = 0.9) -> Mark:
    return Mark(index, time_s, track, box, p_fake)


def job(path: Path, out: Path, marks: Sequence[Mark] = (), sampled: Sequence[int] = (), **more: Any) -> OverlayJob:
    fields: dict[str, Any] = {"verdicts": {0: "FAKE", 1: "REAL"}, "headline": "", "reader": "auto", **more}
    return OverlayJob(path, out, tuple(marks), sampled=tuple(sampled), limits=LimitsConfig(), **fields)


def read(path: Path) -> list[Frame]:
    with open_video(path) as video:
        return list(video.frames(range(len(video.timeline.times))))


def near(pixel: Any, colour: tuple[int, int, int]) -> bool:
    """Encoding moves a colour, and halves the size at which it is kept."""
    return bool(np.abs(np.asarray(pixel, int) - colour).max() < 45)


def untouched(image: Image) -> bool:
    return bool(np.abs(image.astype(int) - GREY).max() < 12)


def grey_clip(path: Path, frames: int = 12, height: int = 320, width: int = 320) -> Path:
    write_clip(path, (np.full((height, width, 3), GREY, np.uint8) for _ in range(frames)))
    return path


@pytest.fixture
def drawn_text(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All text that is drawn, in order."""
    texts: list[str] = []
    draw = drawing.cv2.putText
    monkeypatch.setattr(drawing.cv2, "putText", lambda c, text, *rest: (texts.append(text), draw(c, text, *rest))[1])
    return texts


# ---- where the faces are ---------------------------------------------------------------------------------------------

TIMES = (0.0, 0.1, 0.2, 0.3, 0.4, 1.4, 1.5, 1.6, 1.7)  # a pause after the fifth frame
SAMPLED = (1, 3, 5, 7)


def boxes_of(seen: Sequence[Mark], sampled: Sequence[int] = SAMPLED) -> dict[int, tuple[float, float]]:
    """Frame to left side and score of track 0, where it is marked."""
    found = {i: faces_at(i, by_frame(seen), sampled, TIMES) for i in range(len(TIMES))}
    return {i: (faces[0].box.x1, faces[0].p_fake) for i, faces in found.items() if faces}


def at(index: int, x1: float, p_fake: float) -> Mark:
    return mark(index, TIMES[index], 0, FaceBox(x1, 20, x1 + 50, 80, 0.9), p_fake)


def test_between_two_frames_the_box_moves_with_time() -> None:
    seen = [at(3, 100, 0.2), at(5, 210, 0.75)]  # at 0.3 s and 1.4 s; frame 4 is shown at 0.4 s, an eleventh of the way
    (face,) = faces_at(4, by_frame(seen), SAMPLED, TIMES)
    assert (face.frame_index, face.time_s, face.track) == (4, 0.4, 0)
    assert (face.box.x1, face.box.y1, face.box.x2, face.box.y2) == pytest.approx((110, 20, 160, 80))
    assert face.p_fake == pytest.approx(0.25)


def test_a_sampled_frame_shows_what_was_seen_in_it() -> None:
    seen = [at(1, 10, 0.1), at(3, 20, 0.2), at(5, 30, 0.3), at(7, 40, 0.4)]
    shown = boxes_of(seen)
    for index, expected in zip(SAMPLED, [(10, 0.1), (20, 0.2), (30, 0.3), (40, 0.4)], strict=True):
        assert shown[index] == pytest.approx(expected)


def test_where_the_person_is_missing_the_box_lasts_half_the_gap() -> None:
    # Seen in frame 3 (0.3 s) alone. Frame 2 lies half-way to frame 1; frame 4 is nearer than half-way to frame 5.
    assert boxes_of([at(3, 10, 0.5)]) == {2: (10, 0.5), 3: (10, 0.5), 4: (10, 0.5)}
    # Seen in frame 5 (1.4 s) alone: frame 4 (0.4 s) is beyond half the gap of 1.1 s, frame 6 just half-way to frame 7.
    assert boxes_of([at(5, 10, 0.5)]) == {5: (10, 0.5), 6: (10, 0.5)}


def test_at_the_ends_of_the_clip_the_box_lasts_half_the_gap_on_its_other_side() -> None:
    assert list(boxes_of([at(i, 10, 0.5) for i in SAMPLED])) == list(range(9))
    # Sampled at 0.2 and 0.3 s only: half the gap, 0.05 s, reaches no other frame.
    assert list(boxes_of([at(2, 10, 0.5), at(3, 10, 0.5)], sampled=(2, 3))) == [2, 3]


def test_one_looked_at_frame_says_nothing_of_others() -> None:
    assert list(boxes_of([at(3, 10, 0.5)], sampled=(3,))) == [3]
    assert boxes_of([], sampled=()) == {}


def test_people_come_and_go_on_their_own() -> None:
    seen = by_frame([mark(1, 0.1, 1), mark(3, 0.3, 1), mark(3, 0.3, 0), mark(5, 1.4, 0)])
    tracks = [[face.track for face in faces_at(i, seen, SAMPLED, TIMES)] for i in range(len(TIMES))]
    assert tracks == [[1], [1], [0, 1], [0, 1], [0, 1], [0], [0], [], []]


def test_shown_size() -> None:
    assert shown_size(1080, 1920) == (720, 1280)
    assert shown_size(3840, 2160) == (1280, 720)
    assert shown_size(240, 320) == (240, 320)
    assert shown_size(241, 319) == (240, 320)
    assert shown_size(1, 5000) == (2, 1280)


# ---- clips -----------------------------------------------------------------------------------------------------------


def test_every_frame_at_its_time_and_changed_only_where_something_is_drawn(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    marks = [mark(i, i / RATE) for i in (12, 36)]
    assert overlay_task(job(clip, out, marks, (12, 36))) == ""
    before, after = read(clip), read(out)
    assert len(after) == FRAMES
    assert [f.time_s for f in after] == pytest.approx([f.time_s for f in before], abs=1e-4)
    for one, two in zip(before, after, strict=True):
        assert np.abs(one.image[240:].astype(int) - two.image[240:]).mean() < 6
        assert near(two.image[170, 100], COLOURS["FAKE"])
        assert near(two.image[220, 150], (179, 64, 11))  # red before blue
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert not container.streams.audio
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before it is all there


def test_the_box_is_there_only_when_the_person_is(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    overlay_task(job(grey_clip(tmp_path / "a.mp4"), out, [mark(2, 2 / RATE)], (2, 6, 10)))
    shown = [not untouched(frame.image) for frame in read(out)]
    assert shown == [True] * 5 + [False] * 7  # frame 2, half-way to frame 6, and as far back


def test_the_verdict_gives_the_colour_and_fake_a_thicker_line(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    places = [FaceBox(40 + 130 * t, 120, 130 + 130 * t, 220, 1.0) for t in range(3)]
    marks = [mark(0, 0.0, t, box) for t, box in enumerate(places)]
    overlay_task(job(grey_clip(tmp_path / "a.mp4", 1, 320, 480), out, marks, (0,)))
    image = read(out)[0].image
    for box, kind in zip(places, ("FAKE", "REAL", "UNCERTAIN"), strict=True):  # nobody said what track 2 is
        assert near(image[170, int(box.x1)], COLOURS[kind]), kind
        assert near(image[114, int(box.x1) + 2], COLOURS[kind]), kind  # the field of the label
        assert untouched(image[140:200, int(box.x1) + 10 : int(box.x2) - 10]), kind
    line = np.abs(image[170].astype(int) - GREY).max(1) > 20
    assert line[30:50].sum() > line[160:180].sum()


def test_people_are_numbered_from_one_and_scores_are_written(tmp_path: Path, drawn_text: list[str]) -> None:
    marks = [mark(0, 0.0, 0, p_fake=0.934), mark(0, 0.0, 11, FaceBox(10, 10, 50, 50, 1.0), 0.0)]
    path = grey_clip(tmp_path / "a.mp4", 1)
    overlay_task(job(path, tmp_path / "out.mp4", marks, (0,), headline="FAKE 0.93 - modèle\n"))
    assert drawn_text == ["person 1  0.93", "person 12  0.00", "FAKE 0.93 - mod?le?"]


def test_the_headline_is_on_a_dark_strip_and_shortened_to_fit(tmp_path: Path, drawn_text: list[str]) -> None:
    path, out = grey_clip(tmp_path / "a.mp4", 1), tmp_path / "out.mp4"
    overlay_task(job(path, out, headline="REAL 0.02 - model " + "long " * 30))
    image = read(out)[0].image
    assert untouched(image[:280])
    assert np.median(image[-12:]) < 60
    assert image[-25:, -60:].max() > 150  # the text reaches the right end
    (text,) = drawn_text
    assert text.startswith("REAL 0.02 - model long")
    assert text.endswith("...")


def test_a_label_covers_no_face_and_no_other_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields: list[tuple[int, int, int, int]] = []
    label = drawing._label
    monkeypatch.setattr(drawing, "_label", lambda *args: fields.append(label(*args)) or fields[-1])
    boxes = [FaceBox(100, 150, 140, 200, 1), FaceBox(160, 145, 200, 190, 1), FaceBox(110, 90, 150, 140, 1)]
    marks = [mark(0, 0.0, t, box) for t, box in enumerate(boxes)]
    overlay_task(job(grey_clip(tmp_path / "a.mp4", 1), tmp_path / "out.mp4", marks, (0,)))
    covered = np.zeros((320, 320), int)
    for x1, y1, x2, y2 in fields + [(int(b.x1), int(b.y1), int(b.x2), int(b.y2)) for b in boxes]:
        covered[y1:y2, x1:x2] += 1
    assert len(fields) == 3
    assert covered.max() == 1


def test_boxes_and_labels_beyond_the_border(tmp_path: Path) -> None:
    box = FaceBox(-1e7, -40, 90, 60, 1.0)
    marks = [mark(0, 0.0, 0, box), mark(0, 0.0, 1, FaceBox(290, 5, 1e7, 100, 1.0))]
    out = tmp_path / "out.mp4"
    overlay_task(job(grey_clip(tmp_path / "a.mp4", 1), out, marks, (0,)))
    image = read(out)[0].image
    assert near(image[30, 90], COLOURS["FAKE"])
    assert near(image[60, 20], COLOURS["FAKE"])
    assert near(image[60, 290], COLOURS["REAL"])
    assert near(image[102:106, 316].mean(0), COLOURS["REAL"])  # no room above: below


def test_a_variable_frame_rate_stays_one(tmp_path: Path) -> None:
    path, out = tmp_path / "vfr.mp4", tmp_path / "out.mp4"
    ticks = [0, 1, 2, 10, 11, 30, 31, 60]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=Fraction(30))
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    overlay_task(job(path, out))
    frames = read(out)
    assert [f.time_s for f in frames] == pytest.approx([t / 30 for t in ticks], abs=1e-3)
    assert [f.image.mean() for f in frames] == pytest.approx([20 * i for i in range(8)], abs=4)


def test_a_long_clip_is_cut(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "OVERLAY_SECONDS", 0.5)
    out = tmp_path / "out.mp4"
    note = overlay_task(job(clip, out, [mark(6, 0.25), mark(40, 40 / RATE)], (6, 40)))
    assert note == "shows the first 0.5 s only"
    assert len(read(out)) == 12


@pytest.mark.parametrize("encoder", overlay.ENCODERS)
def test_odd_and_large_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: str) -> None:
    monkeypatch.setattr(overlay, "ENCODERS", (encoder,))
    monkeypatch.setattr(drawing, "LONGEST_SIDE", 200)
    path, out = tmp_path / "odd.avi", tmp_path / "out.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 401, 203, "yuv420p"
        for _ in range(3):
            image = np.full((203, 401, 3), GREY, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    overlay_task(job(path, out, [mark(i, i / 10, 1, FaceBox(100, 100, 180, 180, 1)) for i in range(3)], range(3)))
    frames = read(out)
    assert [f.image.shape for f in frames] == [(102, 200, 3)] * 3
    assert [f.time_s for f in frames] == pytest.approx([0, 0.1, 0.2], abs=1e-4)
    for frame in frames:
        assert near(frame.image[70, 49:52].mean(0), COLOURS["REAL"])
        assert untouched(frame.image[65:80, 56:84])


def test_a_rotated_clip_is_drawn_upright(tmp_path: Path) -> None:
    plain, turned, out = grey_clip(tmp_path / "a.mp4", 4, 240, 320), tmp_path / "turned.mp4", tmp_path / "out.mp4"
    with av.open(str(plain)) as source, av.open(str(turned), "w") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    overlay_task(job(turned, out, [mark(0, 0.0, 0, FaceBox(60, 200, 160, 300, 1))], (0,)))
    image = read(out)[0].image
    assert image.shape == (320, 240, 3)
    assert near(image[300, 110], COLOURS["FAKE"])


def test_a_damaged_clip_is_drawn_as_far_as_it_can_be_decoded(tmp_path: Path, clip: Path) -> None:
    whole, cut, out = tmp_path / "whole.mp4", tmp_path / "cut.mp4", tmp_path / "out.mp4"
    overlay_task(job(clip, whole))  # its index is in front
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    overlay_task(job(cut, out, [mark(0, 0.0)], (0,)))
    frames = read(out)
    assert 5 < len(frames) < FRAMES
    assert near(frames[0].image[170, 100], COLOURS["FAKE"])
    assert [f.time_s for f in frames] == pytest.approx([i / RATE for i in range(len(frames))], abs=1e-3)


def test_frames_that_fail_are_counted(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = overlay._frames
    monkeypatch.setattr(overlay, "_frames", lambda *args: (f for i, f in enumerate(frames(*args)) if i % 4))
    out = tmp_path / "out.mp4"
    assert overlay_task(job(clip, out)) == "12 of 48 frames could not be decoded"
    kept = [i for i in range(FRAMES) if i % 4]
    # Files start with their first frame: what lies between the frames is kept.
    assert [f.time_s for f in read(out)] == pytest.approx([(i - 1) / RATE for i in kept], abs=1e-3)


def test_two_frames_at_one_time_are_both_kept(tmp_path: Path) -> None:
    images = [np.full((64, 64, 3), level, np.uint8) for level in (40, 120, 200)]
    out = tmp_path / "out.mp4"
    assert overlay._encode(out, iter(zip([0.0, 0.0, 0.5], images, strict=True)), None) == 3
    frames = read(out)
    assert [f.image.mean() for f in frames] == pytest.approx([40, 120, 200], abs=4)
    assert [f.time_s for f in frames] == pytest.approx([0, 0, 0.5], abs=1e-4)


def test_nothing_to_decode_is_corrupt(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "_frames", lambda *_: iter(()))
    with pytest.raises(CorruptMedia, match="no frame"):
        overlay_task(job(clip, tmp_path / "out.mp4"))
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_says_so(clip: Path) -> None:
    with pytest.raises(ResourceError, match="no space left"):
        overlay_task(job(clip, Path("/dev/full")))


# ---- stills ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_stills(save_still: Callable[[str, Image], Path], tmp_path: Path, suffix: str) -> None:
    path, out = save_still("a.png", np.full((300, 400, 3), GREY, np.uint8)), tmp_path / f"out{suffix}"
    assert overlay_task(job(path, out, [mark(0, 0.0, 1)], (0,), headline="REAL")) == ""
    image = open_image(out)
    assert image.shape == (300, 400, 3)
    assert near(image[170, 100], (0, 114, 178))
    assert untouched(image[130:210, 110:190])
    assert image[-10:].mean() < 90
    assert (out.read_bytes()[:4] == b"\x89PNG") == (suffix == ".png")


def test_a_still_asked_for_as_something_else(save_still: Callable[[str, Image], Path], tmp_path: Path) -> None:
    path = save_still("a.png", np.full((30, 40, 3), GREY, np.uint8))
    with pytest.raises(ConfigError, match=r"\.png"):
        overlay_task(job(path, tmp_path / "out.mp4"))


# ---- in a worker -----------------------------------------------------------------------------------------------------


def test_in_killable_workers(clip: Path, tmp_path: Path) -> None:
    good = job(clip, tmp_path / "good.mp4", [mark(0, 0.0)], (0,))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:2000])
    bad = dataclasses.replace(good, path=broken, out=tmp_path / "bad.mp4")
    results = {j.out.name: r for j, r in run_all(overlay_task, [good, bad], setup=start_overlay, workers=1)}
    assert results["good.mp4"] == ""
    assert isinstance(results["bad.mp4"], CorruptMedia)
    assert read(good.out)[0].image.shape == (SIDE, SIDE, 3)
