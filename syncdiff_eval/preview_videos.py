"""Small videos of chosen clips for the report: the reference with the driving sound, and each method's output.

All are at 25 fps by the rule that the scores use (frame i of an output is shown when frame i of the reference is) and
show the same part of the picture. A video that cannot be made has a reason instead; scores do not depend on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from syncdiff_data.cli import RayOptions
from syncdiff_data.media import Video, write_video
from syncdiff_data.media.encode import ENCODING_SETTINGS, FOR_BROWSERS
from syncdiff_data.media.timeline import nearest_frames
from syncdiff_data.reasons import Reason
from syncdiff_data.records import FPS, MediaError
from syncdiff_data.stage import Context, Failure, Stage, is_transient, run_stage
from syncdiff_data.weights import file_sha256
from syncdiff_eval.cache import Cache, key_of, open_run
from syncdiff_eval.methods import GROUND_TRUTH
from syncdiff_eval.metrics.base import Regions
from syncdiff_eval.metrics.landmarks import mouth_opening
from syncdiff_eval.records import Arrays, ClipRecord, failed_record, unpack_reference
from syncdiff_eval.regions import generated_landmarks
from syncdiff_eval.report.previews import PreviewVideo, Videos, sentence_of
from syncdiff_eval.runner import load_scorer
from syncdiff_eval.scoring import Reference, driving_audio
from syncdiff_eval.tasks import ScoringConfig, list_tasks
from syncdiff_eval.videos import frames, sound_start

MOST_FRAMES = 10 * FPS
"""Of a preview: longer clips are cut."""
HEIGHT = 192
"""Most lines of a picture; smaller ones are not enlarged."""
CRF = 28
MARGIN = 0.3
"""Around the speaker's face, in sides of it."""
SETTINGS = (
    f"version 1, {MOST_FRAMES} frames, {HEIGHT} lines, margin {MARGIN}, crf {CRF}, {dict(FOR_BROWSERS)}, "
    f"{ENCODING_SETTINGS}"
)
"""All that decides a preview but the files: for cache keys."""


def make_videos(
    config: ScoringConfig, records: Sequence[ClipRecord], clips: Collection[str], options: RayOptions
) -> Videos:
    """Of every clip in `clips`, the reference and each method's output; a row without a score has its reason.

    Finished ones come from the cache. Needs an open `ray_session`. Raises UserError for faults of the run.
    """
    rows = {(record["method"], record["clip"]): record for record in records}
    plans = [plan for plan in _plans(config) if plan.clip in clips]
    scored = [plan for plan in plans if rows[plan.method, plan.clip]["status"] == "scored"]
    with open_run(config.cache) as cache:
        made = run_stage(PreviewStage(config, cache, config.clip_timeout), scored, options)
        found = {(plan.method, plan.clip): _read(result, cache) for plan, result in zip(scored, made)}
    failed = [row for plan in plans if (row := (plan.method, plan.clip)) not in found]
    return found | {row: sentence_of(rows[row]["reason"], rows[row]["detail"]) for row in failed}


@dataclass(frozen=True)
class PreviewPlan:
    """One video to make. video, audio: paths below the reference folder."""

    method: str
    clip: str
    file: Path
    """What is shown: the reference or a method's output."""
    video: str
    audio: str | None
    """The driving sound, of the reference alone."""


def _plans(config: ScoringConfig) -> Iterator[PreviewPlan]:
    """Every clip's reference, with the sound that drives the methods, and every method's output; no baselines."""
    for pair in config.pairing.pairs:
        yield PreviewPlan(GROUND_TRUTH.name, pair.clip, config.reference / pair.video, pair.video, pair.audio)
    for task in list_tasks([method for method in config.methods if method.is_competitor], config.pairing):
        # A row without exactly one file has failed, and is not looked at.
        file = task.outputs[0] if task.outputs else Path()
        yield PreviewPlan(task.method, task.clip, file, task.video, None)


def _read(result: str | ClipRecord, cache: Cache) -> PreviewVideo | str:
    if isinstance(result, dict):
        return sentence_of(result["reason"], result["detail"])
    record, arrays = cache.read(result) or {}, cache.arrays(result)
    return PreviewVideo(arrays["mp4"].tobytes(), arrays["opening"], record["speaker_frame"])


@dataclass(frozen=True)
class PreviewStage(Stage[PreviewPlan, "str | ClipRecord"]):
    """A result is the key of the video in the cache, or a failed record."""

    config: ScoringConfig
    cache: Cache
    heartbeat_timeout: float = 0
    title = "previews"
    unit = "videos"

    def item_name(self, plan: PreviewPlan) -> str:
        return f"preview of {plan.clip}, {plan.method}"

    def process(self, plan: PreviewPlan, context: Context) -> str | ClipRecord:
        reference_key = self.config.reference_key(file_sha256(self.config.reference / plan.video))
        key = key_of(
            kind="preview",
            settings=SETTINGS,
            reference=reference_key,
            file=file_sha256(plan.file),
            audio=file_sha256(self.config.reference / plan.audio) if plan.audio else None,
        )
        try:
            if self.cache.read(key) is None or not self.cache.has_arrays(key):
                self.cache.write(key, *self._make(plan, reference_key, context))
        except MediaError as error:
            if is_transient(error):
                raise
            return failed_record(error.reason, str(error))
        context.report({"videos": 1})
        return key

    def failed(self, plan: PreviewPlan, failure: Failure) -> ClipRecord:
        return failed_record(failure.reason, failure.detail)

    def _make(self, plan: PreviewPlan, reference_key: str, context: Context) -> tuple[ClipRecord, Arrays]:
        measured = self.cache.read(reference_key)
        if measured is None or measured["status"] == "failed":
            raise MediaError(Reason.REFERENCE_UNREADABLE, "its regions are not in the cache")
        reference = unpack_reference(measured, self.cache.arrays(reference_key))
        sound = _driving_sound(self.config.reference, plan, reference) if plan.audio else None
        openings: list[float] = []

        def pictures() -> Iterator[np.ndarray]:
            for index, image in shown_frames(plan.file, reference):
                context.heartbeat()
                openings.append(self._opening(plan, reference.regions, index, image))
                yield shrink(view(image, reference.regions))

        with self.cache.scratch() as path:
            write_video(path, pictures(), sound, crf=CRF, more=FOR_BROWSERS)
            mp4 = np.frombuffer(path.read_bytes(), np.uint8)
        record = {"status": "made", "speaker_frame": _speaker_frame(reference)}
        return record, {"mp4": mp4, "opening": np.array(openings, np.float32)}

    def _opening(self, plan: PreviewPlan, regions: Regions | None, index: int, image: np.ndarray) -> float:
        """Of the mouth in frame `index`, in eye distances; NaN where the reference shows no face."""
        if regions is None or not regions.present[index]:
            return np.nan
        here = regions.span(index, index + 1)
        if plan.method == GROUND_TRUTH.name:
            landmarks = here.landmarks
        else:
            landmarks = generated_landmarks(load_scorer(self.config).backend, [image], here)
        return float(mouth_opening(landmarks)[0]) / regions.eye_distance


def shown_frames(path: Path, reference: Reference) -> Iterator[tuple[int, np.ndarray]]:
    """Of each frame of a preview: index and RGB uint8 [H, W, 3] of the file's frame that it shows.

    Frames are shown at the reference's times; under a standalone protocol, which pairs none, at the file's own.
    Raises MediaError.
    """
    if len(reference.times) == 0:
        yield from enumerate(Video(path).frames(0, MOST_FRAMES))
        return
    size = slice(reference.facts.height), slice(reference.facts.width)
    shown = preview_index(reference.times)
    for index, (count, (_, image)) in enumerate(zip(np.bincount(shown).tolist(), frames(path))):
        for _ in range(count):
            yield index, image[size]


def preview_index(times: np.ndarray) -> np.ndarray:
    """float64 [n], seconds at which frames are shown, to int32 [at most MOST_FRAMES]: which one is seen at each
    1/25 s after the first."""
    ticks = np.round(times * 1_000_000).astype(np.int64)
    return nearest_frames(ticks, Fraction(1, 1_000_000), FPS)[:MOST_FRAMES]


def view(image: np.ndarray, regions: Regions | None) -> np.ndarray:
    """The part of a frame where the speaker's face is seen in the course of the clip, with a margin; all of it without
    a face."""
    if regions is None:
        return image
    faces = regions.face[regions.present]  # [t, 4]
    margin = round(MARGIN * float((faces[:, 2:] - faces[:, :2]).max()))
    x0, y0 = np.maximum(faces[:, :2].min(axis=0) - margin, 0).tolist()
    x1, y1 = (faces[:, 2:].max(axis=0) + margin).tolist()
    return image[y0:y1, x0:x1]


def shrink(image: np.ndarray) -> np.ndarray:
    """At most HEIGHT lines, the same aspect."""
    height, width = image.shape[:2]
    scale = HEIGHT / height
    if scale >= 1:
        return np.ascontiguousarray(image)
    return cv2.resize(image, (max(1, round(width * scale)), HEIGHT), interpolation=cv2.INTER_AREA)


def _driving_sound(folder: Path, plan: PreviewPlan, reference: Reference) -> np.ndarray | None:
    """int16 [N] from the time of frame 0 on; None where a video has no sound of its own."""
    assert plan.audio is not None
    path = folder / plan.audio
    try:
        start_s = reference.start_s if plan.audio == plan.video else sound_start(path)
        return driving_audio(path, start_s, reference.num_frames, reference.facts.fps)
    except MediaError as error:
        if error.reason != Reason.NO_AUDIO:
            raise
        return None


def _speaker_frame(reference: Reference) -> int:
    """The first frame of a preview that shows the speaker."""
    if reference.regions is None:
        return 0
    first = int(np.flatnonzero(reference.regions.present)[0])
    return round(float(reference.times[first] - reference.times[0]) * FPS)
