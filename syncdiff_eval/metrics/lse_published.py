"""LSE as published: four protocols that go by one name, on the file's own frames and sound.

Embeddings of a file are made once for each crop and kept: the three protocols that crop faces share theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncdiff_data.media import Video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import SAMPLES_PER_FRAME
from syncdiff_data.weights import file_sha256
from syncdiff_eval.metrics.base import (
    ClipContext,
    FrameBatch,
    MetricFactory,
    MetricFamily,
    ReportGroup,
    Values,
)
from syncdiff_eval.metrics.lse import Sync, sync_of
from syncdiff_eval.metrics.lse_face import COLUMNS, none_of, values_of
from syncdiff_eval.metrics.sums import WholeClip
from syncdiff_eval.networks.syncnet_crops import crop, crop_path, to_bgr, whole_frame
from syncdiff_eval.networks.syncnet_windows import EMBEDDING, WINDOW, LipStream

if TYPE_CHECKING:
    from syncdiff_eval.networks.face_tracks import Detector
    from syncdiff_eval.networks.syncnet import SyncNet

VERSION = 2
"""Version 1, without packed convolutions, differs in the last digits of an embedding."""
SHORTEST_TRACK = 50
"""Detections that the most tolerant protocol asks for; the others choose among its tracks."""
Arrays = dict[str, np.ndarray]
Embed = Callable[["OwnFrames"], Arrays]
"""Of one file: lips float32 [sum of windows, 1024] of every track one after the other; per track first_frame,
windows and detections, int64."""
Reduce = Callable[[Sequence[Sync]], Values]


@dataclass(frozen=True)
class OwnFrames:
    """The file's frames at 25 fps, as often as wanted; frozen shows its first all through."""

    video: Video
    frozen: bool = False
    heartbeat: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[np.ndarray]:
        first: np.ndarray | None = None
        for frame in self.video.frames():
            self.heartbeat()
            first = frame if first is None else first
            yield first if self.frozen else frame


def embed_whole(frames: OwnFrames, network: SyncNet) -> Arrays:
    """The whole frame, resized to 224 whatever its shape, as one track."""
    lips = network.embed_lips(to_bgr(whole_frame(frame)) for frame in frames)
    length = frames.video.num_frames
    return {"lips": lips, "first_frame": np.array([0]), "windows": np.array([len(lips)]),
            "detections": np.array([length])}  # fmt: skip


def embed_tracks(frames: OwnFrames, network: SyncNet, detector: Detector) -> Arrays:
    """Every face track of more than 50 detections; one pass to detect, one to crop."""
    from syncdiff_eval.networks.face_tracks import detect, syncnet_tracks

    tracks = syncnet_tracks(*detect(frames, detector), SHORTEST_TRACK)
    paths = [crop_path(track.boxes, "zero") for track in tracks]
    streams = [LipStream(network) for _ in tracks]
    for index, frame in enumerate(frames if tracks else ()):
        for track, path, stream in zip(tracks, paths, streams):
            if 0 <= index - track.first_frame < len(path):
                stream.add(to_bgr(crop(frame, *path[index - track.first_frame])))
    lips = [stream.finish() for stream in streams]
    return {
        "lips": np.concatenate(lips) if lips else np.empty((0, EMBEDDING), np.float32),
        "first_frame": np.array([track.first_frame for track in tracks], np.int64),
        "windows": np.array([len(part) for part in lips], np.int64),
        "detections": np.array([track.detections for track in tracks], np.int64),
    }


def mean_of_tracks(syncs: Sequence[Sync]) -> Values:
    """Means; the offset is that of the track SyncNet is surest of."""
    surest = max(syncs, key=lambda sync: sync.lse_c)
    return values_of(surest) | {
        "lse_c": float(np.mean([sync.lse_c for sync in syncs])),
        "lse_d": float(np.mean([sync.lse_d for sync in syncs])),
    }


def best_of_tracks(syncs: Sequence[Sync]) -> Values:
    """The highest confidence and the lowest distance, which may be of two different speakers, as published."""
    surest = max(syncs, key=lambda sync: sync.lse_c)
    return values_of(surest) | {"lse_d": min(sync.lse_d for sync in syncs)}


class FileSync(WholeClip):
    """One file scored alone. It reads its frames itself, as it may need them twice; batches say nothing to it."""

    def __init__(
        self, context: ClipContext, network: SyncNet, embed: Embed, producer: dict[str, object],
        min_track: int, reduce: Reduce,
    ):  # fmt: skip
        super().__init__()
        self._context = context
        self._network = network
        self._embed = embed
        self._producer = producer
        self._min_track = min_track
        self._reduce = reduce

    def update(self, batch: FrameBatch) -> None:
        raise ValueError("published LSE protocols score a file standalone, not beside a reference")

    def _own(self) -> Values:
        if self._context.audio is None:
            return none_of(Reason.NO_AUDIO)
        arrays = self._embeddings()
        chosen = np.flatnonzero(arrays["detections"] > self._min_track)
        if len(chosen) == 0:
            return none_of(Reason.NO_FACE_TRACK)
        syncs = [sync for track in chosen if (sync := self._sync(arrays, int(track))) is not None]
        return self._reduce(syncs) if syncs else none_of(Reason.TOO_SHORT_FOR_SYNC)

    def _sync(self, arrays: Arrays, track: int) -> Sync | None:
        ends = np.cumsum(arrays["windows"])
        windows = int(arrays["windows"][track])
        lips = arrays["lips"][ends[track] - windows : ends[track]]
        first = int(arrays["first_frame"][track])
        assert self._context.audio is not None
        sound = self._context.audio[
            first * SAMPLES_PER_FRAME : (first + windows + WINDOW - 1) * SAMPLES_PER_FRAME
        ]
        return sync_of(lips, sound, self._network, "zero")

    def _embeddings(self) -> Arrays:
        frame_cache, video = self._context.frame_cache, self._context.video
        kept = frame_cache.read(**self._producer) if frame_cache else None
        if kept is not None:
            return kept
        if video is None:
            raise ValueError("published LSE protocols need a standalone protocol")
        arrays = self._embed(OwnFrames(video, self._context.frozen, self._context.heartbeat))
        if frame_cache:
            frame_cache.store(arrays, **self._producer)
        return arrays


def _whole_family(name: str) -> MetricFamily:
    def load(weights: Mapping[str, Path], device: str) -> MetricFactory:
        from syncdiff_eval.networks.syncnet import SyncNet

        network = SyncNet.from_file(weights["syncnet"], device)
        producer = _producer("lse-whole-frame", weights, ("syncnet",))
        return lambda context: FileSync(
            context, network, lambda frames: embed_whole(frames, network), producer, 0, mean_of_tracks
        )

    return MetricFamily(name, COLUMNS, VERSION, load, ("syncnet",), group=ReportGroup.SYNC)


def _track_family(name: str, min_track: int, reduce: Reduce) -> MetricFamily:
    needed = ("syncnet", "sfd")

    def load(weights: Mapping[str, Path], device: str) -> MetricFactory:
        from syncdiff_eval.networks.face_tracks import S3fdDetector
        from syncdiff_eval.networks.syncnet import SyncNet

        network = SyncNet.from_file(weights["syncnet"], device)
        detector = S3fdDetector(weights["sfd"], device)
        producer = _producer("lse-face-tracks", weights, needed)
        return lambda context: FileSync(
            context,
            network,
            lambda frames: embed_tracks(frames, network, detector),
            producer,
            min_track,
            reduce,
        )

    return MetricFamily(name, COLUMNS, VERSION, load, needed, group=ReportGroup.SYNC)


def _producer(name: str, weights: Mapping[str, Path], needed: Sequence[str]) -> dict[str, object]:
    return {"name": name, "version": VERSION, **{key: file_sha256(weights[key]) for key in needed}}


SYNC_WAV2LIP_LRS = _whole_family("lse-wav2lip-lrs")
SYNC_SYNCNET_TRACK = _track_family("lse-syncnet-track", 100, mean_of_tracks)
SYNC_LATENTSYNC = _track_family("lse-latentsync", 50, mean_of_tracks)
SYNC_MOCHABENCH = _track_family("lse-mochabench", 50, best_of_tracks)
