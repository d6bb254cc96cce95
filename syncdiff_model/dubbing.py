"""A video and a sound to a dubbed video: find the face, generate its lower half from the sound, paste it back.

The rules. The output has the video's own frames at their own times, its size, aspect and colour tags, and the given
sound as it is. Frames without a face pass through, and so does every pixel outside the soft mask of the face. Frames
are streamed: memory does not grow with the video.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from syncdiff_data.faces import FaceConfig, Track, crop_face, load_backend, mean_face
from syncdiff_data.landmarks import eye_distance, lip_gap
from syncdiff_data.media import AudioTrack, LongerAudio, Playback, Video, sound_start, write_redub
from syncdiff_data.prepared import find_faces, speaking_parts
from syncdiff_data.ranges import AT_LEAST_0, check_ranges
from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS, MediaError, UserError
from syncdiff_data.speaker import load_speaker_expert
from syncdiff_data.stage import is_transient
from syncdiff_data.stage.faults import run_fault
from syncdiff_data.stage.heartbeat import Heartbeat, no_heartbeat
from syncdiff_model.compositing import match_colour, paste_face, sharpen
from syncdiff_model.generator import FRAMES_AT_ONCE, Generator
from syncdiff_model.rollout import SamplingConfig

FACES = ("largest", "speaking", "all")
TRACK_NUMBER = re.compile("[0-9]{1,9}")
SEARCHED_S = 60.0
"""Seconds at a track's beginning in which its identity frame is chosen."""
MAX_SOUND_GAP_S = 60.0
"""Seconds without any sound in a file's stream, with longer_audio other than `stop`."""
Progress = Callable[[int, int], None]
"""progress(done, total): frames written, and of how many."""


@dataclass(frozen=True)
class DubConfig:
    """How a video is dubbed."""

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    face: str = "largest"
    """Which face is dubbed where several are seen: `largest`, `speaking` (the one whose lips fit the video's own sound,
    by the sync expert), `all`, or the number of a track, counted from 0 by its first frame."""
    longer_audio: LongerAudio = "stop"
    """Where the sound is longer than the video: `stop` cuts it, `hold` shows the last frame on, `loop` the video
    backward and forward again."""
    backend: str | None = None
    """Face backend instead of the one that the model's training data were made with."""
    min_face_px: int | None = None
    """Smallest face that is dubbed, as the median side of its box; unset: as in training."""
    max_roll: float | None = None
    """Largest roll in degrees; unset: as in training."""
    face_cache: Path | None = None
    """Folder that keeps the faces of every video, so that one video with many sounds is analysed once; unset keeps none
    (lists keep them in OUT/.faces)."""
    sharpen: float = 0.4
    """How much a face that is enlarged is sharpened, against the softening by cropping and pasting; 0 turns it off."""
    match_colour: bool = True
    """Shift the colours of a generated face to the video's along the seam."""

    def __post_init__(self) -> None:
        if self.face not in FACES and not TRACK_NUMBER.fullmatch(self.face):
            raise UserError(f"--face {self.face!r}: expected {', '.join(FACES)} or the number of a track.")
        check_ranges(self, {"min_face_px": AT_LEAST_0, "max_roll": (0, 180), "sharpen": (0, 10)})


@dataclass(frozen=True)
class DubPair:
    """One video and the sound it is dubbed with, and where the result goes."""

    video: Path
    audio: Path
    output: Path


@dataclass(frozen=True)
class DubFailure:
    """Why a pair was not dubbed."""

    reason: Reason
    detail: str


@dataclass
class FaceSpan:
    """A span of the video whose face is generated: its first frame, where its crops lie, the generator's state."""

    first: int
    face_to_source: np.ndarray
    state: Any

    def covers(self, frame: int) -> bool:
        return 0 <= frame - self.first < len(self.face_to_source)


class Dubber:
    """A generator with the face backend that it needs, loaded once."""

    def __init__(
        self,
        generator: Generator,
        config: DubConfig,
        weights: Mapping[str, Path] | None = None,
        device: str = "cpu",
    ):
        """weights: files the user gave, by name. UserError when one is missing."""
        self.generator, self.config = generator, config
        self.faces = chosen_faces_config(generator.faces_config, config)
        self.backend = load_backend(self.faces, weights or {}, device)
        self.expert = load_speaker_expert(device) if config.face == "speaking" else None

    def dub(
        self,
        pair: DubPair,
        heartbeat: Heartbeat = no_heartbeat,
        progress: Progress = lambda done, total: None,
    ) -> DubFailure | None:
        """Write the pair's output, whole or not at all; None, or why its files or its output do not allow it.

        Raises what is no property of the pair: a full disk, an unmounted folder, an exception nobody foresaw.
        """
        try:
            self._dub(pair, heartbeat, progress)
        except (MediaError, OSError) as error:
            if is_transient(error) or run_fault(error):
                raise
            if isinstance(error, MediaError):
                return DubFailure(error.reason, str(error))
            return DubFailure(Reason.WRITE_ERROR, f"{type(error).__name__}: {error.strerror or error}")
        return None

    def _dub(self, pair: DubPair, heartbeat: Heartbeat, progress: Progress) -> None:
        with _naming(pair.video):
            video = Video(pair.video, fps=None, heartbeat=heartbeat)
            tracks = self._tracks(video, heartbeat)
        shown = Playback(video, 0)
        with _naming(pair.audio):
            start_s = float(sound_start(pair.audio))
            stops = self.config.longer_audio == "stop"
            audio = AudioTrack(pair.audio, start_s + shown.duration_s if stops else math.inf, heartbeat)
            if not stops:
                _check_sound_gaps(audio, start_s)
        if not stops:
            shown = Playback(video, audio.end_s - start_s, self.config.longer_audio)
        # Sound beyond the last frame opens no mouth; a sound that ends earlier is followed by silence.
        features = self.generator.encode_audio(
            audio.slice(start_s, max(1, int(np.ceil(shown.duration_s * FPS))))
        )
        spans = [self._span(track, video, features) for track in tracks]
        frames = self._frames(shown, spans, heartbeat, progress)
        pair.output.parent.mkdir(parents=True, exist_ok=True)
        write_redub(pair.output, frames, shown, pair.audio, comment_of(self.generator.name), shown.duration_s)

    def _tracks(self, video: Video, heartbeat: Heartbeat) -> list[Track]:
        """The tracks to dub, in order of time. MediaError with a reason when there is none."""
        tracks = find_faces(video, self.backend, self.faces, self.config.face_cache, heartbeat)
        if self.expert is not None:
            if not video.has_audio:
                raise MediaError(
                    Reason.NO_AUDIO, "it has no sound to tell who speaks by; choose a face by --face largest"
                )
            tracks = speaking_parts(tracks, video, self.expert, mean_face(), heartbeat)
        return choose_faces(tracks, self.config.face)

    def _span(self, track: Track, video: Video, features: np.ndarray) -> FaceSpan:
        size = video.width, video.height
        where = self.generator.transforms(track.landmarks, track.box, size, float(video.rate))
        typical = typical_frame(track.landmarks[: max(1, round(SEARCHED_S * float(video.rate)))])
        (frame,) = video.frames(track.first_frame + typical, track.first_frame + typical + 1)
        identity = crop_face(frame, where[typical], self.generator.crop_size)
        return FaceSpan(track.first_frame, where, self.generator.start(identity, features))

    def _frames(
        self, shown: Playback, spans: Sequence[FaceSpan], heartbeat: Heartbeat, progress: Progress
    ) -> Iterator[np.ndarray]:
        """The output's frames, a few at a time: cropped, generated, pasted."""
        stream, done = shown.frames(), 0
        while frames := list(islice(stream, FRAMES_AT_ONCE)):
            order = shown.order[done : done + len(frames)]
            times = shown.times[done : done + len(frames)]
            self._dub_frames(frames, order, times, spans, heartbeat)
            yield from frames
            done += len(frames)
            progress(done, shown.num_frames)

    def _dub_frames(
        self,
        frames: list[np.ndarray],
        order: np.ndarray,
        times: np.ndarray,
        spans: Sequence[FaceSpan],
        heartbeat: Heartbeat,
    ) -> None:
        """Paste generated faces into some frames [H, W, 3], in place. order: which frame of the video each is."""
        size = self.generator.crop_size
        seen = [[i for i, frame in enumerate(order) if span.covers(int(frame))] for span in spans]
        live = [(span, rows) for span, rows in zip(spans, seen) if rows]
        crops = [
            np.stack([crop_face(frames[i], span.face_to_source[order[i] - span.first], size) for i in rows])
            for span, rows in live
        ]
        made = self.generator.advance(
            [span.state for span, _ in live], crops, [times[rows] for _, rows in live], heartbeat
        )
        for (span, rows), originals, faces in zip(live, crops, made):
            for i, original, face in zip(rows, originals, faces):
                where = span.face_to_source[order[i] - span.first]
                frames[i] = self._pasted(frames[i], original, face, where)

    def _pasted(
        self, frame: np.ndarray, original: np.ndarray, face: np.ndarray, where: np.ndarray
    ) -> np.ndarray:
        """The frame with a generated crop in the place of the original one."""
        shown = face.astype(np.float32)
        if self.config.match_colour:
            shown = match_colour(face, original, self.generator.mask)
        return paste_face(frame, sharpen(shown, self.config.sharpen, where), self.generator.mask, where)


def chosen_faces_config(trained: FaceConfig, config: DubConfig) -> FaceConfig:
    """How faces are found: as for the model's training data, but for what the user says otherwise."""
    given = {name: getattr(config, name) for name in ("backend", "min_face_px", "max_roll")}
    return replace(
        trained, largest_face=False, **{name: value for name, value in given.items() if value is not None}
    )


def comment_of(name: str) -> str:
    """What the file says of itself."""
    return f"synthetic: lips generated from sound by {name} (syncdiff)"


def typical_frame(landmarks: np.ndarray) -> int:
    """The frame whose head is turned most as it is on average, by points that speech does not move, mouth shut before
    open: the identity frame of a track [T, 68, 2]."""
    points = landmarks.astype(np.float64)
    eyes = eye_distance(points)
    still = (points[:, 17:48] - points[:, 27:31].mean(axis=1, keepdims=True)) / eyes[:, None, None]
    turned = np.linalg.norm(still - np.median(still, axis=0), axis=-1).mean(axis=-1)
    return int(np.argmin(turned + 0.2 * lip_gap(points) / eyes))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A MediaError of the body says which file is at fault."""
    try:
        yield
    except MediaError as error:
        raise MediaError(error.reason, f"{path.name}: {error}") from error


def _check_sound_gaps(audio: AudioTrack, start_s: float) -> None:
    """A video that lasts as long as the sound would be made endless by a clock that jumps."""
    gap = audio.longest_gap(start_s)
    if gap > MAX_SOUND_GAP_S:
        raise MediaError(
            Reason.BROKEN_TIMESTAMPS,
            f"the clock of its sound jumps by {gap:.1f} s; at most {MAX_SOUND_GAP_S:.0f} s of silence may lie between "
            "two sounds where the video is as long as the sound",
        )


def choose_faces(tracks: Sequence[Track], face: str) -> list[Track]:
    """The tracks to dub, in order of time; `face` as in DubConfig. MediaError where no track has that number."""
    if face == "all":
        return sorted(tracks, key=lambda track: track.first_frame)
    if TRACK_NUMBER.fullmatch(face):
        chosen = [track for track in tracks if track.track == int(face)]
        if not chosen:
            numbers = ", ".join(str(number) for number in sorted({track.track for track in tracks}))
            raise MediaError(Reason.NO_FACE, f"there is no face number {face}; there are {numbers}")
        return sorted(chosen, key=lambda track: track.first_frame)
    return largest_faces(tracks)


def largest_faces(tracks: Sequence[Track]) -> list[Track]:
    """Of tracks that overlap in time the one with the largest face (mean box area), in order of time."""

    def area(track: Track) -> float:
        return float(np.prod(track.box[:, 2:] - track.box[:, :2], axis=1).mean())

    def overlap(a: Track, b: Track) -> bool:
        return a.first_frame < b.first_frame + len(b.box) and b.first_frame < a.first_frame + len(a.box)

    chosen: list[Track] = []
    for track in sorted(tracks, key=area, reverse=True):
        if not any(overlap(track, other) for other in chosen):
            chosen.append(track)
    return sorted(chosen, key=lambda track: track.first_frame)
