"""Mutations of files: bytes and a random generator in, bytes out. The same numbers give the same bytes.

A file is damaged blindly (bits, blocks, cuts) or with some knowledge of its form: `ANATOMIES` says where in a format the
integers lie that others believe (sizes, counts, offsets) and where its pieces begin and end. Integers are set to what
breaks arithmetic, pieces are swapped, dropped and repeated, and checksums that would hide the damage are made right again.
"""

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any, Literal

MAX_BYTES = 1 << 20  # of a mutated file: a fuzzer lives on many small files
MAX_BLOCK = 4096  # bytes that one blind mutation touches
ROUNDS = (1, 1, 1, 2, 3, 5)  # mutations of one file: a single one reaches deepest, several together hide less
_EDGES = (7, 8, 15, 16, 24, 31, 32, 63, 64)  # bits at which signs turn and integers overflow
ODD_INTEGERS = (0, 1, 2, *((1 << bits) - 1 for bits in _EDGES), *(1 << bits for bits in _EDGES))
_ODD_WORDS = (
    "=1+1 -1 1e999 nan 0x7fffffff null true concat:a|b http://127.0.0.1/x.mp4 * ** a**b [ [] [! ? .. ../../x C:\\x"
)
ODD_TEXTS = (
    *_ODD_WORDS.split(" "),
    *("", "\0", "\n", "\r", '"', "'", ",", ";", "\\", "/etc/passwd"),
    *(
        "\x1b[2J",
        "\ud800",
        "\ufeff",
        "\u202e",
    ),  # moves a cursor, is no character, says nothing, turns the writing round
    *("9" * 400, "\u00e9" * 300, "x" * 70_000),
)
Order = Literal["little", "big"]


@dataclass(frozen=True)
class Field:
    """An integer in a file that readers believe."""

    offset: int
    size: int  # bytes
    order: Order


@dataclass
class Anatomy:
    """What is known of one file's form."""

    fields: list[Field] = field(default_factory=list)
    pieces: list[range] = field(default_factory=list)  # boxes, chunks, packets, entries
    names: list[int] = field(default_factory=list)  # where a four-letter name stands


def mutate(data: bytes, form: str, rng: Random, most: int = MAX_BYTES) -> bytes:
    """Damages a file.

    Args:
        data: The file.
        form: A key of `ANATOMIES`, or "text", "json", "yaml" or "safetensors"; anything else is damaged blindly.
        rng: Decides everything.
        most: Bytes of the result.
    """
    knowing = [*SPECIAL.get(form, ())] + ([lie, lie, swap, drop, repeat, rename] if form in ANATOMIES else [])
    for _ in range(rng.choice(ROUNDS)):
        if knowing and rng.random() < 0.65:
            change = rng.choice(knowing)
            data = change(data, rng, form)
        else:
            data = rng.choice(BLIND)(data, rng)
    return REPAIRS.get(form, bytes)(data)[:most]


def form_of(data: bytes) -> str:
    """What a clip must be taken for, by its first bytes; "" for what is only damaged blindly."""
    forms = {b"\x1aE\xdf\xa3": "ebml", b"RIFF": "riff", b"GIF8": "gif", b"FLV\x01": "flv", b"\x30\x26\xb2\x75": "asf"}
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        return "mp4"
    return forms.get(data[:4], "packets" if data[:1] == b"G" else "")


# ---- blind ----------------------------------------------------------------------------------------------------------


def flip(data: bytes, rng: Random) -> bytes:
    """Some bits are turned over, close together or all over the file."""
    damaged = bytearray(data)
    block = _block(data, rng) if rng.random() < 0.5 else range(len(data))
    for _ in range(rng.choice((1, 1, 4, 30)) if block else 0):
        damaged[rng.choice(block)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def cut(data: bytes, rng: Random) -> bytes:
    """The end is missing."""
    return data[: rng.randrange(len(data) + 1)]


def take_out(data: bytes, rng: Random) -> bytes:
    """A block is missing."""
    block = _block(data, rng)
    return data[: block.start] + data[block.stop :]


def put_in(data: bytes, rng: Random) -> bytes:
    """Random bytes are put in."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 16, 256))) + data[at:]


def blank(data: bytes, rng: Random) -> bytes:
    """A block becomes zeros, ones, or noise."""
    block = _block(data, rng)
    filling = rng.choice((b"\0" * len(block), b"\xff" * len(block), rng.randbytes(len(block))))
    return data[: block.start] + filling + data[block.stop :]


def copy(data: bytes, rng: Random) -> bytes:
    """A block is written over another place, or put in there."""
    block, at = _block(data, rng), rng.randrange(len(data) + 1)
    over = len(block) if rng.random() < 0.5 else 0
    return data[:at] + data[block.start : block.stop] + data[at + over :]


def stutter(data: bytes, rng: Random) -> bytes:
    """A block comes many times."""
    block = _block(data, rng)
    return data[: block.stop] + data[block.start : block.stop] * rng.choice((1, 2, 10, 100)) + data[block.stop :]


def number(data: bytes, rng: Random) -> bytes:
    """Some bytes anywhere become an odd integer."""
    size = rng.choice((1, 2, 4, 8))
    order: Order = rng.choice(("little", "big"))
    at = rng.randrange(max(1, len(data) - size))
    return _put(data, Field(at, size, order), rng.choice(ODD_INTEGERS))


BLIND: tuple[Callable[[bytes, Random], bytes], ...] = (flip, flip, cut, take_out, put_in, blank, copy, stutter, number)


def _block(data: bytes, rng: Random) -> range:
    start = rng.randrange(len(data) + 1)
    return range(start, min(len(data), start + rng.randint(1, rng.choice((4, 64, MAX_BLOCK)))))


def _put(data: bytes, where: Field, value: int) -> bytes:
    text = (value & ((1 << 8 * where.size) - 1)).to_bytes(where.size, where.order)
    return data[: where.offset] + text + data[where.offset + where.size :]


# ---- knowing the form -----------------------------------------------------------------------------------------------


def lie(data: bytes, rng: Random, form: str) -> bytes:
    """A size, count or offset becomes an odd integer, or is a little off."""
    fields = ANATOMIES[form](data).fields
    if not fields:
        return data
    where = rng.choice(fields)
    now = int.from_bytes(data[where.offset : where.offset + where.size], where.order)
    near = (now + 1, now - 1, now * 2, now + len(data), -now)
    return _put(data, where, rng.choice((rng.choice(ODD_INTEGERS), rng.choice(near))))


def swap(data: bytes, rng: Random, form: str) -> bytes:
    """Two pieces change places."""
    pieces = ANATOMIES[form](data).pieces
    if len(pieces) < 2:
        return data
    first, second = sorted(rng.sample(pieces, 2), key=lambda piece: (piece.start, -piece.stop))
    if second.start < first.stop:  # one lies in the other: it takes its place
        return data[: first.start] + data[second.start : second.stop] + data[first.stop :]
    middle = data[first.stop : second.start]
    return (
        data[: first.start]
        + data[second.start : second.stop]
        + middle
        + data[first.start : first.stop]
        + data[second.stop :]
    )


def drop(data: bytes, rng: Random, form: str) -> bytes:
    """A piece is missing."""
    pieces = ANATOMIES[form](data).pieces
    piece = rng.choice(pieces) if pieces else range(0)
    return data[: piece.start] + data[piece.stop :]


def repeat(data: bytes, rng: Random, form: str) -> bytes:
    """A piece comes many times."""
    pieces = ANATOMIES[form](data).pieces
    piece = rng.choice(pieces) if pieces else range(0)
    times = min(rng.choice((1, 2, 20, 500)), MAX_BYTES // max(1, len(piece)))
    return data[: piece.stop] + data[piece.start : piece.stop] * times + data[piece.stop :]


def rename(data: bytes, rng: Random, form: str) -> bytes:
    """A piece goes by the name of another."""
    names = ANATOMIES[form](data).names
    if not names:
        return data
    at, other = rng.choice(names), rng.choice(names)
    return data[:at] + data[other : other + 4] + data[at + 4 :]


def _mp4(data: bytes) -> Anatomy:
    """Boxes (ISO/IEC 14496-12): size, name, content; in tables also the counts and the first few entries."""
    found = Anatomy()

    def walk(start: int, end: int, depth: int) -> None:
        while start + 8 <= end and depth < 12:
            size, name = struct.unpack_from(">I4s", data, start)
            head = 16 if size == 1 and start + 16 <= end else 8
            if head == 16:
                (size,) = struct.unpack_from(">Q", data, start + 8)
            stop = min(end, start + size) if size >= head else end
            found.fields.append(Field(start, 4, "big"))
            found.names.append(start + 4)
            found.pieces.append(range(start, stop))
            inside = start + head
            if name in _MP4_PARENTS:
                walk(inside + _MP4_PARENTS[name], stop, depth + 1)
            elif name != b"mdat":  # version and flags, counts, tables, dimensions: all of it are numbers
                found.fields += [Field(at, 4, "big") for at in range(inside, min(stop - 3, inside + 96), 4)]
            start = stop

    walk(0, len(data), 0)
    return found


# What stands before the boxes inside a box, in bytes.
_MP4_PARENTS = {
    **dict.fromkeys((b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta"), 0),
    **dict.fromkeys((b"moof", b"traf", b"mvex", b"mfra"), 0),
    **dict.fromkeys((b"avc1", b"hvc1", b"hev1", b"mp4v"), 78),
    b"stsd": 8,
    b"dref": 8,
    b"meta": 4,
}


def _ebml(data: bytes) -> Anatomy:
    """Elements (RFC 8794): an identifier and a length, both of a length that their first byte tells."""
    found = Anatomy()

    def walk(start: int, end: int, depth: int) -> None:
        while start < end - 1 and depth < 8:
            id_size = 9 - data[start].bit_length()
            at = start + id_size
            if id_size > 4 or at >= end:
                return
            size_size = 9 - data[at].bit_length()
            if size_size > 8 or at + size_size > end:
                return
            length = int.from_bytes(data[at : at + size_size], "big") & ((1 << 7 * size_size) - 1)
            inside = at + size_size
            stop = min(end, inside + length)
            found.fields += [Field(start, id_size, "big"), Field(at, size_size, "big")]
            found.pieces.append(range(start, stop))
            if data[start:at] in _EBML_PARENTS:
                walk(inside, stop, depth + 1)
            elif stop - inside <= 8:
                found.fields.append(Field(inside, max(1, stop - inside), "big"))
            start = max(stop, start + 1)

    walk(0, len(data), 0)
    return found


_EBML_PARENTS = frozenset(
    map(
        bytes.fromhex,
        {
            "head": "1a45dfa3",
            "segment": "18538067",
            "seek head": "114d9b74",
            "seek": "4dbb",
            "information": "1549a966",
            "tracks": "1654ae6b",
            "track": "ae",
            "picture": "e0",
            "cues": "1c53bb6b",
            "point": "bb",
            "place": "b7",
            "cluster": "1f43b675",
            "group of blocks": "a0",
            "tags": "1254c367",
        }.values(),
    )
)


def _riff(data: bytes) -> Anatomy:
    """Chunks of AVI and WebP: name, size, content; lists hold chunks."""
    found = Anatomy()

    def walk(start: int, end: int, depth: int) -> None:
        while start + 8 <= end and depth < 8:
            name, size = struct.unpack_from("<4sI", data, start)
            inside, stop = start + 8, min(end, start + 8 + size + size % 2)
            found.fields.append(Field(start + 4, 4, "little"))
            found.names.append(start)
            found.pieces.append(range(start, stop))
            if name in (b"RIFF", b"LIST"):
                found.names.append(inside)
                walk(inside + 4, stop, depth + 1)
            elif size <= 128:
                found.fields += [Field(at, 4, "little") for at in range(inside, stop - 3, 4)]
            else:
                found.fields += [Field(at, 2, "little") for at in range(inside, inside + 12, 2)]
            start = stop

    walk(0, len(data), 0)
    return found


def _jpeg(data: bytes) -> Anatomy:
    """Segments (ITU-T T.81): a marker, a length, content; after the start of a scan come coded data."""
    found = Anatomy()
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        stop = min(len(data), at + 2 + length)
        found.fields += [Field(at + 1, 1, "big"), Field(at + 2, 2, "big")]
        found.fields += [Field(i, 1, "big") for i in range(at + 4, min(stop, at + 24))]
        if marker in (0xC0, 0xC1, 0xC2):
            found.fields += [Field(at + 5, 2, "big"), Field(at + 7, 2, "big")] * 3  # height and width
        found.pieces.append(range(at, stop))
        if marker == 0xDA:
            found.pieces.append(range(stop, len(data)))
            break
        at = stop
    return found


def _png(data: bytes) -> Anatomy:
    """Chunks: length, name, content, checksum."""
    found = Anatomy()
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        stop = min(len(data), at + 12 + length)
        found.fields.append(Field(at, 4, "big"))
        found.fields += [Field(i, 4, "big") for i in range(at + 8, min(stop - 7, at + 36), 4)]
        found.fields += [Field(i, 1, "big") for i in range(at + 8, min(stop - 4, at + 24))]
        found.names.append(at + 4)
        found.pieces.append(range(at, stop))
        at = stop
    return found


def _with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks bear the right checksum, so that their damage is looked at."""
    parts, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        if at + 12 + length > len(data):
            break
        parts.append(data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body)))
        at += 12 + length
    return b"".join(parts) + data[at:]


def _tiff(data: bytes) -> Anatomy:
    """Directories (TIFF 6.0): a count, then entries of twelve bytes, then where the next directory lies."""
    found = Anatomy()
    order: Order = "little" if data[:2] == b"II" else "big"
    found.fields.append(Field(4, 4, order))
    at, seen = int.from_bytes(data[4:8], order), set()
    while 0 < at < len(data) - 2 and at not in seen:
        seen.add(at)
        count = min(int.from_bytes(data[at : at + 2], order), (len(data) - at - 2) // 12)
        found.fields.append(Field(at, 2, order))
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            found.fields += [Field(entry, 2, order), Field(entry + 2, 2, order)]
            found.fields += [Field(entry + 4, 4, order), Field(entry + 8, 4, order)]
            found.pieces.append(range(entry, entry + 12))
        at += 2 + 12 * count
        found.fields.append(Field(at, 4, order))
        at = int.from_bytes(data[at : at + 4], order)
    return found


def _bmp(data: bytes) -> Anatomy:
    """A head of small integers, then pixels."""
    return Anatomy([Field(at, 4, "little") for at in range(2, min(54, len(data) - 4), 4)])


def _gif(data: bytes) -> Anatomy:
    """The size of the screen; extensions and pictures, found by their first byte."""
    found = Anatomy([Field(6, 2, "little"), Field(8, 2, "little"), Field(10, 1, "little")])
    starts = [match.start() for match in re.finditer(rb"\x21[\xf9\xff\xfe]|\x2c\x00", data)]
    found.pieces = _between(starts, len(data))
    for start in starts:
        found.fields += [Field(start + i, 2, "little") for i in (1, 3, 5, 7)]
    return found


def _between(starts: list[int], end: int) -> list[range]:
    """Pieces of which each reaches to the next one."""
    return [range(*pair) for pair in pairwise([*starts, end])]


def _packets(data: bytes) -> Anatomy:
    """Transport stream: packets of 188 bytes with a head of four."""
    starts = range(0, len(data) - 187, 188)
    fields = [Field(s + i, 2 if i == 1 else 1, "big") for s in starts[:40] for i in (0, 1, 3, 4, 5, 9, 13)]
    return Anatomy(fields, [range(s, s + 188) for s in starts])


def _program(data: bytes) -> Anatomy:
    """MPEG program and elementary streams: pieces begin with 00 00 01."""
    starts = [match.start() for match in re.finditer(rb"\x00\x00\x01", data)]
    fields = [Field(s + i, size, "big") for s in starts[:60] for i, size in ((3, 1), (4, 2), (4, 3), (8, 2))]
    return Anatomy(fields, _between(starts, len(data)))


def _flv(data: bytes) -> Anatomy:
    """Tags of eleven bytes head, content, and the size once more."""
    found = Anatomy([Field(4, 1, "big"), Field(5, 4, "big")])
    at = 13
    while at + 15 <= len(data):
        length = int.from_bytes(data[at + 1 : at + 4], "big")
        stop = min(len(data), at + 15 + length)
        found.fields += [
            Field(at, 1, "big"),
            Field(at + 1, 3, "big"),
            Field(at + 4, 4, "big"),
            Field(at + 11, 1, "big"),
        ]
        found.pieces.append(range(at, stop))
        at = stop
    return found


def _asf(data: bytes) -> Anatomy:
    """Objects: an identifier of sixteen bytes and a size of eight; the first of them holds others."""
    found = Anatomy()

    def walk(start: int, end: int) -> None:
        while start + 24 <= end:
            (size,) = struct.unpack_from("<Q", data, start + 16)
            stop = min(end, start + max(24, size))
            found.fields.append(Field(start + 16, 8, "little"))
            found.fields += [Field(i, 4, "little") for i in range(start + 24, min(stop - 3, start + 104), 4)]
            found.pieces.append(range(start, stop))
            if start == 0:
                walk(30, stop)
            start = stop

    walk(0, len(data))
    return found


def _zip(data: bytes) -> Anatomy:
    """The heads of entries (PK 3 4), the table of contents (PK 1 2) and its end (PK 5 6, in large archives PK 6 6)."""
    found = Anatomy()
    marks = [
        (match.start(), match.group()) for match in re.finditer(rb"PK(?:\x03\x04|\x01\x02|\x05\x06|\x06\x06)", data)
    ]
    for start, mark in marks:
        found.fields += [
            Field(start + at, size, "little") for at, size in _ZIP_FIELDS[mark] if start + at + size <= len(data)
        ]
    found.pieces = _between([start for start, _ in marks], len(data))
    return found


_ZIP_FIELDS = {  # APPNOTE.TXT 4.3: (offset, bytes) of flags, method, checksum, sizes, lengths, places
    b"PK\x03\x04": ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)),
    b"PK\x01\x02": ((8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2), (38, 4), (42, 4)),
    b"PK\x05\x06": ((4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)),
    b"PK\x06\x06": ((4, 8), (24, 8), (32, 8), (40, 8), (48, 8)),
}


def _parquet(data: bytes) -> Anatomy:
    """The length of the foot, the foot (thrift: small numbers everywhere), and the heads of the first pages."""
    found = Anatomy([Field(max(0, len(data) - 8), 4, "little")] * 2)
    foot = max(4, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    found.fields += [Field(at, 1, "little") for at in (*range(4, min(60, foot)), *range(foot, len(data) - 8))]
    found.pieces = [range(at, min(at + 16, len(data) - 8)) for at in range(foot, len(data) - 8, 16)]
    return found


ANATOMIES: dict[str, Callable[[bytes], Anatomy]] = {
    "mp4": _mp4,
    "ebml": _ebml,
    "riff": _riff,
    "jpeg": _jpeg,
    "png": _png,
    "tiff": _tiff,
    "bmp": _bmp,
    "gif": _gif,
    "packets": _packets,
    "program": _program,
    "flv": _flv,
    "asf": _asf,
    "zip": _zip,
    "parquet": _parquet,
}
REPAIRS: dict[str, Callable[[bytes], bytes]] = {"png": _with_checksums}


# ---- text -----------------------------------------------------------------------------------------------------------

_DEEP = "@deep@"  # a place for nesting that no encoder would write
_WORD = re.compile(r"[^\s,:;\"'\[\]{}]+|[,:;\"'\[\]{}\n]")


def edit_text(data: bytes, rng: Random, form: str) -> bytes:
    """A word or sign is taken out, doubled, or becomes an odd one; a line is moved."""
    text = data.decode(errors="surrogateescape")
    words = list(_WORD.finditer(text))
    if not words:
        return data
    word = rng.choice(words)
    lines = text.split("\n")
    choice = rng.randrange(5)
    if choice == 0:
        lines.insert(rng.randrange(len(lines) + 1), lines.pop(rng.randrange(len(lines))))
        text = "\n".join(lines)
    else:
        other = ("", word.group() * 2, rng.choice(ODD_TEXTS), rng.choice(words).group())[choice - 1]
        text = text[: word.start()] + other + text[word.end() :]
    return _encoded(text)


def edit_yaml(data: bytes, rng: Random, form: str) -> bytes:
    """A value becomes something that only YAML can say: tags, references, a bomb of references, other types."""
    lines = data.decode(errors="replace").split("\n")
    at = rng.randrange(len(lines))
    key = lines[at].partition(":")[0]
    lines[at] = f"{key}: {rng.choice(_YAML_VALUES)}"
    return "\n".join(lines).encode(errors="replace")


_BOMB = ", ".join([f"&a0 [{'lol, ' * 9}]", *(f"&a{i} [{f'*a{i - 1}, ' * 9}]" for i in range(1, 12))])
_YAML_VALUES = (
    f"[{_BOMB}]",
    "!!python/object/apply:os.system [id]",
    "!!binary aGFsbG8=",
    "&a [*a]",
    "2024-01-01",
    "0o777777777777777777777",
    ".inf",
    ".nan",
    "~",
    "{}",
    "[[[[]]]]",
    "[" * 400,
    "[" * 400 + "]" * 400,
    "? {a: 1}",
    "!!set {a, b}",
    "9" * 5000,
    "1:30:00",
)


def edit_json(data: bytes, rng: Random, form: str) -> bytes:
    """A value, a key or a whole branch is replaced, taken out or doubled."""
    try:
        return _encoded(_edited(json.loads(data), rng))
    except (ValueError, RecursionError):  # an earlier mutation left no JSON, or nested it too deep
        return data


def _edited(tree: Any, rng: Random) -> str:
    places = list(_places(tree))
    if places:
        holder, key = rng.choice(places)
        choice = rng.randrange(6)
        if choice == 0:
            del holder[key]
        elif choice == 1 and isinstance(holder, dict):
            holder[rng.choice(ODD_TEXTS)] = holder.pop(key)
        elif choice == 2:
            other, at = rng.choice(places)
            holder[key] = json.loads(json.dumps(other[at]))
        else:
            holder[key] = _odd_value(rng)
    text = json.dumps(tree)
    depth = rng.choice((50, 900, 60_000))
    return text.replace(f'"{_DEEP}"', "[" * depth + "]" * depth)


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every value, as its holder and its key there."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield tree, key
        yield from _places(value)


def _odd_value(rng: Random) -> Any:
    number = rng.choice(ODD_INTEGERS)
    return rng.choice(
        (
            None,
            True,
            number,
            -number,
            number * 1.5,
            float("nan"),
            1e308,
            rng.choice(ODD_TEXTS),
            _DEEP,
            [],
            {},
            [number] * 9,
        )
    )


def edit_header(data: bytes, rng: Random, form: str) -> bytes:
    """The head of a safetensors file (its length, then JSON), or the JSON text that dfpipe keeps inside it."""
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.2:
        return _put(data, Field(0, 8, "little"), rng.choice((*ODD_INTEGERS, length + 1, length - 1, len(data))))
    try:
        tree = json.loads(data[8 : 8 + length])
        inner = tree["__metadata__"]["dfpipe"]
        if rng.random() < 0.5:
            tree["__metadata__"]["dfpipe"] = _edited(json.loads(inner), rng)
            head = _encoded(json.dumps(tree))
        else:
            head = _encoded(_edited(tree, rng))
    except (ValueError, RecursionError, KeyError, TypeError):
        return data
    return len(head).to_bytes(8, "little") + head + data[8 + length :]


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


SPECIAL: dict[str, tuple[Callable[[bytes, Random, str], bytes], ...]] = {
    "text": (edit_text,),
    "json": (edit_json, edit_json, edit_text),
    "yaml": (edit_yaml, edit_text),
    "safetensors": (edit_header,),
}
