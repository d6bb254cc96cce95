"""One source to clips and rejects: decode, track faces, align, crop, slice the audio."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from syncdiff_data.faces import (
    FaceBackend,
    FaceConfig,
    MouthCropper,
    Track,
    crop_face,
    face_transforms,
    find_tracks,
)
from syncdiff_data.images import encode_gray, encode_jpeg
from syncdiff_data.media import AudioTrack, Video
from syncdiff_data.ranges import check_ranges
from syncdiff_data.reasons import Reason
from syncdiff_data.recipe import canonical_json
from syncdiff_data.records import FPS, SAMPLES_PER_FRAME, Clip, MediaError, Reject, Source
from syncdiff_data.speaker import speaking_tracks
from syncdiff_data.stage.faults import is_transient
from syncdiff_data.stage.heartbeat import with_heartbeat

if TYPE_CHECKING:
    from syncdiff_data.sync_expert.expert import SyncExpert

VERSION = 3
"""Bumped by hand when the bytes of a clip change for the same options."""
FRAMES_PER_PASS = 1500
"""Clips are cropped in passes over the video that together hold at most two of the longest clips."""
SILENCE = 16
"""Sound whose samples all stay within this of zero (of 32767, -66 dB) is silent."""


@dataclass(frozen=True)
class ClipConfig:
    """What decides how a source becomes clips."""

    faces: FaceConfig = field(default_factory=FaceConfig)
    mouth: bool = True
    """Store AV-HuBERT's 96x96 mouth crops; --no-mouth saves their time and space (docs/scaling.md)."""
    allow_no_audio: bool = False
    """Keep sources without an audio stream, with silence in its place, instead of rejecting them as no_audio."""
    drop_silent: bool = False
    """Reject clips whose sound is silent throughout as silent_audio, instead of keeping them."""
    speaker: Literal["all", "sync"] = "all"
    """all: every face becomes a clip. sync: where several faces are seen at once, only the one that speaks, by the
    sync expert; the other frames of a track are left out, and a track that never speaks is rejected as not_speaking."""
    jpeg_quality: int = 95
    """JPEG quality of the face crops, 1 to 100."""

    def __post_init__(self) -> None:
        check_ranges(self, {"jpeg_quality": (1, 100)})


def clip_id_of(dataset: str, source: str, track: int, first_frame: int) -> str:
    """20 hex digits that name a clip, the same on every machine."""
    key = canonical_json([dataset, source, track, first_frame])
    return hashlib.sha256(key.encode()).hexdigest()[:20]


@dataclass
class ClipExtractor:
    """Extracts the clips of sources of one data set; holds the loaded face backend and the mean face."""

    root: Path
    """Folder that Source.path is relative to."""
    dataset: str
    config: ClipConfig
    backend: FaceBackend
    mean_face: np.ndarray
    """float [68, 2]: the mean face of the mouth crops, in AV-HuBERT's 256 x 256 space."""
    expert: SyncExpert | None = None
    """For config.speaker == "sync"."""
    ignore_audio: bool = False
    """Do not read the audio of sources, with silence in its place: dubbing needs the frames alone."""

    def extract_clips(
        self, source: Source, heartbeat: Callable[[], None] = lambda: None
    ) -> Iterator[Clip | Reject]:
        """Every track of the source as a clip or a reject, in the order (track, first frame).

        heartbeat is called at every decoded frame. A source that cannot be read gives one reject with track None.
        """
        try:
            yield from self._extract(source, heartbeat)
        except MediaError as error:
            if is_transient(error):  # the disk's fault, not the source's
                raise
            yield Reject(source.path, None, "decode", error.reason, str(error))

    def _extract(self, source: Source, heartbeat: Callable[[], None]) -> Iterator[Clip | Reject]:
        path = self.root / source.path
        video = Video(path, heartbeat=heartbeat)
        if not (video.has_audio or self.ignore_audio or self.config.allow_no_audio):
            raise MediaError(
                Reason.NO_AUDIO, "the file has no audio stream; --allow-no-audio keeps such sources"
            )
        audio = self._audio(path, video, heartbeat) if video.has_audio and not self.ignore_audio else None
        # frames [H, W, 3] of the whole video -> tracks: boxes [T, 4] and landmarks [T, 68, 2] a face
        tracks, rejects = find_tracks(
            with_heartbeat(video.frames(), heartbeat), self.backend, self.config.faces
        )
        yield from (Reject(source.path, r.track, "faces", r.reason, r.detail) for r in rejects)
        if self.config.speaker == "sync" and audio is not None:
            parts = self._speaking(video, audio, tracks, heartbeat)
            speaking = [track for track in parts if len(track.box) >= self.config.faces.min_frames]
            yield from _silent_faces(source, tracks, speaking)
            tracks = speaking
        # second pass over the frames of some tracks: crops [S, S, 3], encoded at once, and audio [T * 640] -> clips
        for group in _passes(tracks):
            for cropped in self._crop(video, group, heartbeat):
                yield self._clip(source, video, audio, cropped)

    def _speaking(
        self, video: Video, audio: AudioTrack, tracks: list[Track], heartbeat: Callable[[], None]
    ) -> list[Track]:
        if self.expert is None:
            raise ValueError("speaker sync needs an expert")

        def sound(first: int, count: int) -> np.ndarray:
            return audio.slice(video.start_s + first / FPS, count)

        def frames(first: int, stop: int) -> Iterator[np.ndarray]:
            return with_heartbeat(video.frames(first, stop), heartbeat)

        return speaking_tracks(tracks, frames, sound, self.expert, self.mean_face)

    def _audio(self, path: Path, video: Video, heartbeat: Callable[[], None]) -> AudioTrack | None:
        """The audio of the source to the end of its video; None where its track is empty and that is allowed."""
        try:
            return AudioTrack(path, video.start_s + (video.num_frames + 1) / FPS, heartbeat)
        except MediaError as error:
            if error.reason is Reason.NO_AUDIO and self.config.allow_no_audio:
                return None
            raise

    def _crop(self, video: Video, tracks: list[Track], heartbeat: Callable[[], None]) -> list[_CroppedTrack]:
        """The crops of some tracks, in one pass over the frames."""
        cropped = [_CroppedTrack(track, self.config, self.mean_face) for track in tracks]
        first = min(track.first_frame for track in tracks)
        stop = max(track.first_frame + len(track.box) for track in tracks)
        for index, frame in enumerate(with_heartbeat(video.frames(first, stop), heartbeat), start=first):
            for track in cropped:
                track.add(index, frame)
        return cropped

    def _clip(
        self, source: Source, video: Video, audio: AudioTrack | None, cropped: _CroppedTrack
    ) -> Clip | Reject:
        track = cropped.track
        first, count = track.first_frame, len(track.box)
        start_s = video.start_s + first / FPS
        samples = audio.slice(start_s, count) if audio else np.zeros(count * SAMPLES_PER_FRAME, np.int16)
        if self.config.drop_silent and np.abs(samples.astype(np.int32)).max(initial=0) <= SILENCE:
            detail = f"frames {first} to {first + count - 1} are silent"
            return Reject(source.path, track.track, "audio", Reason.SILENT_AUDIO, detail)
        return Clip(
            clip_id=clip_id_of(self.dataset, source.path, track.track, first),
            source=source.path,
            split=source.split,
            speaker=source.speaker,
            text=source.text,
            track=track.track,
            start_s=start_s,
            source_frame=video.source_frame[first : first + count].astype(np.int32),
            face_jpeg=tuple(cropped.face),
            mouth_png=tuple(cropped.mouth) if self.config.mouth else None,
            audio=samples,
            landmarks=track.landmarks.astype(np.float32),
            box=track.box.astype(np.float32),
            face_to_source=cropped.affines,
        )


class _CroppedTrack:
    """A track and its encoded crops, which grow as frames come by."""

    def __init__(self, track: Track, config: ClipConfig, mean: np.ndarray):
        self.track = track
        self.affines = face_transforms(track.landmarks, config.faces.crop_size, config.faces.smooth_frames)
        self.face: list[bytes] = []
        self.mouth: list[bytes] = []
        self._cropper = MouthCropper(track.landmarks, mean) if config.mouth else None
        self._size, self._quality = config.faces.crop_size, config.jpeg_quality

    def add(self, index: int, frame: np.ndarray) -> None:
        """Crop frame number `index` of the video, where the track covers it."""
        t = index - self.track.first_frame
        if not 0 <= t < len(self.affines):
            return
        self.face.append(encode_jpeg(crop_face(frame, self.affines[t], self._size), self._quality))
        if self._cropper:
            self.mouth.append(encode_gray(self._cropper.crop(frame, t)))


def _silent_faces(source: Source, tracks: list[Track], speaking: list[Track]) -> Iterator[Reject]:
    """A reject for each track of which nothing is left."""
    left = {track.track for track in speaking}
    for number in sorted({track.track for track in tracks} - left):
        detail = "another face fits the sound better as long as this one is seen"
        yield Reject(source.path, number, "speaker", Reason.NOT_SPEAKING, detail)


def _passes(tracks: list[Track]) -> Iterator[list[Track]]:
    """Neighbouring tracks in groups of at most FRAMES_PER_PASS frames, so that many faces cost
    one or two decodes."""
    group: list[Track] = []
    for track in tracks:
        if group and sum(len(t.box) for t in group) + len(track.box) > FRAMES_PER_PASS:
            yield group
            group = []
        group.append(track)
    if group:
        yield group
