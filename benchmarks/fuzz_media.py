"""Videos and sounds for fuzz.py: good ones in many containers, and all that reads a user's media files."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import av
import numpy as np
from damages import TAG, damaged

from syncdiff_data.clips import ClipConfig, ClipExtractor
from syncdiff_data.demo import talker_clip
from syncdiff_data.faces import FaceConfig, load_backend, mean_face
from syncdiff_data.media import AudioTrack, Video, write_video
from syncdiff_data.reasons import DUB_FAILURE_REASONS, REJECT_REASONS, SCORE_FAILURE_REASONS, Reason
from syncdiff_data.records import MediaError, Reject, Source
from syncdiff_data.shards.check import clip_problems
from syncdiff_data.stage.faults import failure_of
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.pairing import SOUND_SUFFIXES
from syncdiff_eval.protocols import SYNCDIFF_INDEX
from syncdiff_eval.reencode import reencode
from syncdiff_eval.scoring import (
    Scorer,
    ScoreRequest,
    ScoringError,
    driving_audio,
    measure_reference,
    score_clip,
)
from syncdiff_eval.videos import read_facts, sound_start
from syncdiff_model.dubbing import Dubber, DubConfig, DubPair
from syncdiff_model.generator import Generator

SIZE, FRAMES = 96, 11
"""Of the good videos: a face of some 45 pixels, just long enough for a clip."""
FACES = FaceConfig(min_face_px=24, crop_size=64, min_frames=6)
METRICS = ("image", "landmarks", "mouth_audio", "dynamics", "sharpness")
NEVER = {Reason.UNEXPECTED_ERROR, Reason.READ_ERROR, Reason.WORKER_CRASHED, Reason.WRITE_ERROR}
"""Reasons that damage of a file must not have: they blame the program or the disk."""


@dataclass(frozen=True)
class Format:
    """How a good file is written: container, codecs and their options; None for no such stream."""

    name: str
    video: str | None = "libx264"
    audio: str | None = "aac"
    pix_fmt: str = "yuv420p"
    rate: int = 16_000
    layout: str = "mono"
    container: Mapping[str, str] | None = None
    codec: Mapping[str, str] | None = None
    turned: bool = False
    every: int = 1
    """Ticks of 1/25 s from frame to frame, every third one twice as long where it is over 1."""


FORMATS = (
    Format("plain.mp4"),
    Format("fragments.mp4", container={"movflags": "frag_keyframe+empty_moov"}, codec={"g": "5"}),
    Format("fast.mp4", container={"movflags": "+faststart"}, codec={"bf": "3", "g": "8"}, rate=44_100, layout="stereo"),
    Format("turned.mov", "mjpeg", "pcm_s16le", "yuvj420p", turned=True),
    Format("hevc.mp4", "libx265", "ac3", rate=48_000, codec={"x265-params": "log-level=none:pools=1:frame-threads=1"}),
    Format("prores.mov", "prores_ks", "alac", "yuv422p10le", rate=48_000),
    Format("plain.mkv"),
    Format("lossless.mkv", "ffv1", "flac", "yuv444p", rate=48_000),
    Format("varying.mkv", audio="libmp3lame", rate=44_100, every=2),
    Format("vp8.webm", "libvpx", "libopus", rate=48_000, codec={"deadline": "realtime", "cpu-used": "8"}),
    Format("vp9.webm", "libvpx-vp9", "libopus", rate=48_000, codec={"deadline": "realtime", "cpu-used": "8"}),
    Format("old.avi", "mpeg4", "pcm_s16le"),
    Format("old_sound.avi", "mjpeg", "mp2", "yuvj420p", rate=44_100),
    Format("plain.ts", codec={"g": "8"}),
    Format("old.mpg", "mpeg2video", "mp2", rate=44_100),
    Format("old.flv", "flv", "libmp3lame", rate=44_100),
    Format("new.flv"),
    Format("old.wmv", "wmv2", "aac", rate=44_100),
    Format("silent.mp4", audio=None),
    Format("moving.gif", "gif", None, "rgb8"),
    Format("sound.wav", None, "pcm_s16le"),
    Format("deep.wav", None, "pcm_s24le", rate=48_000, layout="5.1"),
    Format("float.wav", None, "pcm_f32le", rate=96_000, layout="stereo"),
    Format("sound.mp3", None, "libmp3lame", rate=44_100, layout="stereo"),
    Format("sound.flac", None, "flac", rate=48_000),
    Format("sound.ogg", None, "libopus", rate=48_000),
    Format("sound.m4a", None, "aac", rate=22_050),
)  # fmt: skip
REFERENCE, SOUND = "reference.mp4", "driving.wav"
"""Good files that damaged ones are dubbed and scored with."""


class Still(Generator):
    """A generator for dubbing without a model: each crop, inverted."""

    name = "still"

    def __init__(self) -> None:
        self.faces_config = FACES
        self.mask = np.ones((FACES.crop_size, FACES.crop_size), np.float32)

    def encode_audio(self, sound: np.ndarray) -> np.ndarray:
        return np.zeros((len(sound) // 640, 1), np.float32)

    def start(self, identity: np.ndarray, sound: np.ndarray) -> None:
        return None

    def advance(
        self,
        states: Sequence[None],
        crops: Sequence[np.ndarray],
        times: Sequence[np.ndarray],
        heartbeat: Callable[[], None] = lambda: None,
    ) -> list[np.ndarray]:
        return [255 - crop for crop in crops]


def write_media(path: Path, form: Format, frames: Sequence[np.ndarray], audio: np.ndarray) -> None:
    """frames: RGB uint8; audio: int16 [N] at 16 kHz."""
    with av.open(str(path), "w", options=dict(form.container or {})) as container:
        container.metadata.update({"title": TAG.decode(), "comment": TAG.decode(), "artist": TAG.decode()})
        pictures = sound = None
        if form.video is not None:
            pictures = container.add_stream(form.video, rate=25, options=dict(form.codec or {}))
            pictures.height, pictures.width = frames[0].shape[:2]
            pictures.pix_fmt = form.pix_fmt
            pictures.codec_context.thread_count = 1
            if form.turned:
                pictures.set_display_matrix([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30])
        if form.audio is not None:
            sound = container.add_stream(form.audio, rate=form.rate, layout=form.layout)
        if pictures is not None:
            ticks = np.cumsum(
                [form.every * (1 + (i % 3 == 0 and form.every > 1)) for i in range(len(frames))]
            )
            for tick, frame in zip(ticks, frames):
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture.pts, picture.time_base = int(tick - ticks[0]), Fraction(1, 25)
                container.mux(pictures.encode(picture))
            container.mux(pictures.encode(None))
        if sound is not None:
            for block in resampled(audio, sound.codec_context.format.name, form):
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))


def resampled(audio: np.ndarray, sample_format: str, form: Format) -> Iterator[av.AudioFrame]:
    block = av.AudioFrame.from_ndarray(audio[None], format="s16", layout="mono")
    block.sample_rate, block.pts, block.time_base = 16_000, 0, Fraction(1, 16_000)
    resampler = av.AudioResampler(format=sample_format, layout=form.layout, rate=form.rate)
    yield from resampler.resample(block)
    yield from (block for block in resampler.resample(None) if block is not None)


def break_clock(path: Path, rng: np.random.Generator) -> bytes:
    """The packets of a file in a container that says other times: a jump, a slow or fast clock, one time for all."""
    kind, at = int(rng.integers(4)), int(rng.integers(1, 40))
    jump = int(10 ** rng.uniform(1, 9)) * int(rng.choice([-1, 1]))
    speed = float(10 ** rng.uniform(-3, 3))
    out = Path(tempfile.mkstemp(suffix=path.suffix)[1])
    try:
        with av.open(str(path)) as old, av.open(str(out), "w") as new:
            streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
            for number, packet in enumerate(packet for packet in old.demux() if packet.dts is not None):
                packet.stream = streams[packet.stream.index]
                pts, dts = packet.pts or 0, packet.dts or 0
                if kind == 0 and number >= at:
                    packet.pts, packet.dts = pts + jump, dts + jump
                elif kind == 1:
                    packet.pts, packet.dts = int(pts * speed), int(dts * speed)
                elif kind == 2:
                    packet.pts = dts
                elif kind == 3:
                    packet.pts, packet.dts = pts + number * abs(jump), dts + number * abs(jump)
                new.mux(packet)
        return out.read_bytes()
    except (av.FFmpegError, ValueError, OverflowError):  # a container that refuses such times
        return out.read_bytes()
    finally:
        out.unlink()


class Media:
    """Part `media`."""

    def make(self, good: Path) -> None:
        for number, form in enumerate(FORMATS):
            frames, audio, _ = talker_clip(number, FRAMES, SIZE)
            write_media(good / form.name, form, list(frames), audio)
        frames, audio, _ = talker_clip(0, FRAMES, SIZE)
        write_video(good / REFERENCE, frames, audio)
        write_media(good / SOUND, Format(SOUND, None, "pcm_s16le"), frames, audio)

    def load(self, good: Path, scratch: Path) -> LoadedMedia:
        return LoadedMedia(good, scratch)


class LoadedMedia:
    """The networks and good files, once a process."""

    def __init__(self, good: Path, scratch: Path):
        self.good, self.scratch = good, scratch
        self.backend = load_backend(FACES, {})
        config = ClipConfig(faces=FACES)
        self.extractor = ClipExtractor(scratch, "fuzz", config, self.backend, mean_face())
        self.dubber = Dubber(Still(), DubConfig())
        self.sound_dubber = Dubber(Still(), DubConfig(face_cache=scratch / "faces"))
        self.loop_dubber = Dubber(Still(), DubConfig(face_cache=scratch / "faces", longer_audio="loop"))
        families = {name: FAMILIES[name] for name in METRICS}
        factories = {name: family.load({}, "cpu") for name, family in families.items()}
        self.scorer = Scorer(SYNCDIFF_INDEX, families, factories, self.backend)
        self._files = [form.name for form in FORMATS]
        _ = self._reference

    @cached_property
    def _reference(self) -> Any:
        return measure_reference(self.good / REFERENCE, self.scorer, FACES)

    def damage(self, rng: np.random.Generator) -> tuple[str, bytes]:
        name = self._files[int(rng.integers(len(self._files)))]
        path = self.good / name
        if rng.random() < 0.06:
            return name, break_clock(path, rng)
        return name, bytes(damaged(path.read_bytes(), path.suffix, rng))

    def whole(self) -> Iterator[tuple[str, bytes]]:
        """The good videos of which everything can be made: those with sound, upright."""
        for form in FORMATS:
            if form.video is not None and form.audio is not None and not form.turned:
                yield form.name, (self.good / form.name).read_bytes()

    def acts(self, name: str, data: bytes) -> Iterator[tuple[str, Callable[[], str]]]:
        path = self.scratch / name
        path.write_bytes(data)
        out = self.scratch / "out"
        # A dub as long as its sound may take a minute: sounds alone, and not videos, make such.
        sound_dubber = self.loop_dubber if path.suffix in SOUND_SUFFIXES else self.sound_dubber
        acts = {
            "probe": lambda: _said(read_facts(path)),
            "preprocess": lambda: self._preprocess(path),
            "dub": lambda: self._dub(self.dubber, DubPair(path, self.good / SOUND, out / "a.mp4")),
            "dub with its sound": lambda: self._dub(
                sound_dubber, DubPair(self.good / REFERENCE, path, out / "b.mp4")
            ),
            "score": lambda: self._score(path),
            "score against it": lambda: _said(measure_reference(path, self.scorer, FACES)),
            "drive with its sound": lambda: _said(driving_audio(path, sound_start(path), FRAMES, 25.0)),
            "re-encode": lambda: _said(reencode(path, self.scratch / "again.mp4")),
        }
        for doing, act in acts.items():
            yield doing, lambda act=act: _end(act)  # type: ignore[misc]
        path.unlink()

    def _preprocess(self, path: Path) -> str:
        found = list(self.extractor.extract_clips(Source(path.name, path.stat().st_size)))
        rejects = [each for each in found if isinstance(each, Reject)]
        if strange := {reject.reason for reject in rejects} - (REJECT_REASONS - NEVER):
            raise AssertionError(f"rejected as {strange}")
        for clip in found:
            if not isinstance(clip, Reject) and (problems := list(clip_problems(clip, FACES.crop_size))):
                raise AssertionError(f"a clip that validate refuses: {problems}")
        if len(rejects) < len(found):
            return "clip"
        return str(rejects[0].reason) if rejects else "nothing"

    def _dub(self, dubber: Dubber, pair: DubPair) -> str:
        failure = dubber.dub(pair)
        left = [file.name for file in pair.output.parent.iterdir()] if pair.output.parent.exists() else []
        if failure is None:
            Video(pair.output, fps=None)
            pair.output.unlink()
            left.remove(pair.output.name)
        if left:
            raise AssertionError(f"left behind: {left}")
        if failure is not None and failure.reason not in DUB_FAILURE_REASONS - NEVER:
            raise AssertionError(f"{failure.reason}: {failure.detail}")
        return "dubbed" if failure is None else str(failure.reason)

    def _score(self, path: Path) -> str:
        audio = AudioTrack(self.good / SOUND).slice(0.0, FRAMES)
        score = score_clip(
            ScoreRequest(self.good / REFERENCE, self._reference, path, audio=audio), self.scorer
        )
        if infinite := {name: value for name, value in score.values.items() if not math.isfinite(value)}:
            raise AssertionError(f"scores {infinite}")
        return "scored"


def _said(result: object) -> str:
    return "ok"


def _end(act: Callable[[], str]) -> str:
    """How an act ends: a word of its own, or the reason of a refusal; anything else is raised."""
    try:
        return act()
    except ScoringError as error:
        if error.reason not in SCORE_FAILURE_REASONS - NEVER:
            raise
        return str(error.reason)
    except MediaError as error:
        # A reason as it is, but for errors of the disk, of which `failure_of` says what becomes of them.
        reason = failure_of(error).reason if error.__cause__ is not None else error.reason
        reason = error.reason if reason is Reason.UNEXPECTED_ERROR else reason
        if reason in NEVER:
            raise
        return str(reason)


PARTS = {"media": Media()}
