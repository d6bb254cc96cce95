"""LSE inside a benchmark: whose face, which frames, which sound, and what a clip without a score looks like."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncdiff_data.media import Video, write_video
from syncdiff_data.media.timeline import nearest_frames
from syncdiff_data.reasons import Reason
from syncdiff_eval.cache import Cache, FrameFeatureCache
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, Metric, MissingValue, Regions
from syncdiff_eval.metrics.lse_face import MIN_WINDOWS, SpeakerSync
from syncdiff_eval.metrics.lse_published import (
    Arrays,
    FileSync,
    OwnFrames,
    best_of_tracks,
    embed_tracks,
    embed_whole,
    mean_of_tracks,
)
from syncdiff_eval.metrics.sync_scorer import sync_scorer_family
from syncdiff_eval.networks.resample import Resampler
from syncdiff_eval.networks.syncnet_windows import EMBEDDING
from syncdiff_eval.protocols import PROTOCOLS
from syncdiff_eval.scoring import Reference, ScoreRequest, shift_audio
from syncdiff_eval.scoring.standalone import file_context
from syncdiff_eval.videos import read_facts

_MIX = np.random.default_rng(0).standard_normal((EMBEDDING, 3)).astype(np.float32)


class ToyNetwork:
    """Stands where SyncNet does: the picture's mean colour and the frame's loudness become the same embedding."""

    def __init__(self) -> None:
        self.windows = 0

    def embed_windows(self, frames: np.ndarray) -> np.ndarray:
        count = len(frames) - 4
        self.windows += count
        levels = frames[:, 100:124, 100:124].mean(axis=(1, 2, 3)).astype(np.float32)
        return self._embed(np.stack([levels[i : i + 5] for i in range(count)]))

    def embed_lips(self, frames: Any, batch: int = 4) -> np.ndarray:
        return self.embed_windows(np.stack(list(frames)))

    def embed_sound(self, samples: np.ndarray, count: int) -> np.ndarray:
        levels = np.abs(samples[: len(samples) // 640 * 640].reshape(-1, 640)).max(axis=1) / 100
        return self._embed(np.stack([levels[i : i + 5] for i in range(count)]).astype(np.float32))

    def _embed(self, levels: np.ndarray) -> np.ndarray:
        parts = np.column_stack([levels[:, :2].mean(axis=1), levels[:, 2], levels[:, 3:].mean(axis=1)])
        return np.asarray(parts / 10 @ _MIX.T, np.float32)


def levels_of(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(10, 240, frames)


def pictures_of(levels: np.ndarray) -> list[np.ndarray]:
    return [np.full((64, 64, 3), level, np.uint8) for level in levels]


def sound_of(levels: np.ndarray) -> np.ndarray:
    return np.repeat(levels * 100, 640).astype(np.int16)


def regions_of(present: np.ndarray) -> Regions:
    t = len(present)
    box = np.tile(np.array([16, 16, 48, 48], np.float32), (t, 1))
    box[~present] = 0
    return Regions(
        present, np.zeros((t, 68, 2), np.float32), box, box.astype(np.int32), box.astype(np.int32), 20
    )


def context_of(levels: np.ndarray, audio: np.ndarray | None, **more: Any) -> ClipContext:
    regions = more.pop("regions", regions_of(np.ones(len(levels), bool)))
    return ClipContext(more.pop("fps", 25), len(levels), audio, 20.0, regions=regions, **more)


def feed(metric: Metric, context: ClipContext, pictures: list[np.ndarray], batch: int = 8) -> Metric:
    for first in range(0, len(pictures), batch):
        some = pictures[first : first + batch]
        regions = context.regions.span(first, first + len(some)) if context.regions else None
        times = tuple((first + i) / context.fps for i in range(len(some)))
        metric.update(FrameBatch(first, some, some, regions, None, times))
    return metric


def speaker(context: ClipContext, pictures: list[np.ndarray], batch: int = 8) -> dict[str, Any]:
    return feed(SpeakerSync(context, ToyNetwork(), "w"), context, pictures, batch).compute()  # type: ignore[arg-type]


@given(
    gaps=st.lists(st.integers(1, 12), max_size=40),
    rate=st.sampled_from(
        [Fraction(1, 25), Fraction(1, 50), Fraction(1, 30), Fraction(1001, 60000), Fraction(1, 90)]
    ),
)
@settings(max_examples=150, deadline=None)
def test_resampling_one_by_one_follows_the_data_rooms_rule(gaps: list[int], rate: Fraction) -> None:
    pts = np.cumsum([5, *gaps[len(gaps) % 2 == 0 :]])  # an odd number of gaps: their median is one of them
    resampler, found = Resampler(), []
    for i, time in enumerate(pts):
        found += resampler.add(float(time * rate), np.array(i))
    found += resampler.finish()
    assert [int(index) for index in found] == nearest_frames(pts, rate, 25).tolist()


@pytest.mark.parametrize("late", [-4, 0, 3])
def test_shifted_sound_moves_the_offset_and_nothing_else(late: int) -> None:
    levels = levels_of(60)
    context = context_of(levels, shift_audio(sound_of(levels), late, 25))
    values = speaker(context, pictures_of(levels))
    assert values["av_offset"] == -late
    assert values["lse_d"] < 0.1 < values["lse_c"]


def test_another_frame_rate_scores_as_25_per_second_do() -> None:
    levels = levels_of(40)
    doubled = np.repeat(levels, 2)
    plain = speaker(context_of(levels, sound_of(levels)), pictures_of(levels))
    fast = speaker(context_of(doubled, sound_of(levels), fps=50), pictures_of(doubled), batch=7)
    assert fast["av_offset"] == plain["av_offset"] == 0
    assert fast["lse_d"] == pytest.approx(plain["lse_d"], abs=1e-4)


def test_the_sound_starts_with_the_speaker_and_gaps_are_bridged() -> None:
    levels = levels_of(60)
    present = np.ones(60, bool)
    present[:10] = present[30:33] = False
    values = speaker(context_of(levels, sound_of(levels), regions=regions_of(present)), pictures_of(levels))
    assert values["av_offset"] == 0
    assert values["lse_d"] < 0.1


def test_a_clip_without_a_score_has_a_reason_and_no_distance() -> None:
    """Bug 2: LSE-D 0.0, the best there is, for a clip without a usable face."""
    levels = levels_of(60)
    pictures, sound = pictures_of(levels), sound_of(levels)
    short = MIN_WINDOWS + 4
    for context, count, reason in (
        (context_of(levels, sound, regions=None), 60, "no_face"),
        (context_of(levels, None), 60, "no_audio"),
        (context_of(levels[:short], sound), short, "too_short_for_sync"),
        (context_of(levels[:3], sound), 3, "too_short_for_sync"),
        (context_of(levels, sound[:100]), 60, "too_short_for_sync"),
    ):
        assert speaker(context, pictures[:count]) == dict.fromkeys(
            ("lse_c", "lse_d", "av_offset"), MissingValue(reason)
        )
    assert speaker(context_of(levels[: short + 1], sound), pictures[: short + 1])["lse_d"] < 0.1


def test_merged_clips_give_the_mean_of_those_with_a_score() -> None:
    """Bug 3 turned round: a clip without a score cannot improve the mean, nor can its absence be hidden in it."""
    parts: list[SpeakerSync] = []
    for frames, seed in ((60, 0), (40, 1), (3, 2)):
        levels = levels_of(frames, seed)
        context = context_of(levels, sound_of(levels_of(frames, seed + 9)))
        parts.append(feed(SpeakerSync(context, ToyNetwork(), "w"), context, pictures_of(levels)))  # type: ignore[arg-type]
    single = [part.compute() for part in parts]
    parts[0].merge(parts[1])
    parts[0].merge(parts[2])
    expected = np.mean([values["lse_d"] for values in single[:2]])  # type: ignore[arg-type]
    assert parts[0].compute()["lse_d"] == pytest.approx(expected)


def test_embeddings_serve_every_sound_of_the_same_frames(tmp_path: Path) -> None:
    levels = levels_of(40)
    cache = Cache(tmp_path)
    offsets, counts = [], []
    for late in (0, 2):
        network = ToyNetwork()
        context = context_of(
            levels,
            shift_audio(sound_of(levels), late, 25),
            frame_cache=FrameFeatureCache(cache, {"file": "a"}),
        )
        metric = feed(SpeakerSync(context, network, "w"), context, pictures_of(levels))  # type: ignore[arg-type]
        offsets.append(metric.compute()["av_offset"])
        counts.append(network.windows)
    assert offsets == [0, -2]
    assert counts == [36, 0]


def file_sync(
    path: Path, embed: Any, min_track: int = 0, reduce: Any = mean_of_tracks, **more: Any
) -> dict[str, Any]:
    reference = Reference(read_facts(path), 0, 0.0, None, np.empty(0))
    context = replace(file_context(ScoreRequest(path, reference, path)), **more)
    return FileSync(context, ToyNetwork(), embed, {"name": "toy"}, min_track, reduce).compute()  # type: ignore[arg-type]


def written(path: Path, levels: np.ndarray, sound: np.ndarray | None, fps: float = 25) -> Path:
    write_video(path, [np.full((240, 320, 3), level, np.uint8) for level in levels], sound, fps=fps)
    return path


def whole(frames: OwnFrames) -> Arrays:
    return embed_whole(frames, ToyNetwork())  # type: ignore[arg-type]


def test_a_file_alone_is_in_step_whatever_its_codec_and_rate(tmp_path: Path) -> None:
    """Bug 4: AAC priming fakes an offset, and a rate other than SyncNet's 25 moves the score."""
    levels = levels_of(50)
    plain = written(tmp_path / "a.mp4", levels, sound_of(levels))
    fast = written(tmp_path / "b.mp4", np.repeat(levels, 2), sound_of(levels), fps=50)
    for path in (plain, fast):
        values = file_sync(path, whole)
        assert values["av_offset"] == 0
        assert values["lse_c"] > 2 * values["lse_d"] > 0
    silent = written(tmp_path / "c.mp4", levels, None)
    assert file_sync(silent, whole)["lse_d"] == MissingValue(Reason.NO_AUDIO)


def test_tracks_are_chosen_and_reduced_as_each_protocol_says(tmp_path: Path) -> None:
    """Bug 2: no track over the protocol's length is a reason; MoChaBench's C and D may be of two speakers."""
    levels = levels_of(130)
    path = written(tmp_path / "a.mp4", levels, sound_of(levels))
    boxes = [np.array([[20.0, 20, 140, 140]])] * 130
    for frame in range(60, 130):
        boxes[frame] = np.vstack([boxes[frame], [[170.0, 30, 300, 160]]])
    answers = iter(boxes)

    def tracks(frames: OwnFrames) -> Arrays:
        return embed_tracks(frames, ToyNetwork(), lambda _: next(answers))  # type: ignore[arg-type]

    arrays = tracks(OwnFrames(Video(path)))
    assert arrays["detections"].tolist() == [130, 70]
    assert arrays["windows"].tolist() == [126, 66]
    assert arrays["first_frame"].tolist() == [0, 60]
    one = file_sync(path, lambda _: arrays, 100)
    both = file_sync(path, lambda _: arrays, 50)
    best = file_sync(path, lambda _: arrays, 50, best_of_tracks)
    other = 2 * both["lse_d"] - one["lse_d"]
    assert best["lse_d"] == pytest.approx(min(one["lse_d"], other))
    assert best["lse_c"] == pytest.approx(max(one["lse_c"], 2 * both["lse_c"] - one["lse_c"]))
    assert file_sync(path, lambda _: arrays, 130)["lse_d"] == MissingValue(Reason.NO_FACE_TRACK)


def test_a_frozen_file_shows_its_first_frame(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4", levels_of(20), None)
    shown = list(OwnFrames(Video(path), frozen=True))
    assert len(shown) == 20
    assert all(np.array_equal(frame, shown[0]) for frame in shown)


class Loudest:
    side = 32

    def score(self, faces: np.ndarray, audio: np.ndarray) -> float | None:
        assert faces.shape[1:] == (32, 32, 3)
        return None if len(faces) < 5 else float(len(faces)) + float(audio[0] > 0)


def test_a_scorer_from_elsewhere_has_its_own_name() -> None:
    family = sync_scorer_family("expert_v2", "Sync expert", True, 1, lambda files, device: Loudest(), "sha")
    levels = levels_of(30)
    context = context_of(levels, sound_of(levels))
    start = family.load({}, "cpu")
    assert feed(start(context), context, pictures_of(levels)).compute() == {"expert_v2": 31.0}
    short = context_of(levels[:3], sound_of(levels))
    assert feed(start(short), short, pictures_of(levels[:3])).compute() == {
        "expert_v2": MissingValue(Reason.NOT_SCORABLE)
    }
    with pytest.raises(ValueError, match="its own name"):
        sync_scorer_family("lse_mine", "Mine", True, 1, lambda files, device: Loudest(), "sha")


def test_every_protocol_finds_its_metrics_and_their_weights() -> None:
    from syncdiff_data.weights import WEIGHTS

    for protocol in PROTOCOLS.values():
        for name in protocol.metrics:
            assert set(FAMILIES[name].weights) <= WEIGHTS.keys()
