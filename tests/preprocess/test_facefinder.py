from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from dfpipe.config import FacesConfig, LimitsConfig
from dfpipe.demo import SOURCES, clip_frames, write_clip
from dfpipe.errors import CorruptMedia, TooLargeMedia
from dfpipe.preprocess import facefinder
from dfpipe.preprocess.crops import crop_face
from dfpipe.preprocess.facefinder import FaceFinder, typical_crop_scale
from dfpipe.preprocess.readers import open_video
from dfpipe.types import FaceBox, Image, Label, State


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder(FacesConfig(frames=12), LimitsConfig())


def test_a_clip_of_one_face(finder: FaceFinder, clip: Path) -> None:
    found = finder.find(clip)
    assert (found.state, found.kind, found.reason) == (State.OK, "video", "")
    assert (found.frames_wanted, found.frames_decoded, found.frames_with_face) == (12, 12, 12)
    assert {c.track for c in found.crops} == {0}
    assert all(c.image.shape == (256, 256, 3) for c in found.crops)


def test_crops_are_cut_from_the_full_frame(finder: FaceFinder, clip: Path) -> None:
    crop = finder.find(clip).crops[5]
    with open_video(clip) as video:
        (frame,) = video.frames([crop.frame_index])
    np.testing.assert_array_equal(crop.image, crop_face(frame.image, crop.box, 1.3, 256))


def test_two_people_are_two_tracks(finder: FaceFinder, tmp_path: Path) -> None:
    both = zip(clip_frames(SOURCES, Label.REAL), clip_frames(SOURCES + 1, Label.REAL), strict=True)
    write_clip(tmp_path / "two.mp4", (np.hstack(pair) for pair in both))
    found = finder.find(tmp_path / "two.mp4")
    assert {c.track for c in found.crops} == {0, 1}
    for track in (0, 1):
        xs = [c.box.x1 for c in found.crops if c.track == track]
        assert len(xs) == 12
        assert max(xs) - min(xs) < 160  # nobody changes sides


def test_a_face_seen_once_is_dropped_and_counted(finder: FaceFinder, tmp_path: Path) -> None:
    frames = list(clip_frames(0, Label.REAL))
    grey = np.full_like(frames[0], 90)
    shown = uniform_middle(len(frames), 12, 5)
    write_clip(tmp_path / "once.mp4", (f if i == shown else grey for i, f in enumerate(frames)))
    found = finder.find(tmp_path / "once.mp4")
    assert (found.state, found.tracks_dropped, found.crops) == (State.NO_FACE, 1, ())


def uniform_middle(frames: int, wanted: int, place: int) -> int:
    from dfpipe.preprocess.sampling import uniform

    return uniform(frames, wanted)[place]


def test_who_is_sure_in_two_frames_keeps_the_frames_in_which_it_is_not() -> None:
    grey = np.zeros((8, 8, 3), np.uint8)

    def seen(index: int, *confidences: float) -> facefinder._Seen:
        boxes = [FaceBox(300 * i, 0, 300 * i + 100, 100, c) for i, c in enumerate(confidences)]
        return facefinder._Seen(index, float(index), boxes, [grey] * len(boxes))

    frames = [seen(0, 0.95, 0.75), seen(1, 0.75, 0.95), seen(2, 0.75, 0.75), seen(3, 0.95, 0.75)]
    crops, dropped = facefinder._by_person(frames, 0.9)
    assert [(crop.frame_index, crop.track, crop.box.x1) for crop in crops] == [(i, 0, 0) for i in range(4)]
    assert dropped == 1  # who is sure once; who never is counts as nobody
    assert facefinder._by_person([seen(0, 0.75), seen(1, 0.75)], 0.9) == ((), 0)


def test_no_face(finder: FaceFinder, faceless_clip: Path) -> None:
    found = finder.find(faceless_clip)
    assert (found.state, found.reason, found.crops) == (State.NO_FACE, "no face found", ())


def test_stills(finder: FaceFinder, save_still: Callable[[str, Image], Path], portrait: Image) -> None:
    found = finder.find(save_still("a.png", portrait))
    assert (found.state, found.kind, len(found.crops)) == (State.OK, "image", 1)
    whole = finder.find(save_still("b.png", portrait[::2, ::2]), as_is=True)
    assert whole.crops[0].image.shape == (256, 256, 3)
    np.testing.assert_array_equal(whole.crops[0].image, portrait[::2, ::2])
    assert finder.find(save_still("c.png", np.zeros((1, 1, 3), np.uint8))).state is State.NO_FACE


def test_as_many_faces_as_are_kept_is_told(
    finder: FaceFinder, save_still: Callable[[str, Image], Path], portrait: Image
) -> None:
    path = save_still("one.png", portrait)
    found = FaceFinder(FacesConfig(max_faces=1), LimitsConfig()).find(path)
    assert (found.state, len(found.crops)) == (State.OK, 1)
    assert "as many as are kept (preprocess.faces.max_faces)" in found.reason
    assert finder.find(path).reason == ""


def test_what_a_limit_leaves_out_makes_a_clip_partial(clip: Path) -> None:
    found = FaceFinder(FacesConfig(frames=12), LimitsConfig(scan_frames=20)).find(clip)
    assert (found.state, found.frames_wanted, found.frames_decoded) == (State.PARTIAL, 12, 5)
    assert found.reason == (
        "7 wanted frames would take more decoded ones than the limit of 20 (preprocess.limits.scan_frames)"
    )
    with pytest.raises(TooLargeMedia, match=r"the limit of 1 \(preprocess\.limits\.scan_frames\)"):
        FaceFinder(FacesConfig(frames=12), LimitsConfig(scan_frames=1)).find(clip)


def test_animations(finder: FaceFinder, tmp_path: Path, portrait: Image) -> None:
    first = PillowImage.fromarray(portrait)
    others = [PillowImage.fromarray(np.roll(portrait, 4 * i, axis=1)) for i in range(1, 4)]
    for kind in ("WEBP", "PNG", "TIFF"):
        first.save(tmp_path / "a", kind, save_all=True, append_images=others)
        found = finder.find(tmp_path / "a")
        assert (found.state, found.kind, len(found.crops)) == (State.PARTIAL, "image", 1)
        assert found.reason == "the file holds 4 pictures: only the first was looked at"
    first.save(tmp_path / "a", "GIF", save_all=True, append_images=others, duration=80)
    assert FaceFinder(FacesConfig(frames=12), LimitsConfig()).find(tmp_path / "a").reason == ""
    found = FaceFinder(FacesConfig(frames=12), LimitsConfig(animation_frames=3)).find(tmp_path / "a")
    assert (found.state, found.kind, found.frames_decoded) == (State.PARTIAL, "video", 3)
    assert found.reason.startswith(
        "an animation of 4 pictures is over the limit of 3 (preprocess.limits.animation_frames)"
    )


@pytest.mark.parametrize("reader", ["auto", "pyav"])
def test_a_clip_may_change_its_size(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "grows.ts"
    data = b""
    for side in (320, 480):
        write_clip(tmp_path / "a.mp4", (cv2.resize(frame, (side, side)) for frame in clip_frames(0, Label.REAL)))
        with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "a.ts"), "w") as sink:
            stream = sink.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    sink.mux(packet)
        data += (tmp_path / "a.ts").read_bytes()
    path.write_bytes(data)
    found = FaceFinder(FacesConfig(frames=12, reader=reader), LimitsConfig()).find(path)
    assert (found.state, found.frames_with_face) == (State.OK, 12)


def test_damaged_clips_are_partial_with_a_reason(real_data: Path) -> None:
    finder = FaceFinder(FacesConfig(frames=8), LimitsConfig())
    found = finder.find(real_data / "odd/made/moov_first_cut60pct.mp4")
    assert found.state is State.PARTIAL
    assert "117 of 216" in found.reason
    with pytest.raises(CorruptMedia):
        finder.find(real_data / "odd/made/moov_last_cut60pct.mp4")


def test_framing_of_stills(finder: FaceFinder, save_still: Callable[[str, Image], Path], portrait: Image) -> None:
    tight = finder.crop_scale_of(save_still("tight.png", portrait[60:180, 165:285].copy()))
    wide = finder.crop_scale_of(save_still("wide.png", portrait))
    assert tight is not None
    assert wide is not None
    assert tight == pytest.approx(120 / 112, rel=0.15)
    assert wide == pytest.approx(512 / 112, rel=0.1)
    assert finder.crop_scale_of(save_still("none.png", np.zeros((99, 99, 3), np.uint8))) is None


@pytest.mark.parametrize(
    ("scales", "expected"),
    [([0.8, 0.9, 1.0], 0.9), ([0.8, 0.9, None], 0.85), ([0.8, None, None], None), ([2.0, 3.0, 0.9], None), ([], None)],
)
def test_when_a_set_counts_as_crops(scales: list[float | None], expected: float | None) -> None:
    assert typical_crop_scale(scales) == expected
