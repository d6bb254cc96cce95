"""Do the crops show the frames they claim? Stored crops are compared with their sources, decoded a second time.

The second decode is decord's: another decoder, and one that reads a handful of frames out of a long file without
decoding the rest. Where it fails or disagrees (MPEG program streams and edit lists are known for it, docs/media.md)
a plain sequential PyAV decode decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path, PurePosixPath

import numpy as np

from syncdiff_data.faces import crop_face
from syncdiff_data.images import decode_jpeg, encode_jpeg
from syncdiff_data.media.decode import decode_video, rgb_of
from syncdiff_data.media.video import display_matrix, upright
from syncdiff_data.records import Clip, MediaError
from syncdiff_data.shards.inspect import spread_clips

LEAST_PSNR = 45.0
"""Decibels. The same frame comes out identical on one machine; of GRID's neighbouring frames the most alike have 43."""
FRAMES_PER_CLIP = 3


def audit(dataset: str | PathLike[str], root: Path, clips: int) -> Iterator[str]:
    """Problems found in `clips` clips spread over the data set: sources that are gone, crops of other frames.

    root: the folder that sources are relative to. Raises UserError when the data set is none.
    """
    for clip in spread_clips(dataset, clips):
        source = PurePosixPath(clip.source)
        if source.is_absolute() or ".." in source.parts:
            yield f"{clip.source} does not lie below the root: its path is absolute or has .., so it is not opened"
            continue
        path = root / clip.source
        if not path.is_file():
            yield f"{clip.source} is not below {root}"
            continue
        chosen = np.linspace(0, clip.num_frames - 1, FRAMES_PER_CLIP).round().astype(int).tolist()
        shows = _agree(clip, chosen, _by_decord(path, clip.source_frame[chosen].tolist()))
        if not all(shows):
            shows = _agree(clip, chosen, _by_pyav(path, clip.source_frame[chosen].tolist()))
        for t, same in zip(chosen, shows):
            if not same:
                index = clip.source_frame[t]
                yield f"{clip.source}, track {clip.track}: crop {t} does not show frame {index} of the source"


def _agree(clip: Clip, chosen: Sequence[int], frames: Sequence[np.ndarray | None]) -> list[bool]:
    return [frame is not None and shows(clip, t, frame) for t, frame in zip(chosen, frames)]


def shows(clip: Clip, t: int, frame: np.ndarray) -> bool:
    """Whether crop t of the clip is of this frame, upright RGB uint8 [H, W, 3]."""
    stored = decode_jpeg(clip.face_jpeg[t])
    again = decode_jpeg(encode_jpeg(crop_face(frame, clip.face_to_source[t], len(stored))))
    error = np.mean((stored.astype(np.float64) - again) ** 2)
    return bool(error <= 255**2 / 10 ** (LEAST_PSNR / 10))


def _by_decord(path: Path, indices: Sequence[int]) -> list[np.ndarray | None]:
    """The frames, or None for each one that decord cannot give."""
    # Not at the top: loaded before OpenCV, decord's own zlib takes the place of the one OpenCV reads PNG with.
    import decord

    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
        if max(indices) >= len(reader):
            return [None] * len(indices)
        return list(reader.get_batch(list(indices)).asnumpy())
    except decord.DECORDError:
        return [None] * len(indices)


def _by_pyav(path: Path, indices: Sequence[int]) -> list[np.ndarray | None]:
    found: dict[int, np.ndarray] = {}
    try:
        for index, frame in enumerate(decode_video(path)):
            if index in indices:
                found[index] = np.ascontiguousarray(upright(rgb_of(frame), display_matrix(frame)))
            if index >= max(indices):
                break
    except MediaError:
        pass  # What could not be decoded stays None, which the caller reports.
    return [found.get(index) for index in indices]
