"""Bad, odd and hostile media as bytes: one small function for each kind. The same arguments give the same bytes."""

import functools
import io
import itertools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import schedule
from PIL import Image as PillowImage

from dfpipe.demo import clip_frames
from dfpipe.types import Image, Label

FRAMES, RATE = 12, 24  # of a made-up clip; frames/s


# ---- clips -----------------------------------------------------------------------------------------------------------


@functools.cache
def face_frames(source: int = 0) -> tuple[Image, ...]:
    """A moving portrait, 320 x 320 px."""
    return tuple(itertools.islice(clip_frames(source, Label.REAL), FRAMES))


def black_frames(count: int, side: int = 64) -> Iterator[Image]:
    """Nothing to see."""
    return itertools.repeat(np.zeros((side, side, 3), np.uint8), count)


def encoded(
    frames: Sequence[Image] | Iterator[Image],
    codec: str = "libx264",
    container: str = "mp4",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    rate: Fraction = Fraction(RATE),
) -> bytes:
    """A clip.

    Args:
        frames: RGB.
        codec: An encoder of FFmpeg.
        container: A muxer of FFmpeg.
        pixels: The pixel format that is encoded.
        times: When each frame is shown, in frames; None = one after the other.
        options: Of the encoder.
        rate: Frames/s.
    """
    file = io.BytesIO()
    with schedule.kept(), av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=options or {})
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        for i, image in enumerate(frames):
            if i == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[i], 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


@functools.cache
def clip(source: int = 0) -> bytes:
    """A sound clip of one face whose index comes last, as most encoders write it."""
    return encoded(face_frames(source))


@functools.cache
def streamed() -> bytes:
    """One whose index comes first, so that a part of it can be read: the boxes change places, and offsets grow."""
    data = encoded(face_frames(), options={"g": "4"})
    start = data.index(b"moov") - 4
    index = bytearray(data[start:])
    first_chunk = index.index(b"stco") + 4 + 4
    for i in range(struct.unpack_from(">I", index, first_chunk)[0]):
        place = first_chunk + 4 + 4 * i
        struct.pack_into(">I", index, place, struct.unpack_from(">I", index, place)[0] + len(index))
    head = struct.unpack_from(">I", data)[0]  # of the box ftyp
    return data[:head] + bytes(index) + data[head:start]


def own(data: bytes, mark: str) -> bytes:
    """The same clip with other bytes: a box that every reader passes over."""
    text = mark.encode(errors="surrogateescape")
    return data + struct.pack(">I4s", 8 + len(text), b"free") + text


def cut(data: bytes, share: float) -> bytes:
    """The beginning."""
    return data[: int(len(data) * share)]


def flipped(data: bytes, count: int, seed: int = 1) -> bytes:
    """Bits turned over in the pictures of a clip."""
    start = data.index(b"mdat") + 4
    changed = bytearray(data)
    for place in np.random.default_rng(seed).integers(start, len(data), count):
        changed[place] ^= 1 << int(place % 8)
    return bytes(changed)


def patched(data: bytes, box: bytes, offset: int, value: bytes) -> bytes:
    """Other bytes in the payload of the first box of a name."""
    start = data.index(box) + 4 + offset
    return data[:start] + value + data[start + len(value) :]


def with_silent_end(data: bytes) -> bytes:
    """Its table of sizes says that the last half of the frames has no bytes."""
    half = FRAMES // 2
    return patched(data, b"stsz", 12 + 4 * half, bytes(4 * (FRAMES - half)))


def many_streams(count: int) -> bytes:
    """A clip with many sound tracks."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        picture: Any = output.add_stream("libx264", rate=RATE)
        picture.width = picture.height = 320
        picture.pix_fmt = "yuv420p"
        sounds = [output.add_stream("mp2", rate=16000) for _ in range(count)]
        for image in face_frames():
            output.mux(picture.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(picture.encode(None))
        for sound in sounds:
            output.mux(sound.encode(silence(1152, 16000)))
            output.mux(sound.encode(None))
    return file.getvalue()


def silence(samples: int, rate: int) -> av.AudioFrame:
    """A moment without sound."""
    frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.int16), format="s16", layout="mono")
    frame.sample_rate = rate
    return frame


def sound_only() -> bytes:
    """An MP4 without a picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream: Any = output.add_stream("aac", rate=16000)
        for i in range(10):
            frame = silence(1024, 16000)
            frame.pts = 1024 * i
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def no_frames() -> bytes:
    """An MP4 with a picture stream that holds no picture."""
    data = streamed()
    data = patched(data, b"stsz", 8, bytes(4))
    data = patched(data, b"stts", 4, bytes(4))
    data = patched(data, b"stsc", 4, bytes(4))
    return patched(data, b"stco", 4, bytes(4))


def turned(degrees: int, mirrored: bool = False) -> bytes:
    """A clip whose frames lie on their side, and whose header says so (ISO/IEC 14496-12, 6.2.2)."""
    frames = [np.ascontiguousarray(np.rot90(image, degrees // 90)) for image in face_frames()]
    if mirrored:
        frames = [np.ascontiguousarray(image[:, ::-1]) for image in frames]
    a, b = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    sign = -1 if mirrored else 1
    matrix = struct.pack(">9i", *(v << 16 for v in (sign * a, b, 0, -sign * b, a, 0, 0, 0)), 1 << 30)
    return patched(encoded(frames), b"tkhd", 40, matrix)


def edited(skipped: int) -> bytes:
    """A clip whose edit list hides the first frames."""
    data = encoded(face_frames(), options={"bf": "2", "g": "4"})
    start = data.index(b"elst") + 4
    _, _, length, media_time = struct.unpack_from(">IIIi", data, start)
    tick = struct.unpack_from(">I", data, data.index(b"mdhd") + 4 + 12)[0] // RATE
    return patched(data, b"elst", 8, struct.pack(">Ii", length // 2, media_time + skipped * tick))


def external(url: bytes) -> bytes:
    """An MP4 whose pictures, as it says, lie in another file (`url ` in its data reference)."""
    data = clip()
    start = data.index(b"dref") - 4
    size = struct.unpack_from(">I", data, start)[0]
    entry = struct.pack(">I4sI", 12 + len(url) + 1, b"url ", 0) + url + b"\0"
    box = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    grown = bytearray(data[:start] + box + data[start + size :])
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):  # all of them hold it
        place = grown.index(parent) - 4
        struct.pack_into(">I", grown, place, struct.unpack_from(">I", grown, place)[0] + len(box) - size)
    return bytes(grown)


def huge_frame() -> bytes:
    """An AVI of one MJPEG frame that says 16000 x 16000 px."""
    jpeg = encoded(face_frames()[:1], "mjpeg", "avi", "yuvj420p")
    start = jpeg.index(b"\xff\xc0") + 5
    data = jpeg[:start] + struct.pack(">HH", 16000, 16000) + jpeg[start + 4 :]
    header = data.index(b"strf") + 12
    return data[:header] + struct.pack("<II", 16000, 16000) + data[header + 8 :]


def long_black(frames: int, seconds: float) -> bytes:
    """A tiny file that is shown for hours."""
    step = int(seconds / frames)
    return encoded(black_frames(frames), times=[i * step for i in range(frames)], rate=Fraction(1))


# ---- animations ------------------------------------------------------------------------------------------------------


def endless_gif(count: int, side: int = 16) -> bytes:
    """A GIF of many equal frames, written block by block: an encoder would take minutes."""
    file = io.BytesIO()
    PillowImage.new("P", (side, side)).save(file, "GIF")
    data = file.getvalue()
    start = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))  # the image descriptor, after the colour table
    delay = b"\x21\xf9\x04\x00\x04\x00\x00\x00"
    return data[:start] + (delay + data[start:-1]) * count + b";"


def animated(container: str) -> bytes:
    """A short animation."""
    pictures = [PillowImage.fromarray(image) for image in face_frames()]
    file = io.BytesIO()
    pictures[0].save(file, container, save_all=True, append_images=pictures[1:], duration=40)
    return file.getvalue()


# ---- stills ----------------------------------------------------------------------------------------------------------


@functools.cache
def portrait() -> PillowImage.Image:
    """One face, 256 x 256 px."""
    return PillowImage.fromarray(face_frames()[0]).resize((256, 256))


def still(picture: PillowImage.Image, form: str = "PNG", **options: Any) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def oriented(orientation: int) -> bytes:
    """A JPEG that must be turned as its EXIF tag 274 says."""
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # orientation -> the PIL.Image.Transpose that undoes it
    undone = {0: 0, 1: 1, 2: 4, 3: 3, 4: 2, 5: 5, 6: 6}  # PIL.Image.Transpose -> its inverse
    picture = portrait()
    if orientation in turns:
        picture = picture.transpose(PillowImage.Transpose(undone[turns[orientation]]))
    exif = PillowImage.Exif()
    exif[274] = orientation
    return still(picture, "JPEG", exif=exif)


def sixteen_bit() -> bytes:
    """A grey PNG of 16 bits a pixel."""
    grey = np.asarray(portrait().convert("L")).astype(np.uint16) * 257
    return still(PillowImage.fromarray(grey))


def crowd(faces: int) -> bytes:
    """Many faces in one picture."""
    side, px = 8, 64
    sheet = np.zeros((px * -(-faces // side), px * side, 3), np.uint8)
    small = np.asarray(PillowImage.fromarray(face_frames()[0]).resize((px, px)))
    for i in range(faces):
        row, column = divmod(i, side)
        sheet[px * row : px * (row + 1), px * column : px * (column + 1)] = small
    return still(PillowImage.fromarray(sheet), "JPEG", quality=92)


def half_face() -> bytes:
    """A face that the border cuts through."""
    return still(portrait().crop((0, 0, 160, 256)), "JPEG")


def png_of(width: int, height: int, lines: int | None = None) -> bytes:
    """A PNG of 1-bit grey. With `lines`, that many are really in it."""
    row = bytes(1 + -(-width // 8))
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height if lines is None else lines)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = b"".join(map(png_chunk, (b"IHDR", b"IDAT", b"IEND"), (header, data, b"")))
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with_text_bomb(megabytes: int) -> bytes:
    """A PNG with a comment that unpacks to hundreds of megabytes."""
    packer = zlib.compressobj(9)
    text = b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()
    data = still(portrait())
    return data[:33] + png_chunk(b"zTXt", b"Comment\0\0" + text) + data[33:]


def png_with_wrong_checksum() -> bytes:
    """A PNG with a damaged picture."""
    data = bytearray(still(portrait()))
    data[data.index(b"IDAT") + 1000] ^= 0x55
    return bytes(data)


def looping_tiff() -> bytes:
    """A TIFF whose first directory names itself as the next."""
    data = bytearray(still(portrait(), "TIFF"))
    start = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, start + 2 + 12 * entries, start)
    return bytes(data)


def lying_webp() -> bytes:
    """A WebP of 16384 x 16384 px, as it says (VP8X: width and height less one, in 24 bits each)."""
    size = struct.pack("<I", 16383)[:3]
    chunk = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size + size
    rest = still(portrait(), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", 4 + len(chunk) + len(rest)) + b"WEBP" + chunk + rest


# ---- what other programs read ----------------------------------------------------------------------------------------

DOCUMENTS: dict[str, bytes] = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/tmp/owned) (w) file closefile\nshowpage\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
    "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 10, 10, 8, 3) + bytes(12),
    "html": b"<!doctype html><script>alert(1)</script>",
}


def playlists(secret: str, url: str) -> dict[str, bytes]:
    """Scripts that ask a demuxer to open something else.

    Args:
        secret: A local clip, which must not be opened through them.
        url: Of a server on this machine, which must not be asked.
    """
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n"
    sdp = (
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {} RTP/AVP 96\na=rtpmap:96 H264/90000\n"
    )
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT5S" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    )
    port = url.rstrip("/").rpartition(":")[2]
    texts = {
        "ffconcat.mp4": f"ffconcat version 1.0\nfile '{secret}'\n",
        "ffconcat of a url.mkv": f"ffconcat version 1.0\nfile '{url}a.mp4'\n",
        "concat up.ts": "ffconcat version 1.0\nfile '../../../../../../etc/passwd'\n",
        "hls of a file.mp4": hls.format(secret),
        "hls of a url.ts": hls.format(f"{url}b.ts"),
        "hls with a key.mkv": hls.format(secret).replace(
            "#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{url}key"\n#EXTINF'
        ),
        "dash of a url.mp4": dash.format(f"{url}c.mp4"),
        "dash of a file.mkv": dash.format(f"file://{secret}"),
        "sdp.mp4": sdp.format(port),
        "m3u.mkv": f"{secret}\n{url}d.mp4\n",
        "image2 pattern.mp4": f"{secret.rpartition('/')[0]}/%03d.jpg\n",
    }
    found = {name: text.encode() for name, text in texts.items()}
    found["ftyp then hls.mp4"] = (
        struct.pack(">I4s4s", 16, b"ftyp", b"isom") + b"\0\0\0\0\n" + texts["hls of a file.mp4"].encode()
    )
    found["data reference to a file.mp4"] = external(f"file://{secret}".encode())
    found["data reference to a url.mov"] = external(f"{url}e.mp4".encode())
    return found


# ---- archives --------------------------------------------------------------------------------------------------------


def zipped(entries: dict[str, bytes], packed: bool = True) -> bytes:
    """An archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data, archive.compression)
    return file.getvalue()


def zip_bomb(megabytes: int) -> bytes:
    """An entry of zeros behind the head of a clip, a thousand times as large as the archive."""
    return zipped({"bomb.mp4": clip()[:32] + bytes(megabytes * 1_000_000)})


def nested_zip(depth: int) -> bytes:
    """An archive in an archive in an archive."""
    data = zipped({"face.png": still(portrait())})
    for i in range(depth):
        data = zipped({f"{i}.zip": data})
    return data


def encrypted_zip() -> bytes:
    """An archive that says that its entry is encrypted."""
    data = bytearray(zipped({"secret.png": still(portrait())}))
    data[6] |= 1  # general purpose flag of the local header (APPNOTE.TXT 4.4.4)
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def crowded_zip(claimed: int) -> bytes:
    """An archive that claims to hold billions of entries (zip64 end record, APPNOTE.TXT 4.3.14)."""
    data = zipped({"a.png": still(portrait())})
    end = data.index(b"PK\x05\x06")
    directory = data.index(b"PK\x01\x02")
    large = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, claimed, claimed, end - directory, directory)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    closing = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:end] + large + locator + closing


def lying_zip() -> bytes:
    """An archive whose entry unpacks to more than it claims."""
    data = zipped({"lie.png": still(portrait(), "BMP")})
    place = data.index(b"PK\x01\x02") + 24
    return data[:place] + struct.pack("<I", 100) + data[place + 4 :]


def zip_of_a_link() -> bytes:
    """An archive whose entry is a symbolic link to another file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return file.getvalue()


Make = Callable[[], bytes]
