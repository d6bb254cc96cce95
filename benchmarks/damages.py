"""How files are damaged, for damage.py and fuzz.py: any bytes, and edits that know the format.

A damage takes the bytes of a file and a random state and gives other bytes; it may change its argument. The same state
gives the same damage. Formats are read as far as an edit needs: MP4 boxes (ISO/IEC 14496-12), EBML elements (RFC 8794),
MPEG transport packets (ISO/IEC 13818-1), RIFF chunks, FLV tags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Damage = Callable[[bytearray, np.random.Generator], bytearray]

TAG = b"T" * 48
"""A text that good files carry as metadata, for `foreign_text` to replace."""
FOREIGN = (
    "Größe".encode("latin-1"),
    "Привет".encode("cp1251"),
    "日本語".encode("shift_jis"),
    "日本語".encode("utf-16"),
    b"\xc0\xaf\xc0\xaf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xff\xfe\x00\x00",
    b"\x00" * 8,
    b"<script>alert(1)</script>",
    b"=HYPERLINK(1)",
    b"\x1b[2J\r\n\x07",
    "\u202e\u2066gpj.exe".encode(),
)
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


# Any bytes.


def flip(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A few to a few hundred bytes changed anywhere."""
    for at in rng.integers(0, len(data), int(10 ** rng.uniform(0, 2.5))):
        data[at] = int(rng.integers(256))
    return data


def header(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Bytes changed among the first 2,000, where containers say what they hold."""
    for at in rng.integers(0, min(2000, len(data)), int(rng.integers(1, 20))):
        data[at] = int(rng.integers(256))
    return data


def zero(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A stretch of zeros."""
    start, length = int(rng.integers(len(data))), int(10 ** rng.uniform(1, 4))
    data[start : start + length] = bytes(len(data[start : start + length]))
    return data


def cut(data: bytearray, rng: np.random.Generator) -> bytearray:
    """The end is missing; now and then everything is."""
    return data[: int(rng.integers(len(data)))] if rng.random() > 0.05 else bytearray()


def take_out(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A piece of the middle is missing."""
    start = int(rng.integers(len(data)))
    del data[start : start + int(10 ** rng.uniform(0, 4))]
    return data


def double(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A piece comes twice."""
    start, length = int(rng.integers(len(data))), int(10 ** rng.uniform(0, 4))
    return data[: start + length] + data[start:]


ANY_BYTES: tuple[Damage, ...] = (flip, header, zero, cut, take_out, double)


def noise(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Random bytes after none or a few of the good ones."""
    kept = int(rng.choice([0, 4, 16, 64, 256]))
    return data[:kept] + bytearray(rng.bytes(int(10 ** rng.uniform(0, 5))))


def foreign_text(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Metadata in another encoding than they should be, of the same length, or else a damaged header."""
    if TAG not in data:
        return header(data, rng)
    text = FOREIGN[int(rng.integers(len(FOREIGN)))]
    return bytearray(data.replace(TAG, (text * len(TAG))[: len(TAG)]))


# Edits of a tree of pieces: MP4 boxes, EBML elements, RIFF chunks, FLV tags, transport packets.


@dataclass(frozen=True)
class Piece:
    """A box, element, chunk, tag or packet: where it starts and ends, where its size, its name and its body lie."""

    start: int
    stop: int
    size: slice
    name: slice
    body: int
    parents: tuple[slice, ...] = ()
    """Size fields of the pieces around it, of 4 bytes, big or little endian as `order` says."""
    order: str = "big"


def number(rng: np.random.Generator, width: int) -> bytes:
    """A number of `width` bytes, extreme or random, big endian."""
    value = EXTREMES[int(rng.integers(len(EXTREMES)))] if rng.random() < 0.7 else int(rng.integers(1 << 32))
    return (value % (1 << 8 * width)).to_bytes(width, "big")


def edit_piece(data: bytearray, pieces: Sequence[Piece], rng: np.random.Generator) -> bytearray:
    """One edit of one piece: its size, its name, a word of its body; it is lost, comes twice or elsewhere."""
    if not pieces:
        return flip(data, rng)
    piece = pieces[int(rng.integers(len(pieces)))]
    kind = int(rng.integers(7))
    if kind == 0:
        data[piece.size] = number(rng, piece.size.stop - piece.size.start)
    elif kind == 1:
        other = pieces[int(rng.integers(len(pieces)))]
        data[piece.name] = data[other.name] if rng.random() < 0.5 else number(rng, 4)
    elif kind in (2, 3) or piece.stop - piece.start > 100_000:
        edit_word(data, piece, rng)
    else:
        other = pieces[int(rng.integers(len(pieces)))]
        moved = bytes(data[piece.start : piece.stop])
        if kind == 4:
            _resize(data, piece, -len(moved), rng)
            del data[piece.start : piece.stop]
        elif kind == 5:
            _resize(data, piece, len(moved), rng)
            data[piece.stop : piece.stop] = moved
        else:
            data[other.start : other.start] = moved
    return data


def edit_word(data: bytearray, piece: Piece, rng: np.random.Generator) -> None:
    """An extreme number in the body of a piece, most often near its beginning, aligned to its width."""
    width = int(rng.choice([1, 2, 4, 4, 4, 8]))
    room = (piece.stop - piece.body) // width
    if room < 1:
        return
    place = int(rng.integers(min(room, 24) if rng.random() < 0.8 else room))
    at = piece.body + place * width
    data[at : at + width] = number(rng, width)


def _resize(data: bytearray, piece: Piece, change: int, rng: np.random.Generator) -> None:
    """Mostly, the pieces around it say their new size, so that a reader comes as far as the edit."""
    if rng.random() < 0.8:
        for field in piece.parents:
            size = int.from_bytes(data[field], piece.order) + change  # type: ignore[arg-type]
            width = field.stop - field.start
            data[field] = (max(size, 0) % (1 << 8 * width)).to_bytes(width, piece.order)  # type: ignore[arg-type]


MP4_FOLDERS = frozenset(
    b"moov trak mdia minf stbl edts udta dinf mvex moof traf meta ilst \xa9nam \xa9cmt".split()
)
MP4_TABLES = frozenset(
    b"stts ctts elst stsc stsz stco stss mvhd mdhd tkhd stsd hdlr trun tfhd tfdt sidx trex".split()
)


def mp4_boxes(
    data: bytes, start: int = 0, stop: int | None = None, parents: tuple[slice, ...] = ()
) -> Iterator[Piece]:
    """The boxes of an MP4, a folder before what it holds."""
    stop = len(data) if stop is None else stop
    while start + 8 <= stop:
        size, kind = int.from_bytes(data[start : start + 4], "big"), bytes(data[start + 4 : start + 8])
        end = start + size if 8 <= size <= stop - start else stop
        field = slice(start, start + 4)
        yield Piece(start, end, field, slice(start + 4, start + 8), start + 8, parents)
        if kind in MP4_FOLDERS:
            body = start + (12 if kind == b"meta" else 8)
            yield from mp4_boxes(data, body, end, (*parents, field))
        start = end


def mp4_edit(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A box's size, type, place or content."""
    return edit_piece(data, list(mp4_boxes(data)), rng)


def mp4_tables(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Numbers of the tables of times, sizes, places and formats: stts, ctts, elst, stsz, stsd, ..."""
    tables = [piece for piece in mp4_boxes(data) if bytes(data[piece.name]) in MP4_TABLES]
    for _ in range(int(rng.integers(1, 5)) if tables else 0):
        edit_word(data, tables[int(rng.integers(len(tables)))], rng)
    return data


def swap_boxes(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Two neighbouring pieces of an MP4 change places, which moves the media away from the offsets in the index."""
    pieces = list(mp4_boxes(data))
    pairs = [(a, b) for a in pieces for b in pieces if a.stop == b.start and a.parents == b.parents]
    if not pairs:
        return flip(data, rng)
    a, b = pairs[int(rng.integers(len(pairs)))]
    data[a.start : b.stop] = data[b.start : b.stop] + data[a.start : a.stop]
    return data


EBML_FOLDERS = frozenset(
    bytes.fromhex("1a45dfa3 18538067 114d9b74 1549a966 1654ae6b 1f43b675 1c53bb6b 1254c367")[at : at + 4]
    for at in range(0, 32, 4)
) | {bytes.fromhex(name) for name in ("4dbb", "7373", "63c0", "67c8", "ae", "e0", "e1", "a0", "bb", "b7")}


def ebml_elements(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[Piece]:
    """The elements of a Matroska file, a folder before what it holds."""
    stop = len(data) if stop is None else stop
    while start + 2 <= stop:
        id_width, at = 9 - data[start].bit_length(), 0
        at = start + id_width
        if id_width > 4 or at >= stop or not data[at]:
            return
        width = 9 - data[at].bit_length()
        size = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
        body = at + width
        if body > stop:
            return
        end = min(body + size, stop)
        yield Piece(start, end, slice(at, body), slice(start, at), body)
        if bytes(data[start:at]) in EBML_FOLDERS:
            yield from ebml_elements(data, body, end)
        start = end


def matroska_edit(data: bytearray, rng: np.random.Generator) -> bytearray:
    """An element's id, size, place or content: times, sizes, codec names, tables of seeks."""
    pieces = list(ebml_elements(data))
    small = [piece for piece in pieces if piece.stop - piece.body <= 8]
    if small and rng.random() < 0.5:
        piece = small[int(rng.integers(len(small)))]
        data[piece.body : piece.stop] = number(rng, piece.stop - piece.body)
        return data
    return edit_piece(data, pieces, rng)


def ts_packets(data: bytes) -> list[Piece]:
    """The packets of an MPEG transport stream of 188 bytes."""
    return [
        Piece(at, at + 188, slice(at + 3, at + 4), slice(at + 1, at + 3), at + 4)
        for at in range(0, len(data) - 187, 188)
    ]


def ts_edit(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Some packets lost, doubled, moved, of another PID, or with other clocks: presentation times are in their head."""
    for _ in range(int(rng.integers(1, 6))):
        data = edit_piece(data, ts_packets(data), rng)
    return data


def ts_tables(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Numbers of the tables of programs and streams (PAT and PMT)."""
    tables = [
        piece for piece in ts_packets(data) if data[piece.start + 1] & 0x5F == 0x40 or rng.random() < 0.02
    ]
    for _ in range(int(rng.integers(1, 5)) if tables else 0):
        edit_word(data, tables[int(rng.integers(len(tables)))], rng)
    return data


def riff_chunks(
    data: bytes, start: int = 0, stop: int | None = None, parents: tuple[slice, ...] = ()
) -> Iterator[Piece]:
    """The chunks of a WAV or AVI file, a list before what it holds."""
    stop = len(data) if stop is None else stop
    while start + 8 <= stop:
        size, kind = int.from_bytes(data[start + 4 : start + 8], "little"), bytes(data[start : start + 4])
        end = min(start + 8 + size + size % 2, stop)
        field = slice(start + 4, start + 8)
        yield Piece(start, end, field, slice(start, start + 4), start + 8, parents, "little")
        if kind in (b"RIFF", b"LIST"):
            yield from riff_chunks(data, start + 12, end, (*parents, field))
        start = end


def riff_edit(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A chunk's size, name, place or content; half the time of one that says the format."""
    pieces = list(riff_chunks(data))
    naming = [
        p for p in pieces if bytes(data[p.name]) in (b"fmt ", b"strf", b"strh", b"avih", b"idx1", b"data")
    ]
    if naming and rng.random() < 0.5:
        piece = naming[int(rng.integers(len(naming)))]
        if rng.random() < 0.3:
            data[piece.size] = number(rng, 4)[::-1]
        for _ in range(int(rng.integers(1, 4))):
            edit_word(data, piece, rng)
        return data
    return edit_piece(data, pieces, rng)


def flv_tags(data: bytes) -> Iterator[Piece]:
    """The tags of an FLV file."""
    start = 13
    while start + 11 <= len(data):
        size = int.from_bytes(data[start + 1 : start + 4], "big")
        end = min(start + 11 + size + 4, len(data))
        yield Piece(start, end, slice(start + 1, start + 4), slice(start, start + 1), start + 4)
        start = end


def flv_edit(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A tag's type, size, time or content."""
    return edit_piece(data, list(flv_tags(data)), rng)


def ogg_pages(data: bytes) -> Iterator[Piece]:
    """The pages of an Ogg file; the size is the number of segments, the name the serial number of the stream."""
    start = data.find(b"OggS")
    while start >= 0:
        end = data.find(b"OggS", start + 4)
        end = len(data) if end < 0 else end
        yield Piece(start, end, slice(start + 26, start + 27), slice(start + 14, start + 18), start + 6)
        start = end if end < len(data) else -1


def ogg_edit(data: bytearray, rng: np.random.Generator) -> bytearray:
    """A page's granule position, sequence number, stream or content."""
    return edit_piece(data, list(ogg_pages(data)), rng)


GRAMMAR: dict[str, tuple[Damage, ...]] = {
    ".mp4": (mp4_edit, mp4_edit, mp4_tables, mp4_tables, swap_boxes),
    ".mov": (mp4_edit, mp4_edit, mp4_tables, mp4_tables, swap_boxes),
    ".m4a": (mp4_edit, mp4_tables),
    ".mkv": (matroska_edit,),
    ".webm": (matroska_edit,),
    ".ts": (ts_edit, ts_tables),
    ".avi": (riff_edit,),
    ".wav": (riff_edit,),
    ".flv": (flv_edit,),
    ".ogg": (ogg_edit,),
}
"""Edits that know the format, by suffix."""


def damaged(data: bytes, suffix: str, rng: np.random.Generator) -> bytearray:
    """One to three damages of a media file: of the format half the time, else of its text or of any bytes."""
    grammar = GRAMMAR.get(suffix, ANY_BYTES)
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not out:
            break
        chance = rng.random()
        if chance < 0.55:
            kinds: tuple[Damage, ...] = grammar
        elif chance < 0.95:
            kinds = ANY_BYTES
        else:
            kinds = (foreign_text, foreign_text, noise)
        out = kinds[int(rng.integers(len(kinds)))](out, rng)
    return out


def damaged_binary(data: bytes, rng: np.random.Generator) -> bytearray:
    """One to three damages of a file whose format is not read here; numbers in its head or end now and then."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not out:
            break
        if rng.random() < 0.3:
            at = int(rng.integers(min(len(out), 64)))
            at = at if rng.random() < 0.5 else len(out) - 1 - at
            out[at : at + 4] = number(rng, 4)
        else:
            out = ANY_BYTES[int(rng.integers(len(ANY_BYTES)))](out, rng)
    return out
