"""Opening a media file, and saying plainly what is wrong with one that cannot be used."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError

CONTAINERS = (
    "mov,matroska,avi,mpeg,mpegts,mpegvideo,flv,asf,mxf,ogg,gif,rm,dv,nut,ivf,yuv4mpegpipe,h264,hevc,m4v,obu,"
    "wav,w64,mp3,flac,aac,ac3,eac3,dts,aiff,au,caf,amr,ape,tta,wv"
)
"""Demuxers that may open a user's file: no playlists, ffconcat lists or image sequences, which open other files."""
MOST_PIXELS = 8192 * 8192
"""Of a picture, which bounds the memory that a few bytes of a file may ask for; 8K has half of them."""
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
"""Hz: at one sample a second, a small file would be hours of sound at 16 kHz."""
_PICTURES = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n": "PNG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_LFS_HEADER = b"version https://git-lfs.github.com/spec/"
_HEAD = 64
"""Bytes in which a file says what it is."""
_MOST_BOXES = 10_000_000
"""That are looked at in an MP4: a day in fragments of a tenth of a second has seven million."""
_LEADING = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
"""Boxes of an MP4 in which the boxes of its index lie."""
_COUNT_AT = {b"stsz": 8, b"stz2": 8, b"trun": 4}
"""Boxes with a count of samples, and at which byte of their content it stands (ISO/IEC 14496-12, 8.7.3 and 8.8.8)."""
_ENCRYPTED = (b"encv", b"enca", b"drmi", b"drms")
"""What samples of an MP4 are called where they are encrypted (ISO/IEC 14496-12, 8.12, and Apple's)."""
_SAMPLES_PER_BYTE = 8
"""Sound packed 6 to 1 (MACE) has most: QuickTime counts what it becomes."""
_EBML_ID, _SEGMENT_ID = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


@contextmanager
def open_media(path: Path, advanced_edits: bool = True) -> Iterator[InputContainer]:
    """An open PyAV container. Raises MediaError(UNREADABLE) for a file that does not open or is cut off.

    advanced_edits: False for the times of an MP4's first edit alone, without what FFmpeg makes of them.

    FFmpeg reports EIO for damaged data as well as for damaged disks, and EAGAIN where an MPEG transport stream has lost
    its packets: a MediaError that comes from these has `bytes_can_be_read` set where the disk gives every byte.
    """
    try:
        with _open(path, advanced_edits) as container:
            yield container
    except MediaError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.EIO, errno.EAGAIN):
            error.bytes_can_be_read = _can_be_read(path)
        raise


def _can_be_read(path: Path) -> bool:
    """Whether the disk gives every byte of the file."""
    try:
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError:
        return False
    return True


@contextmanager
def _open(path: Path, advanced_edits: bool) -> Iterator[InputContainer]:
    try:
        _check_complete(path)
        container = av.open(
            f"file:{path.absolute()}",
            container_options={"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
            | ({} if advanced_edits else {"advanced_editlist": "0"}),
            metadata_errors="replace",  # Old files carry Latin-1 tags.
        )
    except av.ArgumentError as error:
        detail = "not one of the containers that are opened here (playlists and lists of files are not)"
        raise MediaError(Reason.UNREADABLE, detail) from error
    except av.FFmpegError as error:
        raise MediaError(Reason.UNREADABLE, f"not a media file FFmpeg can open ({words(error)})") from error
    except OSError as error:
        raise MediaError(Reason.UNREADABLE, f"cannot be read: {words(error)}") from error
    with container:
        yield container


def first_video(container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture.

    Raises MediaError(NO_VIDEO_STREAM), or MediaError(UNREADABLE) where nothing can decode it.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            if stream.codec_context is None or stream.format is None:
                raise MediaError(Reason.UNREADABLE, "no decoder for the video stream")
            if stream.width * stream.height > MOST_PIXELS:
                raise MediaError(
                    Reason.UNREADABLE,
                    f"its pictures have {stream.width} x {stream.height} pixels; at most {MOST_PIXELS:,} are read",
                )
            stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
            # Without it FFmpeg shows columns at the left that are to be cropped: what is left would not be aligned.
            stream.codec_context.flags |= Flags.unaligned
            return stream
    kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
    raise MediaError(Reason.NO_VIDEO_STREAM, f"no video stream (the file holds: {kinds})")


def first_audio(container: InputContainer) -> AudioStream | None:
    """The first audio stream, or None. Raises MediaError(UNREADABLE) where nothing can decode it."""
    stream = next(iter(container.streams.audio), None)
    if stream is not None and stream.codec_context is None:
        raise MediaError(Reason.UNREADABLE, "no decoder for the audio stream")
    if stream is not None:
        check_rate(stream.codec_context.sample_rate)
    return stream


def check_rate(rate: int) -> None:
    """MediaError(UNREADABLE) for a sample rate in Hz that is not read: of a stream, and of each of its blocks."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        detail = f"a sample rate of {rate} Hz; {LOWEST_RATE} to {HIGHEST_RATE} are read"
        raise MediaError(Reason.UNREADABLE, detail)


def words(error: av.FFmpegError | OSError) -> str:
    """What an error says, without its number and the path (rejects hold no absolute paths)."""
    return str(error.strerror or type(error).__name__)


def _check_complete(path: Path) -> None:
    """MediaError(UNREADABLE) for what the first bytes and the declared sizes give away.

    FFmpeg says "invalid data" to all of these, or reads a cut file to its early end without a word. MPEG streams
    and AVI declare no size that can be trusted.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # opening a named pipe would wait for its writer
        kind = "a directory" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise MediaError(Reason.UNREADABLE, f"{kind}, not a regular file")
    size = found.st_size
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if size == 0:
            raise MediaError(Reason.UNREADABLE, "the file is empty (0 bytes)")
        if head.startswith(_LFS_HEADER):
            detail = f"a Git LFS pointer of {size} bytes, not the media itself (`git lfs pull` fetches it)"
            raise MediaError(Reason.UNREADABLE, detail)
        for magic, name in _PICTURES.items():
            if head.startswith(magic):
                raise MediaError(Reason.UNREADABLE, f"a still picture ({name}), not a video or sound")
        declared = size
        if head[4:8] == b"ftyp":
            ends = _mp4_boxes(file, size)
            if b"moov" not in ends:
                detail = "an MP4 without its index (no moov box): the file was cut off or never finished"
                if b"meta" in ends:
                    detail = "a still picture (HEIF), not a video or sound"
                raise MediaError(Reason.UNREADABLE, detail)
            # Only the boxes that matter: a careless writer may leave odd bytes at the end.
            declared = max(ends[name] for name in (b"moov", b"mdat", b"moof") if name in ends)
        elif head.startswith(_EBML_ID):
            declared = _matroska_end(head.ljust(_HEAD + 16, b"\0"), size)
        if declared > size:
            raise MediaError(Reason.UNREADABLE, f"the file breaks off at byte {size} of {declared}")


def _mp4_boxes(file: BinaryIO, size: int) -> dict[bytes, int]:
    """Type and declared end of the boxes of an MP4, the last of each type (ISO/IEC 14496-12, 4.2).

    MediaError(UNREADABLE) where it says that samples are encrypted, and where it counts more of them than the
    file can hold: FFmpeg makes room for all.
    """
    ends = {}
    for depth, kind, content, end in _walked_boxes(file, size):
        if not depth:
            ends[kind] = end
        if kind == b"stsd":
            file.seek(content + 12)  # the type of its first entry, behind version, count and size
            if file.read(4) in _ENCRYPTED:
                raise MediaError(Reason.UNREADABLE, "it is encrypted (DRM): give a copy that is not")
        if kind in _COUNT_AT:
            file.seek(content + _COUNT_AT[kind])
            count = int.from_bytes(file.read(4), "big")
            if count > _SAMPLES_PER_BYTE * size:
                detail = f"its index has {count:,} samples, in a file of {size:,} bytes"
                raise MediaError(Reason.UNREADABLE, detail)
    return ends


def _walked_boxes(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes, int, int]]:
    """(depth, type, where its content begins, declared end) of the boxes that lead to an index, in their order."""
    at, inside = 0, [size]
    for _ in range(_MOST_BOXES):
        while inside and at + 8 > inside[-1]:
            at = inside.pop()
        if not inside:
            return
        file.seek(at)
        header = file.read(16)
        length, content = int.from_bytes(header[:4], "big"), at + 8
        if length == 1:
            length, content = int.from_bytes(header[8:16], "big"), at + 16
        elif length == 0:
            length = inside[-1] - at
        end = at + max(length, 8)
        yield len(inside) - 1, header[4:8], content, end
        if header[4:8] in _LEADING:
            inside.append(min(end, inside[-1]))
            at = content
        else:
            at = end


def _matroska_end(head: bytes, size: int) -> int:
    """Declared end of a Matroska or WebM file; its present size where none is declared (RFC 8794, 6 and 4)."""
    length, start = _ebml_number(head, len(_EBML_ID))
    start += length
    if head[start : start + 4] != _SEGMENT_ID:
        return size
    length, start = _ebml_number(head, start + len(_SEGMENT_ID))
    return size if length < 0 else start + length


def _ebml_number(head: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends) of a number of variable length (RFC 8794, 4); -1 for the reserved "unknown"."""
    width = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (-1 if value == (1 << 7 * width) - 1 else value), at + width
