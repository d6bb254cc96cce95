"""A video and a sound to a dubbed video: find the face, draw its lower half anew from the sound, put it back.

The rules. The output has the video's frames at 25 fps and its size; the sound is cut, or padded with silence, to its
length. Frames without a face pass through, and so does every pixel outside the soft mask of the lower face. Where
several faces are seen at once, the largest speaks.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from syncdiff_data.clips import ClipConfig, ClipCutter
from syncdiff_data.faces import FaceConfig, load_backend, mean_face
from syncdiff_data.features import Encoder, load_encoder
from syncdiff_data.loader.sample import feature_windows
from syncdiff_data.media import AudioTrack, Video, write_video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS, SAMPLES_PER_FRAME, Clip, MediaError, Reject, Source, UserError
from syncdiff_model.compositing import paste_face
from syncdiff_model.conditioning import soft_mask
from syncdiff_model.sampling import Conditions, SamplingConfig, conditions, generate
from syncdiff_model.syncdiff import SyncDiff


@dataclass(frozen=True)
class DubConfig:
    """How a video is dubbed."""

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    faces: FaceConfig = field(default_factory=FaceConfig)
    """How faces are found; the crop size is the model's, whatever is said here."""


@dataclass(frozen=True)
class Pair:
    """One video and the sound it is dubbed with, and where the result goes."""

    video: Path
    audio: Path
    output: Path


@dataclass(frozen=True)
class Failure:
    """Why a pair was not dubbed."""

    reason: Reason
    detail: str


@dataclass(frozen=True)
class _Part:
    """A span of the video with a face to draw: where it starts, in frames, and what it is drawn from."""

    first: int
    face_to_source: np.ndarray
    conditions: Conditions


@dataclass(frozen=True)
class _Scene:
    """A pair made ready."""

    pair: Pair
    video: Video
    sound: np.ndarray
    parts: list[_Part]


class Dubber:
    """A model with the face backend and the audio encoder it needs, loaded once."""

    def __init__(self, model: SyncDiff, config: DubConfig, weights: Mapping[str, Path] | None = None):
        """weights: files the user gave, by name. UserError when one is missing."""
        faces = replace(config.faces, crop_size=model.conditioner.config.crop_size)
        device = model.device.type
        self.model, self.sampling = model, config.sampling
        self.clips = ClipConfig(faces=faces, mouth=False, allow_no_audio=True)
        self.backend = load_backend(faces, weights or {}, device)
        self.encoder = feature_encoder(model, weights or {}, device)
        self.shown = soft_mask(model.conditioner.mask, faces.crop_size).numpy()

    def dub(self, pairs: Sequence[Pair]) -> Iterator[Failure | None]:
        """Write each pair's output; yields, in order, None or why there is none. Clips of neighbouring pairs are
        generated side by side. UserError for what stops them all, such as a full disk."""
        for start in range(0, len(pairs), self.sampling.batch_clips):
            scenes = [
                self._prepare_or_fail(pair) for pair in pairs[start : start + self.sampling.batch_clips]
            ]
            ready = [scene for scene in scenes if isinstance(scene, _Scene)]
            faces = generate(
                self.model, [part.conditions for scene in ready for part in scene.parts], self.sampling
            )
            for scene in scenes:
                if isinstance(scene, Failure):
                    yield scene
                else:
                    # Every face of the scene is taken here, also where writing fails: the next scene's follow.
                    drawn = [(part, next(faces).permute(0, 2, 3, 1).numpy()) for part in scene.parts]
                    yield _failure_of(lambda: self._write(scene, drawn))  # noqa: B023  called at once

    def _prepare_or_fail(self, pair: Pair) -> _Scene | Failure:
        prepared: list[_Scene | Failure] = []
        failure = _failure_of(lambda: prepared.append(self._prepare(pair)))
        return failure or prepared[0]

    def _prepare(self, pair: Pair) -> _Scene | Failure:
        try:
            video = Video(pair.video)
            clips = self._find_speaker(pair.video)
        except MediaError as error:
            return Failure(error.reason, f"{pair.video.name}: {error}")
        try:
            sound = read_sound(pair.audio, video.num_frames)
        except MediaError as error:
            return Failure(error.reason, f"{pair.audio.name}: {error}")
        parts = []
        for clip in clips:
            first = round((clip.start_s - video.start_s) * FPS)
            heard = sound[first * SAMPLES_PER_FRAME : (first + clip.num_frames) * SAMPLES_PER_FRAME]
            parts.append(_Part(first, clip.face_to_source, self._conditions(clip, heard)))
        return _Scene(pair, video, sound, parts)

    def _find_speaker(self, path: Path) -> list[Clip]:
        """The clips to dub, in order of time. MediaError with the reason of the first reject when there is none."""
        cutter = ClipCutter(path.parent, "dub", self.clips, self.backend, mean_face(), ignore_audio=True)
        found = list(cutter.cut(Source(path.name, path.stat().st_size)))
        clips = [item for item in found if isinstance(item, Clip)]
        if not clips:
            reject = next(item for item in found if isinstance(item, Reject))
            raise MediaError(reject.reason, reject.detail)
        return choose_speaker(clips)

    def _conditions(self, clip: Clip, heard: np.ndarray) -> Conditions:
        # Without mouth crops an encoder that looks at lips fails, where it would else see those of the old words.
        spoken = replace(clip, audio=heard, mouth_png=None)
        told = self.model.conditioner.config
        features = self.encoder.encode([spoken])[0][told.feature]
        windows = feature_windows(features, np.arange(clip.num_frames), told.context)
        frames = torch.from_numpy(spoken.face).permute(0, 3, 1, 2)
        return conditions(self.model, frames, torch.from_numpy(windows))

    def _write(self, scene: _Scene, drawn: list[tuple[_Part, np.ndarray]]) -> None:
        def frames() -> Iterator[np.ndarray]:
            for index, frame in enumerate(scene.video.frames()):
                for part, face in drawn:
                    t = index - part.first
                    if 0 <= t < len(face):
                        frame = paste_face(frame, face[t], self.shown, part.face_to_source[t])
                yield frame

        scene.pair.output.parent.mkdir(parents=True, exist_ok=True)
        write_video(scene.pair.output, frames(), scene.sound)


def _failure_of(act: Callable[[], None]) -> Failure | None:
    """None where it works. Whatever one pair raises is its own failure, and never ends the others."""
    try:
        act()
    except UserError:
        raise
    except MediaError as error:
        return Failure(error.reason, str(error))
    except OSError as error:
        return Failure(Reason.WRITE_ERROR, f"{type(error).__name__}: {error.strerror or error}")
    except Exception as error:
        return Failure(Reason.UNEXPECTED_ERROR, "".join(traceback.format_exception(error)))
    return None


def read_sound(path: Path, num_frames: int) -> np.ndarray:
    """The sound of a file from its beginning, int16 [num_frames * 640], cut or padded with silence.

    A file with pictures begins at its first picture, any other at its first sound. MediaError when there is none.
    """
    sound = AudioTrack(path)
    try:
        start_s = Video(path).start_s
    except MediaError as error:
        if error.reason is not Reason.NO_VIDEO_STREAM:
            raise
        start_s = sound.start_s
    return sound.cut(start_s, num_frames)


def choose_speaker(clips: Sequence[Clip]) -> list[Clip]:
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
    told = model.conditioner.config
    layer = told.feature.removeprefix("layer")
    layers = (int(layer) if layer.isdigit() else None,) if told.encoder == "avhubert" else ()
    return load_encoder(told.encoder, layers, weights, device, checkpoint=told.checkpoint)
