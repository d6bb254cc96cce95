"""The frames of a source at a constant rate, by presentation time, upright, streamed.

PyAV decodes; decord decodes small files of the kinds on which it was measured to give the very same pixels, where it
is faster (docs/media.md). Both are single-threaded, so that a result does not depend on the machine's load.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from syncdiff_data.media.probe import first_audio, first_video, open_media, reason_of
from syncdiff_data.media.timeline import nearest_frames
from syncdiff_data.records import FPS, MediaError, Reason

_CACHE_BYTES = 64 << 20


class Video:
    """The first video stream of a file as `fps` frames per second (rule: media/timeline.py).

    width, height: of the upright frame in pixels; start_s: presentation time of frame 0 in the source's clock;
    num_frames: at `fps`; source_frame: int32 [num_frames], index into a sequential PyAV decode of the stream;
    has_audio; decoder: "decord" or "pyav". Pixel aspect ratios are not applied.

    Raises MediaError(NO_VIDEO_STREAM) or MediaError(UNREADABLE); `frames` raises the latter where decoding fails.
    A source of at most 64 MB decoded is decoded once and kept; a longer one is decoded again at each pass, one frame
    in memory at a time.
    """

    def __init__(self, path: str | Path, fps: int = FPS):
        self.path = Path(path)
        self.decoder = "pyav"
        pts = []
        for index, frame in enumerate(self._decode()):
            if index == 0:
                self._matrix = _display_matrix(frame)
                self._time_base = frame.time_base
                self.height, self.width = _upright(
                    np.empty((frame.height, frame.width, 0)), self._matrix
                ).shape[:2]
            pts.append(frame.pts)
        if not pts:
            raise MediaError(Reason.UNREADABLE, "the video stream holds no frame that decodes")
        with open_media(self.path) as container:
            self.has_audio = first_audio(container) is not None
        self._pts = np.array(pts, np.int64)
        self.source_frame = nearest_frames(self._pts, self._time_base, fps)
        self.start_s = float(pts[0] * self._time_base)
        self.num_frames = len(self.source_frame)

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Frames start to stop (exclusive; default: all): RGB uint8 [height, width, 3], read-only."""
        wanted = iter(self.source_frame[start:stop].tolist())
        want = next(wanted, None)
        for index, frame in enumerate(self._decode()):
            if want is None:
                return
            if index == want:
                image = _rgb(frame, self._matrix)
            while index == want:
                yield image
                want = next(wanted, None)

    def _decode(self) -> Iterator[VideoFrame]:
        with open_media(self.path) as container:
            stream = first_video(container)
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            count = 0
            try:
                for frame in container.decode(stream):
                    yield frame
                    count += 1
            except av.FFmpegError as error:
                raise MediaError(
                    Reason.UNREADABLE, f"frame {count} does not decode ({reason_of(error)})"
                ) from error


def _rgb(frame: VideoFrame, matrix: np.ndarray | None) -> np.ndarray:
    image = np.ascontiguousarray(_upright(frame.to_ndarray(format="rgb24"), matrix))
    image.flags.writeable = False
    return image


def _display_matrix(frame: VideoFrame) -> np.ndarray | None:
    """The 2x2 part of the display matrix, int32, or None where the file has none (ISO/IEC 14496-12, 8.3.2)."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)[:2, :2]


def _upright(image: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Turned and mirrored as the display matrix says (x' = a x + c y, y' = b x + d y), to the nearest right angle."""
    if matrix is None:
        return image
    (a, b), (c, d) = matrix
    if abs(b) > abs(a):
        image, (a, d) = image.swapaxes(0, 1), (c, b)
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
