"""One contract over every reader; real files where they are there."""

import ctypes
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as PillowImage

from dfpipe.config import LimitsConfig
from dfpipe.demo import FRAMES, RATE, SIDE, clip_frames, write_clip
from dfpipe.errors import ConfigError, CorruptMedia, MediaError, TooLargeMedia, UnsupportedMedia
from dfpipe.preprocess import readers
from dfpipe.preprocess.containers import media_kind
from dfpipe.preprocess.ffmpeg import library
from dfpipe.preprocess.headers import OPEN_OPTIONS
from dfpipe.preprocess.readers import READERS, open_video
from dfpipe.preprocess.sampling import uniform
from dfpipe.preprocess.stills import open_image, open_still
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


def write_streams(path: Path, codecs: Sequence[str]) -> None:
    """A clip of ten frames in each of some streams; the first has the most pixels, so that it is the one shown."""
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream(codec, rate=25) for codec in codecs]
        for place, stream in enumerate(streams):
            stream.width = stream.height = 16 if place else 320
            stream.pix_fmt = "gbrp" if stream.name == "magicyuv" else "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(10):
            for stream in streams:
                noise = rng.integers(0, 256, (stream.height, stream.width, 3), np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))


def write_grey(path: Path, codec: str, side: int, frames: int) -> Path:
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "threads": "1"} if codec == "libx264" else {}
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            grey = av.VideoFrame(side, side, "yuv420p")
            for plane in grey.planes:
                plane.update(bytes(plane.buffer_size))
            container.mux(stream.encode(grey))
        container.mux(stream.encode(None))
    return path


def write_animation(path: Path, kind: str, count: int) -> None:
    pictures = [PillowImage.fromarray(np.full((16, 16, 3), 40 + 5 * i, np.uint8)) for i in range(count)]
    pictures[0].save(
        path, kind, save_all=True, append_images=pictures[1:], **({"duration": 80} if kind == "GIF" else {})
    )


def convert(clip: Path, path: Path, kind: str) -> None:
    with av.open(str(clip)) as source, av.open(str(path), "w", format=kind) as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                sink.mux(packet)


class _Demuxer(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p),)  # the first field of AVInputFormat


def demuxers(package: str) -> set[str] | None:
    """The formats that the FFmpeg of a wheel reads, None where the wheel brings none."""
    avformat = library(package, "libavformat")
    if avformat is None:
        return None
    avformat.av_demuxer_iterate.restype = ctypes.POINTER(_Demuxer)
    place = ctypes.c_void_p()
    return {
        d.contents.name.decode() for d in iter(lambda: avformat.av_demuxer_iterate(ctypes.byref(place)) or None, None)
    }


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


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

    @pytest.mark.parametrize(
        ("over", "unit"),
        [({"frame_megapixels": 0.05}, "megapixels"), ({"duration_s": 1.0}, "s"), ({"file_gb": 1e-6}, "GB")],
        ids=("frame_megapixels", "duration_s", "file_gb"),
    )
    def test_limits_hold_before_decoding_and_are_named(
        self, clip: Path, reader: str, over: dict[str, float], unit: str
    ) -> None:
        ((setting, value),) = over.items()
        named = rf"over the limit of {value:g} {unit} \(preprocess\.limits\.{setting}\)"
        with pytest.raises(TooLargeMedia, match=named), open_video(clip, reader, LimitsConfig(**over)):  # type: ignore[arg-type]
            pass

    def test_streams_are_counted_before_decoding(self, tmp_path: Path, reader: str) -> None:
        path = tmp_path / "many.mkv"
        write_streams(path, ["mpeg4"] * 5)
        with open_video(path, reader, LimitsConfig(streams=5)) as video:
            assert len(list(video.frames([0]))) == 1
        named = r"5 streams are over the limit of 4 \(preprocess\.limits\.streams\)"
        with pytest.raises(TooLargeMedia, match=named), open_video(path, reader, LimitsConfig(streams=4)):
            pass

    def test_frames_that_cost_too_many_others_are_left_out_and_told(self, clip: Path, reader: str) -> None:
        with open_video(clip, reader, LimitsConfig(scan_frames=20)) as video:
            assert [f.index for f in video.frames([5, 19, 30, 47])] == [5, 19]
            assert video.left_out == (
                "2 wanted frames would take more decoded ones than the limit of 20 (preprocess.limits.scan_frames)"
            )
            assert video.damage == ""
            assert [f.index for f in video.frames([5, 19])] == [5, 19]
            assert video.left_out == ""

    @pytest.mark.parametrize("name", ["concat:a.mp4", "http:a.mp4", "subfile,,start,0,end,0,,:a.mp4", "pipe:0"])
    def test_a_name_is_never_a_protocol(self, clip: Path, elsewhere: Path, reader: str, name: str) -> None:
        shutil.copy(clip, elsewhere / name)
        with open_video(Path(name), reader) as video:
            assert len(list(video.frames([0, 9]))) == 2

    def test_no_playlist_behind_a_known_head_is_followed(self, clip: Path, tmp_path: Path, reader: str) -> None:
        """Formats that name other files, dressed as containers: whatever comes of them, nothing of that file does."""
        convert(clip, tmp_path / "target.ts", "mpegts")
        for head in (b"", b"FLV\x01\n", b"\x00\x00\x01\xb3\n", b"G" + b"\n" * 187 + b"G", b"\x00\x00\x00\x09moov\n"):
            for text in (
                "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\ntarget.ts\n#EXT-X-ENDLIST\n",
                "ffconcat version 1.0\nfile target.ts\n",
                "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
            ):
                path = tmp_path / "dressed.m3u8"  # FFmpeg follows no list of another name
                path.write_bytes(head + text.encode())
                with pytest.raises(MediaError), open_video(path, reader):
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
    write_streams(path, ["magicyuv"])
    with pytest.raises(UnsupportedMedia, match="magicyuv"), open_video(path):
        pass


def test_decord_does_not_open_the_decoder_of_a_second_stream_that_we_refuse(tmp_path: Path) -> None:
    path = tmp_path / "two.avi"
    write_streams(path, ["mpeg4", "magicyuv"])
    with open_video(path) as video:
        assert video.info.codec == "mpeg4"
        assert len(list(video.frames([0, 9]))) == 2
        assert video.info.reader == "pyav"
    with (
        pytest.raises(CorruptMedia, match="must not open it: a stream of codec magicyuv"),
        open_video(path, "decord"),
    ):
        pass


def test_probing_runs_no_decoder_that_we_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "magic.avi"
    write_streams(path, ["magicyuv"])
    with av.open(str(path)) as container:
        assert container.streams.video[0].pix_fmt == "gbrp"  # only the decoder knows it
    with av.open(str(path), options=OPEN_OPTIONS) as container:
        assert container.streams.video[0].pix_fmt is None


def test_every_format_that_decords_ffmpeg_recognises_is_known_to_pyavs() -> None:
    """Decord takes no list of allowed formats: it is enough that PyAV, which has one, recognises the same."""
    known, seen = demuxers("av"), demuxers("decord2")
    if known is None or seen is None:
        pytest.skip("these decoders use the system's FFmpeg: one library for both")
    assert {"mov,mp4,m4a,3gp,3g2,mj2", "hls", "concat"} <= seen
    assert seen <= known


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_size_over_the_limit_in_mid_stream(tmp_path: Path, codec: str) -> None:
    """Three clips one after the other as a transport stream; the picture in the middle is larger than a plane of 64 MB."""
    path = tmp_path / "grows.ts"
    side = 8192 if codec == "libx264" else 2000
    parts = [write_grey(tmp_path / f"{i}.ts", codec, *size) for i, size in enumerate([(320, 8), (side, 1), (320, 8)])]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    limits = LimitsConfig(frame_megapixels=2)
    for reader in ("auto", "pyav") if codec == "libx264" else ("pyav",):  # decord is bounded from 64 MB a plane on
        with open_video(path, reader, limits) as video:
            frames = list(video.frames(range(len(video.timeline.times))))
            assert {f.image.shape for f in frames} == {(320, 320, 3)}
            assert len(frames) >= 14
            named = r"have no size, or one over the limit of 2 megapixels \(preprocess.limits.frame_megapixels\)"
            assert re.search(named, video.left_out)
    if codec == "libx264":
        with pytest.raises(CorruptMedia), open_video(path, "decord", limits) as video:
            list(video.frames(range(len(video.timeline.times))))


def test_a_long_animation_is_cut_and_told(tmp_path: Path) -> None:
    path = tmp_path / "long.gif"
    write_animation(path, "GIF", 30)
    for reader in ("auto", "pyav"):
        with open_video(path, reader) as video:
            assert (len(video.timeline.times), video.left_out) == (30, "")
        with open_video(path, reader, LimitsConfig(animation_frames=10, duration_s=1)) as video:
            assert len(video.timeline.times) == 10
            assert [f.index for f in video.frames([0, 9])] == [0, 9]
            assert video.left_out == (
                "an animation of 30 pictures is over the limit of 10 (preprocess.limits.animation_frames): "
                "only the first were looked at"
            )
            assert video.damage == ""


def test_more_time_is_asked_for_by_size_and_duration(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(readers, "allow", asked.append)
    limits = LimitsConfig(seconds=0.1)
    with open_video(clip, "pyav", limits):
        pass
    assert asked == [0.1, pytest.approx(2 * FRAMES / RATE, abs=0.1)]  # by size first, for the headers


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


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_only_the_first_of_several_pictures_is_read_and_that_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "several"
    write_animation(path, kind, 5)
    still = open_still(path)
    assert still.left_out == "the file holds 5 pictures: only the first was looked at"
    assert abs(int(still.image[0, 0, 0]) - 40) < 5
    write_animation(path, kind, 1)
    assert open_still(path).left_out == ""
    write_animation(path, "TIFF", 5)
    assert "at least 3 pictures" in open_still(path, LimitsConfig(animation_frames=3)).left_out


def test_further_views_in_a_phones_jpeg_and_thumbnails_in_a_tiff_are_no_animation(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write_animation(path, "MPO", 3)
    with PillowImage.open(path) as picture:
        assert picture.n_frames == 3  # type: ignore[attr-defined]
    assert open_still(path).left_out == ""
    small = PillowImage.new("RGB", (4, 4))
    small.encoderinfo = {"tiffinfo": {254: 1}}  # type: ignore[attr-defined]
    PillowImage.new("RGB", (8, 8)).save(tmp_path / "a.tif", save_all=True, append_images=[small])
    assert open_still(tmp_path / "a.tif").left_out == ""


def test_size_limits_of_stills_are_named(save_still: Callable[[str, Image], Path]) -> None:
    path = save_still("a.png", np.zeros((300, 300, 3), np.uint8))
    for limits, named in (
        (LimitsConfig(image_megapixels=0.05), r"0\.05 megapixels \(preprocess\.limits\.image_megapixels\)"),
        (LimitsConfig(file_gb=1e-8), r"1e-08 GB \(preprocess\.limits\.file_gb\)"),
    ):
        with pytest.raises(TooLargeMedia, match=f"over the limit of {named}"):
            open_still(path, limits)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_texts_and_profiles_that_unpack_without_end_are_corrupt(kind: bytes) -> None:
    bomb = b"a\0" + (b"\0" if kind != b"iTXt" else b"\1\0\0\0") + zlib.compress(bytes(50_000_000), 9)
    png = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)) + chunk(kind, bomb)
    png += chunk(b"IDAT", zlib.compress(bytes(20))) + chunk(b"IEND", b"")
    with pytest.raises(CorruptMedia, match="too large"):
        open_still(b"\x89PNG\r\n\x1a\n" + png)


def test_a_broken_second_page_does_not_cost_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_animation(path, "TIFF", 2)
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<I", data, 4)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * struct.unpack_from("<H", data, first)[0])
    data[second + 2 : second + 4] = b"\xff\x00"  # what was the tag of the width
    path.write_bytes(data)
    assert open_still(path).image.shape == (16, 16, 3)


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


# ---- pictures that are passed over -----------------------------------------------------------------------------------


def write_moving(path: Path, codec: str) -> Path:
    """Sixty frames of moving noise, with pictures between others to which none refers."""
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (64, 160, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options={"bf": "2", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 64, "yuv420p", 400_000
        for i in range(60):
            picture = np.ascontiguousarray(noise[:, i : i + 64])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", ".mp4"), ("mpeg4", ".mp4"), ("mpeg1video", ".mkv"), ("mpeg2video", ".mkv")]
)
def test_passing_over_pictures_changes_no_pixel(
    codec: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_moving(tmp_path / f"moving{suffix}", codec)
    wanted = [0, 1, 7, 8, 20, 33, 34, 35, 58]
    decoded: list[int] = []

    class Counting(readers.PyAVReader):
        def _decode(self, *args: Any) -> Any:
            for found in super()._decode(*args):
                decoded.append(1)
                yield found

    def read() -> tuple[list[tuple[int, float]], list[Image], int]:
        decoded.clear()
        with open_video(path, "counting") as video:
            frames = list(video.frames(wanted))
        return [(frame.index, frame.time_s) for frame in frames], [frame.image for frame in frames], len(decoded)

    monkeypatch.setitem(READERS, "counting", Counting)
    places, images, count = read()
    monkeypatch.setattr(readers, "_PASSED_OVER", frozenset[str]())
    all_places, all_images, whole = read()
    assert places == all_places
    assert [index for index, _ in places] == wanted
    assert count < 0.75 * whole
    for one, other in zip(images, all_images, strict=True):
        np.testing.assert_array_equal(one, other)


def test_auto_asks_pyav_where_pictures_can_be_passed_over_and_else_decord(tmp_path: Path) -> None:
    with open_video(write_moving(tmp_path / "a.mp4", "libx264")) as video:
        assert video.info.reader == "pyav"
    write_animation(tmp_path / "b.gif", "GIF", 5)
    with open_video(tmp_path / "b.gif") as video:
        assert video.info.reader == "decord"
