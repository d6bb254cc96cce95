"""A video and a sound to a dubbed video: find the face, generate its lower half from the sound, paste it back.

The rules. The output has the video's frames at 25 fps and its size; the sound is cut, or padded with silence, to its
length. Frames without a face pass through, and so does every pixel outside the soft mask of the lower face. Where
several faces are seen at once, the largest speaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from syncdiff_data.clips import ClipConfig, ClipExtractor
from syncdiff_data.faces import FaceConfig, load_backend, mean_face
from syncdiff_data.features import Encoder, EncoderOptions, load_encoder
from syncdiff_data.loader.sample import feature_windows
from syncdiff_data.media import AudioTrack, Video, write_video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS, SAMPLES_PER_FRAME, Clip, MediaError, Reject, Source, UserError
from syncdiff_data.speaker import load_speaker_expert
from syncdiff_data.stage import is_transient
from syncdiff_data.stage.faults import run_fault
from syncdiff_data.stage.heartbeat import Heartbeat, no_heartbeat
from syncdiff_model.compositing import paste_face
from syncdiff_model.conditioning import soft_mask
from syncdiff_model.sampling import Conditions, SamplingConfig, conditions, generate
from syncdiff_model.syncdiff import SyncDiff

FACES = ("largest", "speaking", "all")


@dataclass(frozen=True)
class DubConfig:
    """How a video is dubbed."""

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    faces: FaceConfig = field(default_factory=FaceConfig)
    """How faces are found; the crop size is the model's, whatever is said here."""
    face: str = "largest"
    """Which face is dubbed where several are seen: `largest`, `speaking` (the one whose lips fit the video's own sound,
    by the sync expert), `all`, or the number of a track, counted from 0 by its first frame."""


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


@dataclass(frozen=True)
class FaceSpan:
    """A span of the video whose face is generated: its first frame, where the crops lie, and the conditioning."""

    first: int
    face_to_source: np.ndarray
    conditions: Conditions


class Dubber:
    """A model with the face backend and the audio encoder it needs, loaded once."""

    def __init__(self, model: SyncDiff, config: DubConfig, weights: Mapping[str, Path] | None = None):
        """weights: files the user gave, by name. UserError when one is missing."""
        faces = replace(config.faces, crop_size=model.conditioner.config.crop_size)
        device = model.device.type
        self.model, self.sampling = model, config.sampling
        self.face = config.face
        if config.face not in FACES and not config.face.isdigit():
            raise UserError(f"--face {config.face!r}: expected {', '.join(FACES)} or the number of a track.")
        speaker: Literal["sync", "all"] = "sync" if config.face == "speaking" else "all"
        self.clips = ClipConfig(faces=faces, mouth=False, allow_no_audio=speaker == "all", speaker=speaker)
        self.expert = load_speaker_expert(device) if speaker == "sync" else None
        self.backend = load_backend(faces, weights or {}, device)
        self.encoder = feature_encoder(model, weights or {}, device)
        self.mask = soft_mask(model.conditioner.mask, faces.crop_size).numpy()

    def dub(self, pair: DubPair, heartbeat: Heartbeat = no_heartbeat) -> DubFailure | None:
        """Write the pair's output, whole or not at all; None, or why its files or its output do not allow it.

        Raises what is no property of the pair: a full disk, an unmounted folder, an exception nobody foresaw.
        """
        try:
            self._dub(pair, heartbeat)
        except (MediaError, OSError) as error:
            if is_transient(error) or run_fault(error):
                raise
            if isinstance(error, MediaError):
                return DubFailure(error.reason, str(error))
            return DubFailure(Reason.WRITE_ERROR, f"{type(error).__name__}: {error.strerror or error}")
        return None

    def _dub(self, pair: DubPair, heartbeat: Heartbeat) -> None:
        with _naming(pair.video):
            video = Video(pair.video, heartbeat=heartbeat)
            if self.expert is not None and not video.has_audio:
                raise MediaError(
                    Reason.NO_AUDIO, "it has no sound to tell who speaks by; choose a face by --face largest"
                )
            clips = self._speaker_clips(pair.video, heartbeat)
        with _naming(pair.audio):
            sound = read_sound(pair.audio, video.num_frames, heartbeat)
        # clips of the speaker -> spans of the video with their conditioning -> generated crops [T, S, S, 3]
        spans = [self._span(clip, video, sound) for clip in clips]
        faces = generate(self.model, [span.conditions for span in spans], self.sampling, heartbeat)
        generated = [(span, face.permute(0, 2, 3, 1).numpy()) for span, face in zip(spans, faces)]

        def frames() -> Iterator[np.ndarray]:
            for index, frame in enumerate(video.frames()):
                for span, face in generated:
                    t = index - span.first
                    if 0 <= t < len(face):
                        frame = paste_face(frame, face[t], self.mask, span.face_to_source[t])
                heartbeat()
                yield frame

        pair.output.parent.mkdir(parents=True, exist_ok=True)
        write_video(pair.output, frames(), sound)

    def _span(self, clip: Clip, video: Video, sound: np.ndarray) -> FaceSpan:
        first = round((clip.start_s - video.start_s) * FPS)
        audio = sound[first * SAMPLES_PER_FRAME : (first + clip.num_frames) * SAMPLES_PER_FRAME]
        return FaceSpan(first, clip.face_to_source, self._conditions(clip, audio))

    def _speaker_clips(self, path: Path, heartbeat: Heartbeat) -> list[Clip]:
        """The clips to dub, in order of time. MediaError with the reason of the first reject when there is none."""
        extractor = ClipExtractor(
            path.parent, "dub", self.clips, self.backend, mean_face(), self.expert,
            ignore_audio=self.expert is None,
        )  # fmt: skip
        found = list(extractor.extract_clips(Source(path.name, path.stat().st_size), heartbeat))
        clips = [item for item in found if isinstance(item, Clip)]
        if not clips:
            reject = next(item for item in found if isinstance(item, Reject))
            raise MediaError(reject.reason, reject.detail)
        return choose_faces(clips, self.face)

    def _conditions(self, clip: Clip, audio: np.ndarray) -> Conditions:
        # An encoder that needs mouth crops fails: they would show the original speech.
        dubbed = replace(clip, audio=audio, mouth_png=None)
        config = self.model.conditioner.config
        features = self.encoder.encode([dubbed])[0][config.feature]
        windows = feature_windows(features, np.arange(clip.num_frames), config.context)
        frames = torch.from_numpy(dubbed.face).permute(0, 3, 1, 2)
        return conditions(self.model, frames, torch.from_numpy(windows))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A MediaError of the body says which file is at fault."""
    try:
        yield
    except MediaError as error:
        raise MediaError(error.reason, f"{path.name}: {error}") from error


def read_sound(path: Path, num_frames: int, heartbeat: Heartbeat = no_heartbeat) -> np.ndarray:
    """The sound of a file from its beginning, int16 [num_frames * 640], cut or padded with silence.

    A file with pictures begins at its first picture, any other at its first sound. MediaError when there is none.
    """
    sound = AudioTrack(path)
    try:
        start_s = Video(path, heartbeat=heartbeat).start_s
    except MediaError as error:
        if error.reason is not Reason.NO_VIDEO_STREAM:
            raise
        start_s = sound.start_s
    return sound.slice(start_s, num_frames)


def choose_faces(clips: Sequence[Clip], face: str) -> list[Clip]:
    """The clips to dub, in order of time; `face` as in DubConfig. MediaError where no clip has that number."""
    if face == "all":
        return sorted(clips, key=lambda clip: clip.start_s)
    if face.isdigit():
        chosen = [clip for clip in clips if clip.track == int(face)]
        if not chosen:
            numbers = ", ".join(str(number) for number in sorted({clip.track for clip in clips}))
            raise MediaError(Reason.NO_FACE, f"there is no face number {face}; there are {numbers}")
        return sorted(chosen, key=lambda clip: clip.start_s)
    return largest_faces(clips)


def largest_faces(clips: Sequence[Clip]) -> list[Clip]:
    """Of clips that overlap in time the one with the largest face (mean box area), in order of time."""

    def area(clip: Clip) -> float:
        return float(np.prod(clip.box[:, 2:] - clip.box[:, :2], axis=1).mean())

    def overlap(a: Clip, b: Clip) -> bool:
        return a.start_s < b.start_s + b.num_frames / FPS and b.start_s < a.start_s + a.num_frames / FPS

    chosen: list[Clip] = []
    for clip in sorted(clips, key=area, reverse=True):
        if not any(overlap(clip, other) for other in chosen):
            chosen.append(clip)
    return sorted(chosen, key=lambda clip: clip.start_s)


def feature_encoder(model: SyncDiff, weights: Mapping[str, Path], device: str) -> Encoder:
    """The audio encoder whose column the model was trained on. UserError when its weights are not here."""
    config = model.conditioner.config
    layer = config.feature.removeprefix("layer")
    layers = (int(layer) if layer.isdigit() else None,) if config.encoder == "avhubert" else ()
    options = EncoderOptions(tuple(layers), checkpoint=config.checkpoint, weights=weights, device=device)
    return load_encoder(config.encoder, options)
