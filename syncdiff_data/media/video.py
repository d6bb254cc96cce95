"""The frames of a source, at a constant rate by presentation time or each at its own time; upright, streamed.

PyAV decodes and converts, both with one thread: docs/media.md says why no other decoder is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from syncdiff_data.media.decode import (
    EXACT_ROUNDING,
    FAST_ROUNDING,
    TIMELESS_FORMATS,
    decode_video,
    display_of,
    edit_delay,
    rgb_of,
)
from syncdiff_data.media.probe import first_video, open_media, words
from syncdiff_data.media.timeline import displayed_frames, duration_and_rate, nearest_frames
from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS, MediaError

MAX_GAP_S = 2
"""Seconds that one frame may be held: a longer gap is a broken clock, or a still picture."""
_KEPT_BYTES = 64 << 20
# FFmpeg 8.1 gives frames side data that PyAV 18.1 has no name for (Exif of JPEG, views of stereo), and PyAV raises:
# all of them get the name of one that nobody asks for.
SideDataType._missing_ = classmethod(lambda cls, value: cls.VIDEO_HINT)  # type: ignore[assignment,method-assign]
IndexedFrames = Iterator[tuple[int, VideoFrame]]
# Here one packet is one frame, with its own presentation time, and seeking to a key frame is exact.
INDEXED_FORMATS = ("mov", "matroska")


class Video:
    """The first video stream of a file as `fps` frames per second (the rule: media/timeline.py), or frame by frame.

    fps None: every displayed frame once, 0 to n - 1 (of frames with one time the last: the others are shown for
    0 s), converted to RGB with exact rounding, so that frames written again show the same colours.
    width, height: of the upright frame, in pixels (no correction for pixels that are not square).
    start_s: presentation time of frame 0 in the source's clock.
    num_frames: at `fps`.
    source_frame: int32 [num_frames], index into a sequential PyAV decode of the stream.
    pts: int64 [num_frames], presentation times of the source frames in units of time_base seconds.
    times: float64 [num_frames], the same in seconds from the first.
    duration_s: from the first frame to the end of the last, which lasts as long as the median gap.
    rate: frames per second of the source, the mean over its presentation times.
    has_audio: whether there is an audio stream.
    display: sample aspect ratio and colour tags.
    heartbeat: called at every packet and frame that is read.

    Raises MediaError(NO_VIDEO_STREAM), or MediaError(UNREADABLE) where the file cannot be opened, breaks off
    or does not decode, or MediaError(BROKEN_TIMESTAMPS) where its clock jumps by more than MAX_GAP_S; `frames`
    raises UNREADABLE too. A source that decodes to at most 64 MB is decoded once
    and kept. A longer one is decoded at each pass from the key frame before, with a few frames in memory. Containers
    without an index (MPEG streams, AVI, FLV) are decoded once on opening, and then by passes that follow each other.
    """

    decoder = "pyav"

    def __init__(self, path: str | Path, fps: int | None = FPS, heartbeat: Callable[[], None] = lambda: None):
        self.path = Path(path)
        self._rounding = EXACT_ROUNDING if fps is None else FAST_ROUNDING
        self._kept: list[VideoFrame] = []
        self._heartbeat = heartbeat
        with open_media(self.path) as container:
            stream = first_video(container)
            self.has_audio = bool(container.streams.audio)
            aspect = stream.sample_aspect_ratio
            packets = _Packets(container, stream, edit_delay(self.path, container, stream), heartbeat)
            size = packets.count * stream.width * stream.height * stream.format.bits_per_pixel // 8
        self._exact, self._key_pts = packets.exact, packets.key_pts
        # Without an index a pass goes on where the one before ended: (last frame's index, that frame, those behind it).
        self._cursor: tuple[int, VideoFrame, IndexedFrames] | None = None
        if size <= _KEPT_BYTES:
            self._kept = self._short()
        if self._kept:
            pts = [_pts(frame) for frame in self._kept]
        elif packets.exact:
            pts = sorted(packets.pts)
        else:
            pts = [_pts(frame) for frame in self._decode()]
        first = next(iter(self._kept or self._decode()), None)
        if first is None:
            raise MediaError(Reason.UNREADABLE, "the video stream has no frame that decodes")
        if np.any(np.diff(pts) < 0):
            at = int(np.argmax(np.diff(pts) < 0)) + 1
            raise MediaError(Reason.UNREADABLE, f"presentation times go back at frame {at}")
        _check_gaps(pts, packets.time_base)
        self._pts = np.array(pts, np.int64)
        self._orientation = display_matrix(first)
        self.height, self.width = upright(
            np.empty((first.height, first.width), np.uint8), self._orientation
        ).shape
        turned = (self.height, self.width) != (first.height, first.width)
        self.display = display_of(1 / aspect if aspect and turned else aspect, first)
        self.time_base = packets.time_base
        if fps is None:
            self.source_frame = displayed_frames(self._pts)
        else:
            self.source_frame = nearest_frames(self._pts, self.time_base, fps)
        self.num_frames = len(self.source_frame)
        self.start_s = float(pts[0] * self.time_base)
        self.pts = self._pts[self.source_frame]
        self.times = (self.pts - pts[0]) * self.time_base.numerator / self.time_base.denominator
        self.duration_s, self.rate = duration_and_rate(self._pts, self.time_base)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames start to stop (exclusive; default: to the end), each a new RGB uint8 [height, width, 3]."""
        wanted = self.source_frame[start:stop].tolist()
        if not wanted:
            return
        # One converter for all frames: a new one per frame costs more than decoding.
        converter = VideoReformatter()
        done = 0
        for index, frame in self._decode_from(wanted[0]):
            while done < len(wanted) and wanted[done] == index:
                image = np.ascontiguousarray(
                    upright(rgb_of(frame, converter, self._rounding), self._orientation)
                )
                if image.shape[:2] != (self.height, self.width):
                    raise MediaError(Reason.UNREADABLE, f"the picture's size changes at frame {index}")
                yield image
                done += 1
            if done == len(wanted):
                return
        raise MediaError(Reason.UNREADABLE, f"the video ends before frame {wanted[done]} of {len(self._pts)}")

    def _decode_from(self, first: int) -> IndexedFrames:
        """(index, frame) from frame `first` or before it, checked against the times found on opening."""
        if self._kept:
            yield from enumerate(self._kept[first:], start=first)
        elif self._exact:
            keys = [pts for pts in self._key_pts if pts <= self._pts[first]]
            yield from self._indexed(keys[-1] if len(keys) > 1 else None)
        else:
            yield from self._decode_onward(first)

    def _decode_onward(self, first: int) -> IndexedFrames:
        """Frames after the cursor, or after a new seek where `first` lies before it.
        The cursor is left at the last one."""
        cursor, self._cursor = self._cursor, None
        if cursor is None or cursor[0] > first:
            behind: IndexedFrames = self._decode_after_seek(first)
        else:
            behind = chain([cursor[:2]], cursor[2])
        for index, frame in behind:
            try:
                yield index, frame
            finally:
                self._cursor = (index, frame, behind)

    def _decode_after_seek(self, first: int) -> IndexedFrames:
        """Frames from a key frame well before `first` where the container finds it, else from the start."""
        done = -1
        keys = [pts for pts in self._key_pts if pts <= self._pts[first]]
        if len(keys) > 5:
            try:
                # A seek in an MPEG stream may lead one key frame behind its target.
                for done, frame in self._after_warm_up(keys[-5], keys[-2]):
                    yield done, frame
                return
            except MediaError:  # The seek led elsewhere: MPEG streams have no index.
                pass
        yield from (found for found in self._indexed() if found[0] > done)

    def _after_warm_up(self, seek_pts: int, key_pts: int) -> IndexedFrames:
        """Frames from the key frame at key_pts on, decoded from the one before, which later frames may refer to.
        Raises MediaError where the seek did not lead to it or a frame is not one that was found on opening."""
        index = int(np.searchsorted(self._pts, key_pts))
        warm = False
        for frame in self._decode(seek_pts):
            if not warm and _pts(frame) >= key_pts:
                raise MediaError(Reason.UNREADABLE, "the seek led behind its target")
            warm = True
            if _pts(frame) >= key_pts:
                if index >= len(self._pts) or frame.pts != self._pts[index]:
                    raise MediaError(Reason.UNREADABLE, f"frame {index} is lost in decoding")
                yield index, frame
                index += 1

    def _indexed(self, seek_pts: int | None = None) -> IndexedFrames:
        """Decoded frames with their index, from the start or an exact key frame on."""
        index = None if seek_pts is not None else 0
        for frame in self._decode(seek_pts):
            index = int(np.searchsorted(self._pts, _pts(frame))) if index is None else index
            if index >= len(self._pts) or frame.pts != self._pts[index]:
                raise MediaError(Reason.UNREADABLE, f"frame {index} of {len(self._pts)} is lost in decoding")
            yield index, frame
            index += 1

    def _short(self) -> list[VideoFrame]:
        """All frames, or none where they take more than _KEPT_BYTES: pictures may grow in mid-stream."""
        frames: list[VideoFrame] = []
        size = 0
        for frame in self._decode():
            size += frame.width * frame.height * frame.format.bits_per_pixel // 8
            if size > _KEPT_BYTES:
                return []
            frames.append(frame)
        return frames

    def _decode(self, seek_pts: int | None = None) -> Iterator[VideoFrame]:
        return decode_video(self.path, seek_pts, self._heartbeat)


class _Packets:
    """What a pass over the packets finds without decoding.

    late: what `edit_delay` says.
    pts, key_pts: presentation times of all and of key frames, in units of time_base; count: packets with
    data; exact: whether each is one shown frame with its own time.
    Raises MediaError(UNREADABLE) where the file breaks off.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, late: int, heartbeat: Callable[[], None]
    ):
        self.time_base: Fraction = stream.time_base or Fraction(1, FPS)
        self.pts: list[int] = []
        self.key_pts: list[int] = []
        self.count = 0
        discarded = False
        try:
            for packet in container.demux(stream):
                heartbeat()
                self.count += packet.size > 0
                discarded |= packet.is_discard
                if packet.pts is not None:
                    self.pts.append(packet.pts + late)
                    if packet.is_keyframe and container.format.name not in TIMELESS_FORMATS:
                        self.key_pts.append(packet.pts + late)
        except av.FFmpegError as error:
            detail = f"the file breaks off after {self.count} video frames ({words(error)})"
            raise MediaError(Reason.UNREADABLE, detail) from error
        self.exact = (
            container.format.name.startswith(INDEXED_FORMATS)
            and not discarded
            and self.count == len(self.pts) == len(set(self.pts))
        )


def _check_gaps(pts: list[int], time_base: Fraction) -> None:
    """MediaError(BROKEN_TIMESTAMPS) where a frame would be held for more than MAX_GAP_S.

    So the number of frames at a constant rate is bounded by that of the coded ones, whatever their clock says.
    """
    for index, (before, after) in enumerate(itertools.pairwise(pts)):
        gap_s = (after - before) * time_base  # exact: a broken clock overflows 64 bits
        if gap_s > MAX_GAP_S:
            raise MediaError(
                Reason.BROKEN_TIMESTAMPS,
                f"the clock jumps by {float(gap_s):.1f} s between frames {index} and {index + 1}; at most "
                f"{MAX_GAP_S} s may lie between two frames",
            )


def _pts(frame: VideoFrame) -> int:
    if frame.pts is None:
        raise MediaError(Reason.UNREADABLE, "the video stream carries no presentation times")
    return frame.pts


def display_matrix(frame: VideoFrame) -> np.ndarray | None:
    """[[a, b], [c, d]] of the display matrix (ISO/IEC 14496-12, 8.3.2), int64, in which -2**31 has an absolute value;
    None if there is none."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    return np.frombuffer(data, np.int32).astype(np.int64).reshape(3, 3)[:2, :2]  # type: ignore[call-overload]


def upright(image: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Image [H, W, ...] turned and mirrored by a display matrix, to the nearest right angle.

    The matrix moves a pixel to x' = a x + c y, y' = b x + d y.
    """
    if matrix is None:
        return image
    (a, b), (c, d) = matrix
    if abs(b) > abs(a):
        image, a, d = cv2.transpose(image), c, b
    if a < 0 or d < 0:
        image = cv2.flip(image, -1 if a < 0 and d < 0 else int(a < 0))
    return image
