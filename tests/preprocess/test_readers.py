"""One contract over every reader; real files where they are there."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as PillowImage

from dfpipe.config import LimitsConfig
from dfpipe.demo import FRAMES, RATE, SIDE, clip_frames, write_clip
from dfpipe.errors import ConfigError, CorruptMedia, MediaError, TooLargeMedia, UnsupportedMedia
from dfpipe.preprocess.containers import media_kind
from dfpipe.preprocess.readers import READERS, open_image, open_video
from dfpipe.preprocess.sampling import uniform
from dfpipe.types import Image, Label

ODD_BROKEN = {  # what the broken files of the real data may end as; everything else must play
    "corrupted.mp4": "damaged",
    "bitflips_mdat.mp4": "damaged",
    "moov_first_cut60pct.mp4": "damaged",
    "fragmented_cut60pct.mp4": "damaged",
    "moov_last_cut60pct.mp4": "corrupt",
    "stsz_huge_count.mp4": "corrupt",
    "empty.mp4": "corrupt",
    "text.mp4": "unsupported",
    "html_404.mp4": "unsupported",
    "random_64k.mp4": "unsupported",
    "unknown_fourcc.mp4": "unsupported",
    "audio_only.mp4": "unsupported",
}


@pytest.mark.parametrize("reader", READERS)
class TestEveryReader:
    def test_frames_times_and_colours(self, clip: Path, reader: str) -> None:
        made = list(clip_frames(0, Label.REAL))
        with open_video(clip, reader) as video:
            assert len(video.timeline.times) == FRAMES
            frames = list(video.frames([0, 7, 8, 30, 47]))
            assert (video.info.width, video.info.height, video.info.codec) == (SIDE, SIDE, "h264")
            assert video.damage == ""
        assert [f.index for f in frames] == [0, 7, 8, 30, 47]
        for frame in frames:
            assert frame.time_s == pytest.approx(frame.index / RATE, abs=1e-4)
            assert frame.image.dtype == np.uint8
            # RGB, right frame, and nothing shifted: the encoder changes a pixel by a few levels only
            assert np.abs(frame.image.astype(int) - made[frame.index]).mean() < 4

    def test_asking_for_nothing(self, clip: Path, reader: str) -> None:
        with open_video(clip, reader) as video:
            assert list(video.frames([])) == []

    @pytest.mark.parametrize("degrees", [90, 180, 270])
    def test_rotated_clips_come_upright(self, clip: Path, tmp_path: Path, reader: str, degrees: int) -> None:
        turned = tmp_path / "turned.mp4"
        with av.open(str(clip)) as source, av.open(str(turned), "w") as sink:
            stream = sink.add_stream_from_template(source.streams.video[0])
            stream.set_display_rotation(degrees)
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    sink.mux(packet)
        with open_video(clip, reader) as plain, open_video(turned, reader) as video:
            (expected,) = plain.frames([20])
            (frame,) = video.frames([20])
        np.testing.assert_array_equal(frame.image, np.rot90(expected.image, degrees // 90))

    def test_presentation_times_of_a_variable_frame_rate(self, tmp_path: Path, reader: str) -> None:
        path = tmp_path / "vfr.mp4"
        ticks = [0, 1, 2, 10, 11, 30, 31, 60]
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=Fraction(30))
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            for i, tick in enumerate(ticks):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 20 * i, np.uint8), format="rgb24")
                frame.pts, frame.time_base = tick, Fraction(1, 30)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        with open_video(path, reader) as video:
            frames = list(video.frames(range(len(ticks))))
        assert [f.time_s for f in frames] == pytest.approx([t / 30 for t in ticks], abs=1e-3)

    def test_limits_hold_before_decoding(self, clip: Path, reader: str) -> None:
        for limits in (
            LimitsConfig(frame_megapixels=0.05),
            LimitsConfig(duration_s=1.0),
            LimitsConfig(file_gb=1e-6),
        ):
            with pytest.raises(TooLargeMedia), open_video(clip, reader, limits):
                pass

    @pytest.mark.parametrize("name", sorted(n for n, end in ODD_BROKEN.items() if end != "damaged"))
    def test_broken_files_end_in_their_state(self, real_data: Path, name: str, reader: str) -> None:
        (path,) = (real_data / "odd").rglob(name)
        with pytest.raises(MediaError) as error:
            media_kind(path)
            with open_video(path, reader) as video:
                list(video.frames(uniform(len(video.timeline.times), 8)))
        assert error.value.state == ODD_BROKEN[name]


def test_auto_saves_what_it_can(real_data: Path) -> None:
    odd = [p for p in sorted((real_data / "odd").rglob("*")) if p.is_file() and p.name not in ODD_BROKEN]
    odd += [p for p in sorted((real_data / "odd").rglob("*")) if ODD_BROKEN.get(p.name) == "damaged"]
    assert len(odd) > 60
    for path in odd:
        if media_kind(path) == "image":
            assert open_image(path).ndim == 3
            continue
        with open_video(path) as video:
            wanted = uniform(len(video.timeline.times), 8)
            frames = list(video.frames(wanted))
            damaged = bool(video.damage) or len(frames) < len(wanted)
        assert frames, path
        assert damaged == (path.name in ODD_BROKEN), (path, video.damage)
        times = [f.time_s for f in frames]
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] < 60, path


def test_a_cut_file_is_damaged(clip: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    with av.open(str(clip)) as source, av.open(str(whole), "w", options={"movflags": "faststart"}) as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with open_video(cut) as video:
        frames = list(video.frames(uniform(len(video.timeline.times), 8)))
        assert 0 < len(frames) <= 8
        assert "48" in video.damage
        assert video.info.reader == "pyav"
    with pytest.raises(CorruptMedia), open_video(cut, "decord") as video:
        list(video.frames(uniform(48, 8)))


def test_unknown_reader(clip: Path) -> None:
    with pytest.raises(ConfigError, match="pyav"), open_video(clip, "ffmpeg"):
        pass


def test_a_codec_outside_the_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "magic.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("magicyuv", rate=Fraction(5))
        stream.width = stream.height = 64
        stream.pix_fmt = "gbrp"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(UnsupportedMedia, match="magicyuv"), open_video(path):
        pass


# ---- stills ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    picture = PillowImage.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3)
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    turned = {1: 0, 2: 0, 3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}[orientation]
    mirrored = orientation in (2, 4, 5, 7)
    expected = np.rot90(np.asarray(picture), turned)
    expected = expected[:, ::-1] if mirrored else expected
    np.testing.assert_array_equal(open_image(tmp_path / "a.png"), expected)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    PillowImage.new("RGB", (10, 5), (255, 255, 255)).convert(mode).save(path)
    image = open_image(path)
    assert image.shape == (5, 10, 3)
    assert image.mean() > 250


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    PillowImage.fromarray(np.full((4, 4), 0x8000, np.uint16)).save(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").mean() == 128


def test_picture_bombs_are_refused_before_decoding(save_still: Callable[[str, Image], Path]) -> None:
    path = save_still("a.png", np.zeros((300, 300, 3), np.uint8))
    with pytest.raises(TooLargeMedia):
        open_image(path, LimitsConfig(image_megapixels=0.05))


def test_cut_pictures_are_corrupt(save_still: Callable[[str, Image], Path], portrait: Image) -> None:
    path = save_still("a.jpg", portrait)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CorruptMedia):
        open_image(path)


def test_the_same_frames_make_the_same_clip(tmp_path: Path) -> None:
    """Whatever is measured on made-up clips would otherwise differ from run to run."""
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / name, clip_frames(3, Label.FAKE))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
