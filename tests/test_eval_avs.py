"""AV-HuBERT's similarities and the leak test: parity, the same mouths for all, what moves which number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lip_clips import avs, context_of, feed, landmarks, opening_of, pictures, speech

from syncdiff_data.avhubert import AVHubertEncoder, align_frames, audio_input, video_input
from syncdiff_data.faces import mean_face, mouth_crops
from syncdiff_data.features import logfbank
from syncdiff_data.reasons import Reason
from syncdiff_eval.cache import Cache, FrameFeatureCache
from syncdiff_eval.metrics.avs import Avs, avs_from_arrays, frame_similarity
from syncdiff_eval.metrics.base import ClipContext, MissingValue
from syncdiff_eval.networks import lip_reader
from syncdiff_eval.networks.lip_reader import LipReader, load_reader, parts
from syncdiff_eval.networks.mouth_crops import MIN_FRAMES, Mouths

pytestmark = pytest.mark.usefixtures("one_thread")


# --- AVS -----------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_the_encoder_called_directly(shared: Path) -> None:
    """Bug 8: nobody could compute AVS. With the golden checkpoint, crops as preprocessing cuts them, and no code of
    the metrics but the twin's."""
    path = shared / "golden" / "tiny_plain.pt"
    encoder, reader = AVHubertEncoder.from_checkpoint(path), load_reader(path)
    opening, other = opening_of(16, 0), opening_of(16, 1)
    real, made, samples = pictures(opening), pictures(other), speech(16)
    context = context_of(opening, samples)
    crops = [np.stack(list(mouth_crops(side, landmarks(opening), mean_face()))) for side in (made, real)]
    seen = [torch.from_numpy(video_input(side))[None] for side in crops]
    heard = torch.from_numpy(audio_input(align_frames(logfbank(samples), 16)))[None]

    def similarity(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(torch.nn.functional.cosine_similarity(a[0], b[0], dim=1).mean())

    expected = (
        similarity(encoder(audio=heard), encoder(video=seen[0])),
        similarity(encoder(heard, seen[0]), encoder(heard, seen[1])),
        similarity(encoder(video=seen[0]), encoder(video=seen[1])),
    )
    assert len({round(value, 3) for value in expected}) == 3
    values = avs(context, reader, made, real)
    assert tuple(values.values()) == pytest.approx(expected, abs=1e-5)
    assert avs_from_arrays(crops[0], crops[1], samples, reader) == pytest.approx(expected, abs=1e-5)


def test_the_reference_against_itself_is_one_and_batches_change_nothing(reader: LipReader) -> None:
    opening, samples = opening_of(20, 0), speech(20)
    context, real = context_of(opening, samples), pictures(opening)
    values = avs(context, reader, real, real)
    assert values["avs_v"] == pytest.approx(1, abs=1e-6)
    assert values["avs_m"] == pytest.approx(1, abs=1e-6)
    assert -1 < values["avs_u"] < 0.999
    made = pictures(opening_of(20, 1))
    one = avs(context, reader, made, real)
    assert one["avs_v"] < 0.999
    assert avs(context, reader, made, real, batch=7) == one


def test_sound_moves_avs_u_and_lips_move_avs_v(reader: LipReader) -> None:
    opening = opening_of(16, 0)
    real = pictures(opening)
    first, second = (avs(context_of(opening, speech(16, s)), reader, real, real) for s in (0, 1))
    assert first["avs_u"] != second["avs_u"]
    assert first["avs_v"] == second["avs_v"]
    made = {
        "blurred": [cv2.GaussianBlur(image, (0, 0), 3) for image in real],
        "more_blurred": [cv2.GaussianBlur(image, (0, 0), 9) for image in real],
        "frozen": [real[0]] * len(real),
    }
    v = {
        name: avs(context_of(opening, speech(16)), reader, images, real)["avs_v"]
        for name, images in made.items()
    }
    assert v["more_blurred"] < v["blurred"] < 0.9999
    assert v["frozen"] < 0.9999


def test_similarity_is_the_cosine_of_each_frame() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 8)).astype(np.float32), rng.normal(size=(5, 8)).astype(np.float32)
    expected = torch.nn.functional.cosine_similarity(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert frame_similarity(a, b) == pytest.approx(expected, abs=1e-6)
    assert frame_similarity(a, -3 * a) == pytest.approx(-np.ones(5))
    assert frame_similarity(a, 0 * a) == pytest.approx(np.zeros(5))


def mouths_of(context: ClipContext, images: list[np.ndarray], audio: np.ndarray) -> tuple[Any, np.ndarray]:
    mouths = Mouths(context, with_reference=False)
    crops = feed(mouths, context, images, []).finish()  # type: ignore[arg-type, attr-defined]
    return crops, mouths.sound(audio)


def test_another_rate_a_gap_and_a_late_face() -> None:
    opening, samples = opening_of(24, 0), speech(24)
    real = pictures(opening)
    plain, sound = mouths_of(context_of(opening, None), real, samples)
    assert plain.shape == (1, 24, 96, 96)
    np.testing.assert_array_equal(sound, samples)
    fast, sound = mouths_of(
        context_of(np.repeat(opening, 2), None, fps=50), [image for image in real for _ in "12"], samples
    )
    np.testing.assert_array_equal(fast, plain)
    np.testing.assert_array_equal(sound, samples)
    present, points = np.ones(24, bool), landmarks(opening)
    present[:8] = present[16:19] = False
    points[~present] = 0
    late, sound = mouths_of(context_of(opening, None, present=present, points=points), real, samples)
    np.testing.assert_array_equal(sound, samples[8 * 640 :])
    moved = np.abs(late.astype(int) - plain[:, 8:]).mean(axis=(0, 2, 3))
    assert set(np.flatnonzero(moved)) <= {8, 9, 10}  # in the gap the crop may lie a pixel aside
    assert moved.max() < 10
    cut_off, sound = mouths_of(context_of(opening, None), real[:20], samples[:1000])
    assert cut_off.shape[1] == len(sound) / 640 == 20
    assert not sound[1000:].any()


def test_a_clip_that_cannot_be_read_has_a_reason(reader: LipReader) -> None:
    opening, samples = opening_of(30, 0), speech(30)
    real = pictures(opening)
    nobody = avs(context_of(opening, samples, regions=None), reader, real, real)
    assert nobody == dict.fromkeys(("avs_u", "avs_m", "avs_v"), MissingValue(Reason.NO_FACE))
    count = MIN_FRAMES - 1
    short = avs(context_of(opening, samples), reader, real[:count], real[:count])
    assert set(short.values()) == {MissingValue(Reason.TOO_SHORT_FOR_AVHUBERT)}
    assert not isinstance(
        avs(context_of(opening, samples), reader, real[:10], real[:10])["avs_u"], MissingValue
    )
    deaf = avs(context_of(opening, None), reader, real, real)
    assert deaf["avs_u"] == deaf["avs_m"] == MissingValue(Reason.NO_AUDIO)
    assert deaf["avs_v"] == pytest.approx(1, abs=1e-6)
    silent = avs(context_of(opening, np.zeros(30 * 640, np.int16)), reader, real[:10], real[:10])
    assert silent["avs_u"] == MissingValue(Reason.SILENT_AUDIO)
    assert silent["avs_m"] == pytest.approx(1, abs=1e-6)


def test_merged_clips_give_the_mean_of_those_with_a_value(reader: LipReader) -> None:
    clips = []
    for frames, seed, audio in ((14, 0, True), (12, 1, False), (5, 2, True)):
        opening = opening_of(frames, seed)
        context = context_of(opening, speech(frames, seed) if audio else None)
        made = pictures(opening_of(frames, seed + 5))
        clips.append(feed(Avs(context, reader), context, made, pictures(opening)))
    single: list[Any] = [clip.compute() for clip in clips]
    clips[1].merge(clips[2])
    clips[0].merge(clips[1])
    merged: Any = clips[0].compute()
    assert merged["avs_v"] == pytest.approx((single[0]["avs_v"] + single[1]["avs_v"]) / 2)
    assert merged["avs_u"] == single[0]["avs_u"]


def test_lips_are_read_once_for_every_sound_and_every_method(
    tmp_path: Path, reader: LipReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    project = reader._encoder.project_video

    def counted(video: torch.Tensor) -> torch.Tensor:
        looked.append(video.shape[2])
        return project(video)

    monkeypatch.setattr(reader._encoder, "project_video", counted)
    cache = Cache(tmp_path)
    opening = opening_of(12, 0)
    real = pictures(opening)
    found = []
    for file, seed, sound in (("a", 1, 0), ("a", 1, 1), ("b", 2, 0)):
        caches = {
            "frame_cache": FrameFeatureCache(cache, {"file": file}),
            "reference_frame_cache": FrameFeatureCache(cache, {"file": "r"}),
        }
        made = pictures(opening_of(12, seed))
        bare = avs(context_of(opening, speech(12, sound)), reader, made, real)
        del looked[-2:]
        found.append(avs(context_of(opening, speech(12, sound), **caches), reader, made, real))
        assert found[-1] == pytest.approx(bare, abs=1e-6)
    assert looked == [12, 12, 12]  # a and r, then b
    alone = context_of(
        opening, speech(12), frame_cache=FrameFeatureCache(cache, {"file": "a"}), compares=False
    )
    values = avs(alone, reader, pictures(opening_of(12, 1)), [])
    assert values["avs_u"] == found[0]["avs_u"]
    assert len(looked) == 3


def test_a_long_clip_is_read_in_parts_of_one_size(reader: LipReader, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [(p.start, p.stop) for p in parts(1501)] == [(0, 500), (500, 1000), (1000, 1501)]
    assert [p.stop for p in parts(750)] == [750]
    opening, samples = opening_of(24, 0), speech(24)
    made, real = pictures(opening_of(24, 1)), pictures(opening)
    monkeypatch.setattr(lip_reader, "LONGEST", 12)
    crops = Mouths(context_of(opening, samples), with_reference=True)
    feed(crops, context_of(opening, samples), made, real)  # type: ignore[arg-type]
    mouths = crops.finish()
    assert isinstance(mouths, np.ndarray)
    whole = reader.features(reader.lip_features(mouths[0]), samples)
    halves = [
        reader.features(reader.lip_features(mouths[0, a : a + 12]), samples[640 * a : 640 * (a + 12)])
        for a in (0, 12)
    ]
    np.testing.assert_allclose(whole, np.concatenate(halves), atol=1e-6)
