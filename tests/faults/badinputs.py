"""The table of bad inputs: how each is made, what it is called, and in which state it must end."""

import os
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import badmedia as made
import numpy as np
from PIL import Image as PillowImage

from dfpipe.preprocess.containers import IMAGE_SUFFIXES, VIDEO_SUFFIXES

READ = frozenset({"ok", "partial", "no_face"})  # what can be said of a file that could be read
REFUSED = frozenset({"unsupported", "corrupt"})
DAMAGED = frozenset({"partial", "corrupt"})
ANY = READ | REFUSED | {"too_large"}


@dataclass(frozen=True)
class Input:
    """One bad input.

    Args:
        make: Writes it, given its path.
        name: Of the file.
        states: In which it may end.
        reason: What the reason must say.
        entry: Inside `name`, an archive; "*" = whatever of it is judged.
        as_upright: Name of the file that shows the same face in the same place.
        passed_over: It is no media, and must not be judged.
        only_infer: `dfpipe extract` does not list such files: pipes, archives.
        seconds: Reading it may take at most.
        megabytes: Of memory that reading it may take at most.
    """

    make: Callable[[Path], object]
    name: str
    states: frozenset[str]
    reason: re.Pattern[str] = field(default=re.compile(""))
    entry: str = ""
    as_upright: str = ""
    passed_over: bool = False
    only_infer: bool = False
    seconds: int = 10
    megabytes: int = 500

    @property
    def kind(self) -> str:
        """The flag of `dfpipe extract` that takes it: videos, images, or "" for none."""
        suffix = os.path.splitext(self.name)[1].lower()
        if self.only_infer or self.passed_over or self.entry:
            return ""
        return "videos" if suffix in VIDEO_SUFFIXES else "images" if suffix in IMAGE_SUFFIXES else ""


def write(data: bytes | Callable[[], bytes], path: Path) -> None:
    """A file with these bytes. The name may be one that is no text."""
    path.write_bytes(data() if callable(data) else data)


def one(
    name: str, data: bytes | Callable[[], bytes], states: str | Iterable[str], reason: str = "", **rest: Any
) -> Input:
    """An input that is a file of some bytes."""
    allowed = frozenset({states} if isinstance(states, str) else states)
    return Input(partial(write, data), name, allowed, re.compile(reason), **rest)


def face(form: str = "PNG", mode: str = "RGB", **options: Any) -> Callable[[], bytes]:
    """A portrait in some form."""
    return lambda: made.still(made.portrait().convert(mode), form, **options)


def grey(width: int, height: int) -> Callable[[], bytes]:
    """A picture without anybody."""
    return lambda: made.still(PillowImage.new("RGB", (width, height), (90, 90, 90)), "PNG")


def clip_in(codec: str, container: str = "mp4", pixels: str = "yuv420p", **rest: Any) -> Callable[[], bytes]:
    """The made-up clip in another codec."""
    return lambda: made.encoded(made.face_frames(), codec, container, pixels, **rest)


def odd_size() -> bytes:
    """A clip of 319 x 317 px."""
    frames = [np.ascontiguousarray(image[:317, :319]) for image in made.face_frames()]
    return made.encoded(frames, pixels="yuv444p")


# ---- what is no regular file -----------------------------------------------------------------------------------------


def link_to(target: str, path: Path) -> None:
    """A symbolic link."""
    path.symlink_to(target)


def socket_at(path: Path) -> None:
    """A socket that nobody listens to."""
    with socket.socket(socket.AF_UNIX) as made_socket:
        here = os.open(path.parent, os.O_RDONLY)
        try:
            made_socket.bind(f"/proc/self/fd/{here}/{path.name}")  # the full path may be too long for a socket
        finally:
            os.close(here)


def sparse(gigabytes: int, path: Path) -> None:
    """A clip that takes no room on the disk and claims many gigabytes."""
    path.write_bytes(made.clip())
    os.truncate(path, gigabytes * 1_000_000_000)


def folder_with_a_loop(path: Path) -> None:
    """A folder that holds a link to itself."""
    path.mkdir()
    (path / "in the folder.png").write_bytes(made.still(made.portrait(), "PNG", compress_level=1))
    (path / "again").symlink_to(path)


# ---- the table -------------------------------------------------------------------------------------------------------

CONTENTS: dict[str, Input] = {
    "sound clip": one("sound.mp4", made.clip, "ok"),
    "sound still": one("sound.png", face(), "ok"),
    "empty clip": one("empty.mp4", b"", "corrupt", "empty"),
    "empty still": one("empty.jpg", b"", "corrupt", "empty"),
    "text named mp4": one("text.mp4", b"this is no clip\n" * 40, "unsupported", "known kind"),
    "one byte": one("one byte.mp4", b"\0", "unsupported"),
    "PNG named mp4": one("png.mp4", face(compress_level=2), "ok"),
    "MP4 named jpg": one("mp4.jpg", lambda: made.own(made.clip(), "jpg"), "ok"),
    "clip without suffix": one("no suffix", lambda: made.own(made.clip(), "no suffix"), "ok"),
    "MP4 without index": one("no moov.mp4", lambda: made.cut(made.clip(), 0.5), "corrupt"),
    **{
        f"MP4 cut at {share} %": one(
            f"cut {share}.mp4",
            lambda share=share: made.cut(made.streamed(), share / 100),
            DAMAGED if share > 5 else {"corrupt"},
            "damaged|cannot|no |decode",
        )
        for share in range(10, 100, 10)
    },
    "MPEG-TS cut": one("cut.ts", lambda: made.cut(clip_in("libx264", "mpegts")(), 0.5), READ | {"corrupt"}),
    "Matroska cut": one("cut.mkv", lambda: made.cut(clip_in("libx264", "matroska")(), 0.5), DAMAGED),
    "10 bits flipped": one("flips 10.mp4", lambda: made.flipped(made.streamed(), 10), READ | {"corrupt"}),
    "400 bits flipped": one("flips 400.mp4", lambda: made.flipped(made.streamed(), 400), READ | {"corrupt"}),
    "every 8th byte flipped": one("flips many.mp4", lambda: made.flipped(made.streamed(), 3000), READ | {"corrupt"}),
    "more frames claimed than there are": one(
        "too few frames.mp4", lambda: made.with_silent_end(made.streamed()), "partial", "only 6 of 12"
    ),
    "2^31 frame sizes claimed": one(
        "stsz.mp4", lambda: made.patched(made.streamed(), b"stsz", 8, b"\x7f\xff\xff\xff"), DAMAGED
    ),
    "2^31 frame times claimed": one(
        "stts.mp4", lambda: made.patched(made.streamed(), b"stts", 4, b"\x7f\xff\xff\xff"), ANY
    ),
    "2^31 frames of one time claimed": one(
        "stts count.mp4", lambda: made.patched(made.streamed(), b"stts", 8, b"\x7f\xff\xff\xff"), ANY
    ),
    "2^31 chunks claimed": one("stco.mp4", lambda: made.patched(made.streamed(), b"stco", 4, b"\x7f\xff\xff\xff"), ANY),
    "65535 x 65535 claimed": one(
        "stsd.mp4", lambda: made.patched(made.streamed(), b"avc1", 24, b"\xff\xff\xff\xff"), ANY
    ),
    "box longer than the file": one(
        "long box.mp4", lambda: made.patched(made.streamed(), b"moov", -8, b"\x7f\xff\xff\xff"), ANY
    ),
    "sound only": one("sound only.mp4", made.sound_only, "unsupported", "no picture stream"),
    "one frame": one("one frame.mp4", lambda: made.encoded(made.face_frames()[:1]), "ok"),
    "no frame": one("no frame.mp4", made.no_frames, "corrupt"),
    "varying frame rate": one(
        "vfr.mp4",
        lambda: made.encoded(made.face_frames(), times=[0, 1, 2, 3, 9, 10, 20, 21, 40, 41, 60, 90]),
        "ok",
    ),
    **{
        f"rotated by {degrees} degrees": one(
            f"rotated {degrees}.mp4", partial(made.turned, degrees), "ok", as_upright="sound.mp4"
        )
        for degrees in (90, 180, 270)
    },
    "mirrored by its header": one("mirrored.mp4", partial(made.turned, 0, mirrored=True), "ok"),
    "edit list that hides frames": one("edited.mp4", partial(made.edited, 4), "ok"),
    "10 bits a channel": one("10 bit.mp4", clip_in("libx264", pixels="yuv420p10le"), "ok"),
    "4:4:4, odd size": one("444.mp4", odd_size, "ok"),
    "transparent video": one("alpha.mov", clip_in("prores_ks", "mov", "yuva444p10le"), "ok"),
    "interlaced": one("interlaced.mp4", clip_in("libx264", options={"flags": "+ildct+ilme"}), "ok"),
    "high dynamic range": one(
        "hdr.mp4",
        clip_in("libx265", pixels="yuv420p10le", options={"x265-params": "transfer=smpte2084:log-level=none"}),
        "ok",
    ),
    "AV1": one("av1.mp4", clip_in("libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}), "ok"),
    "HEVC": one("hevc.mp4", clip_in("libx265", options={"x265-params": "log-level=none"}), "ok"),
    "VP9": one("vp9.webm", clip_in("libvpx-vp9", "webm", options={"cpu-used": "8"}), "ok"),
    "MPEG-TS": one("plain.ts", clip_in("libx264", "mpegts"), "ok"),
    "MPEG-2": one("plain.mpg", clip_in("mpeg2video", "mpeg", options={"qscale": "3"}), "ok"),
    "FLV": one("plain.flv", clip_in("flv", "flv", options={"b": "2000000"}), "ok"),
    "WMV": one("plain.wmv", clip_in("wmv2", "asf", options={"b": "2000000"}), "ok"),
    "MJPEG in AVI": one("plain.avi", clip_in("mjpeg", "avi", "yuvj420p"), "ok"),
    "codec that is not on the list (MagicYUV)": one(
        "magic.avi", clip_in("magicyuv", "avi", "gbrp"), "unsupported", "codec"
    ),
    "codec that is not on the list (QuickTime RLE)": one(
        "rle.mov", clip_in("qtrle", "mov", "rgb24"), "unsupported", "codec"
    ),
    "16000 x 16000 frame": one("huge frame.avi", made.huge_frame, "too_large", "16000", seconds=2),
    "40 sound tracks": one("tracks.mkv", partial(made.many_streams, 40), "too_large", "stream"),
    "GIF": one("plain.gif", partial(made.animated, "GIF"), "ok"),
    "GIF of 100,000 frames": one(
        "endless.gif", partial(made.endless_gif, 100_000), {"no_face", "too_large"}, "1,?000|frames", seconds=30
    ),
    "animated WebP": one("animated.webp", partial(made.animated, "WEBP"), "partial", "frame|picture"),
    "10 hours of black": one("10 h.mp4", partial(made.long_black, 600, 36_000), "too_large", "limit of 7200"),
    "almost 2 hours of black": one("2 h.mp4", partial(made.long_black, 600, 7000), "no_face", "no face"),
    **{
        f"{name.upper()} named jpg": one(f"{name}.jpg", data, "unsupported", "known kind")
        for name, data in made.DOCUMENTS.items()
    },
    "polyglot of JPEG and HTML": one(
        "polyglot.jpg", lambda: made.still(made.portrait(), "JPEG") + made.DOCUMENTS["html"], "ok"
    ),
    "polyglot of JPEG and zip": one(
        "polyglot zip.jpg",
        lambda: made.still(made.portrait(), "JPEG", quality=90) + made.zipped({"../../up.png": b"x"}),
        "ok",
    ),
    "1 x 1 px": one("1x1.png", grey(1, 1), "no_face"),
    "10 x 10 px": one("10x10.png", grey(10, 10), "no_face"),
    "19 x 19 px": one("19x19.png", grey(19, 19), "no_face"),
    "20 x 3000 px": one("20x3000.png", grey(20, 3000), "no_face"),
    "3000 x 20 px": one("3000x20.png", grey(3000, 20), "no_face"),
    "clip of 16 x 16 px": one("16x16.mp4", lambda: made.encoded(made.black_frames(5, 16)), "no_face"),
    "nobody in it": one("nobody.png", grey(320, 320), "no_face", "no face"),
    "50 faces": one("crowd.jpg", partial(made.crowd, 50), "ok"),
    "face at the border": one("border.jpg", made.half_face, {"ok", "no_face"}),
    "grey": one("grey.png", face(mode="L"), "ok"),
    "grey with transparency": one("grey alpha.png", face(mode="LA"), "ok"),
    "RGBA": one("rgba.png", face(mode="RGBA"), "ok"),
    "palette": one("palette.png", face(mode="P"), "ok"),
    "black and white": one("bilevel.png", face(mode="1"), {"ok", "no_face"}),
    "CMYK": one("cmyk.jpg", face("JPEG", "CMYK"), "ok"),
    "16 bits a pixel": one("16 bit.png", made.sixteen_bit, "ok", as_upright="sound.png"),
    "BMP": one("plain.bmp", face("BMP"), "ok"),
    "TIFF": one("plain.tif", face("TIFF"), "ok"),
    **{
        f"EXIF orientation {n}": one(f"exif {n}.jpg", partial(made.oriented, n), "ok", as_upright="sound.png")
        for n in range(1, 9)
    },
    "JPEG cut in half": one("cut.jpg", lambda: made.cut(face("JPEG")(), 0.5), "corrupt"),
    "progressive JPEG cut in half": one(
        "cut p.jpg", lambda: made.cut(face("JPEG", progressive=True)(), 0.5), "corrupt"
    ),
    "PNG with a wrong checksum": one("checksum.png", made.png_with_wrong_checksum, "corrupt"),
    "PNG with a comment of 100 MB": one("text bomb.png", partial(made.png_with_text_bomb, 100), {"ok", "corrupt"}),
    "PNG that claims 10^10 pixels": one(
        "claim.png", partial(made.png_of, 100_000, 100_000, 1), "too_large", "megapixels"
    ),
    "PNG of 20000 x 20000": one("bomb.png", partial(made.png_of, 20_000, 20_000), "too_large", "megapixels", seconds=2),
    "PNG of 12000 x 12000": one("bomb 12.png", partial(made.png_of, 12_000, 12_000), "too_large", "megapixels"),
    "WebP that claims 16384 x 16384": one("claim.webp", made.lying_webp, {"too_large", "corrupt"}),
    "TIFF whose directories go round in a circle": one("loop.tif", made.looping_tiff, {"ok", "corrupt"}),
    "random bytes behind a PNG head": one(
        "noise.png",
        lambda: b"\x89PNG\r\n\x1a\n" + np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes(),
        "corrupt",
    ),
    "random bytes behind an MP4 head": one(
        "noise.mp4",
        lambda: made.clip()[:32] + np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes(),
        "corrupt",
    ),
}

_FACE = made.still(made.portrait(), "JPEG", quality=80)


def _named(name: str) -> Input:
    return one(name, lambda: _FACE + os.fsencode(name), "ok")


NAMES: dict[str, Input] = {
    "name with spaces": _named("a  b .jpg"),
    "name with a line break": _named("a\nb.jpg"),
    "name with quotes": _named('it\'s "so" `here`.jpg'),
    "name that is HTML": _named("<img src=x onerror=alert(1)>.jpg"),
    "name that is a template": _named("{{ 7*7 }}{% raise %}.jpg"),
    "name like a flag": _named("-rf.jpg"),
    "name like a parent folder": _named("a..%2f..%2fb.jpg"),
    "name from right to left": _named("\u202egpj.exe\u202c.jpg"),
    "name of emoji": _named("\N{GRINNING FACE}\N{PILE OF POO}.jpg"),
    "name of 255 bytes": _named("n" * 251 + ".jpg"),
    "name that is no UTF-8": _named(os.fsdecode(b"caf\xe9 \xff.jpg")),
    "name that is a formula": _named("=cmd|' C calc'!A1.jpg"),
    "name with control characters": _named("\x1b[31mred\x07\r.jpg"),
    "name of a protocol": one("concat:sound.mp4", lambda: made.own(made.clip(), "concat"), "ok"),
    "name of another protocol": one("http:host.mp4", lambda: made.own(made.clip(), "http"), "ok"),
    "name of a pattern": one("frame%03d.mp4", lambda: made.own(made.clip(), "pattern"), "ok"),
    "two names of one stem": one("sound.avi", clip_in("mjpeg", "avi", "yuvj420p", options={"qscale": "4"}), "ok"),
    "name in capitals": _named("SOUND.JPG"),
}

SPECIAL: dict[str, Input] = {
    "link to nothing": Input(partial(link_to, "nowhere"), "dangling.mp4", frozenset({"unreadable"}), only_infer=True),
    "link to itself": Input(partial(link_to, "loop.mp4"), "loop.mp4", frozenset({"unreadable"}), only_infer=True),
    "link to a file of the system": Input(
        partial(link_to, "/etc/passwd"), "passwd.mp4", frozenset({"unsupported", "unreadable"}), only_infer=True
    ),
    "link to an endless device": Input(
        partial(link_to, "/dev/zero"), "zero.mp4", frozenset({"unreadable"}), only_infer=True
    ),
    "pipe": Input(os.mkfifo, "pipe.mp4", frozenset({"unreadable"}), re.compile("regular"), only_infer=True),
    "socket": Input(socket_at, "socket.mp4", frozenset({"unreadable"}), re.compile("regular"), only_infer=True),
    "folder with a link to itself": Input(
        folder_with_a_loop, "looping.d", frozenset({"ok"}), entry="in the folder.png"
    ),
    "9 GB that are not there": Input(
        partial(sparse, 9), "sparse.mp4", frozenset({"too_large"}), re.compile("GB"), seconds=2
    ),
    "text in the folder": one("notes.txt", b"a note\n", "ok", passed_over=True),
}

ARCHIVES: dict[str, Input] = {
    "zip of stills": one(
        "fine.zip", lambda: made.zipped({"a/b.png": made.still(made.portrait())}), "ok", entry="a/b.png"
    ),
    "zip bomb": one("bomb.zip", partial(made.zip_bomb, 200), {"too_large", "corrupt"}, entry="bomb.mp4"),
    "zip slip": one(
        "slip.zip",
        lambda: made.zipped({"../../../slipped.png": _FACE, "/slipped.png": _FACE, "fine.jpg": _FACE + b"s"}),
        "ok",
        entry="fine.jpg",
    ),
    "zip in a zip": one("nested.zip", partial(made.nested_zip, 4), "ok", passed_over=True),
    "encrypted zip": one("encrypted.zip", made.encrypted_zip, "ok", passed_over=True),
    "zip that claims 2^31 entries": one(
        "crowded.zip", partial(made.crowded_zip, 2**31), REFUSED | {"too_large"}, only_infer=True
    ),
    "zip whose entry lies about its size": one("lying.zip", made.lying_zip, {"corrupt", "too_large"}, entry="lie.png"),
    "zip of a link": one("link.zip", made.zip_of_a_link, REFUSED, entry="link.png"),
    "zip cut in half": one(
        "cut.zip", lambda: made.cut(made.zipped({"a.png": made.still(made.portrait())}), 0.5), REFUSED, only_infer=True
    ),
    "empty zip": one("empty.zip", lambda: made.zipped({}), "ok", passed_over=True),
}


def playlist_inputs(texts: Callable[[], dict[str, bytes]]) -> dict[str, Input]:
    """The scripts that name other files, as inputs.

    Args:
        texts: Gives them by file name, once the files are made; see `badmedia.playlists`.
    """
    found = {}
    for name in made.playlists("/nowhere/secret.mp4", "http://127.0.0.1:9/"):
        states = ANY if name.startswith("data reference") else REFUSED
        found[f"playlist: {name}"] = one(name, lambda name=name: texts()[name], states)  # type: ignore[misc]
    return found
