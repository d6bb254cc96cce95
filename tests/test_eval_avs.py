"""AV-HuBERT's similarities and the leak test: parity, the same mouths for all, what moves which number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import skimage
import soundfile
import torch
from scipy import stats
from tiny_avhubert import write_tiny_checkpoint

from syncdiff_data.avhubert import AVHubertEncoder, align_frames, audio_input, video_input
from syncdiff_data.cli import RayOptions
from syncdiff_data.demo.face import Look, render
from syncdiff_data.demo.talkers import SPEAKERS
from syncdiff_data.faces import mean_face, mouth_crops
from syncdiff_data.features import logfbank
from syncdiff_data.media import write_video
from syncdiff_data.reasons import Reason
from syncdiff_eval.benchmark import BenchmarkConfig, benchmark
from syncdiff_eval.cache import Cache, FrameFeatureCache
from syncdiff_eval.methods import Method, MethodType, baselines
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.avs import Avs, avs_from_arrays, frame_similarity
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, Metric, MissingValue, Regions, applicable
from syncdiff_eval.metrics.landmarks import mouth_opening
from syncdiff_eval.metrics.leak import Leak, LipLeak, motion_ratio, shared_motion
from syncdiff_eval.networks import lip_reader
from syncdiff_eval.networks.lip_reader import LipReader, load_reader, parts
from syncdiff_eval.networks.mouth_crops import MIN_FRAMES, Mouths
from syncdiff_eval.pairing import pair_by_list, pair_by_name
from syncdiff_eval.protocols import PROTOCOLS, SYNCDIFF
from syncdiff_eval.validate import validate_report

SIDE = 256
EYES = 60.0


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("avs") / "tiny.pt")


@pytest.fixture(scope="module")
def reader(checkpoint: Path) -> LipReader:
    return load_reader(checkpoint)


# --- Clips with a mouth -------------------------------------------------------------------------------------


def opening_of(frames: int, seed: int) -> np.ndarray:
    """float64 [frames] in 0..1: a mouth that opens and closes a few times a second."""
    noise = np.random.default_rng(seed).random(frames + 4)
    smooth = np.convolve(noise, np.ones(5) / 5, "valid")
    return (smooth - smooth.min()) / np.ptp(smooth)


def pictures(opening: np.ndarray) -> list[np.ndarray]:
    """Frames as large as the space of the mean face, in which a dark mouth opens below a textured face."""
    face = cv2.resize(skimage.data.astronaut()[20:240, 120:340], (SIDE, SIDE))
    images = []
    for height in opening:
        image = face.copy()
        cv2.ellipse(image, (128, 165), (24, 2 + int(20 * height)), 0, 0, 360, (60, 10, 10), -1)
        images.append(image)
    return images


def landmarks(opening: np.ndarray, at: np.ndarray | float = 0.0) -> np.ndarray:
    """float32 [T, 68, 2]: the mean face whose inner lips are `opening` eye distances / 5 apart, moved right by `at`."""
    points = np.tile(mean_face(), (len(opening), 1, 1))
    for upper, lower in ((61, 67), (62, 66), (63, 65)):
        points[:, lower] = points[:, upper]
        points[:, lower, 1] += opening * EYES / 5
    points[..., 0] += np.broadcast_to(at, len(opening))[:, None]
    return points.astype(np.float32)


def context_of(opening: np.ndarray, audio: np.ndarray | None, **more: Any) -> ClipContext:
    points = more.pop("points", landmarks(opening))
    present = more.pop("present", np.ones(len(opening), bool))
    box = np.zeros((len(opening), 4), np.int32)
    regions = Regions(present, points, box.astype(np.float32), box, box, EYES)
    regions = more.pop("regions", regions)
    return ClipContext(more.pop("fps", 25), len(opening), audio, EYES, regions=regions, **more)


def feed(
    metric: Metric,
    context: ClipContext,
    generated: list[np.ndarray],
    reference: list[np.ndarray],
    batch: int = 8,
    points: np.ndarray | None = None,
) -> Metric:
    for first in range(0, len(generated), batch):
        cut = slice(first, first + batch)
        count = len(generated[cut])
        regions = context.regions.span(first, first + count) if context.regions else None
        times = tuple((first + i) / context.fps for i in range(count))
        seen = None if points is None else points[cut]
        metric.update(FrameBatch(first, reference[cut], generated[cut], regions, seen, times))
    return metric


def speech(frames: int, seed: int = 0) -> np.ndarray:
    """int16 [640 frames]: noise whose loudness and colour change every 100 ms."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(frames * 640)
    parts = np.array_split(noise, max(1, frames // 3))
    sounds = [np.convolve(p, rng.standard_normal(8), "same") * rng.uniform(100, 3000) for p in parts]
    return np.clip(np.concatenate(sounds), -32768, 32767).astype(np.int16)


def avs(context: ClipContext, reader: LipReader, generated: Any, reference: Any, batch: int = 8) -> Any:
    return feed(Avs(context, reader), context, generated, reference, batch).compute()


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
    whole = reader.features(reader.look(mouths[0]), samples)
    halves = [
        reader.features(reader.look(mouths[0, a : a + 12]), samples[640 * a : 640 * (a + 12)])
        for a in (0, 12)
    ]
    np.testing.assert_allclose(whole, np.concatenate(halves), atol=1e-6)


# --- Leak ----------------------------------------------------------------------------------------------------

SILENCE = np.zeros(640 * 100, np.int16)


def leak(source: np.ndarray, generated: np.ndarray, audio: np.ndarray = SILENCE, batch: int = 8) -> Any:
    context = context_of(source, audio)
    blank = [np.zeros((8, 8, 3), np.uint8)] * len(generated)
    points = landmarks(generated)
    return feed(Leak(context), context, blank, [], batch, points).compute()


def test_a_copied_mouth_leaks_all_and_a_still_one_nothing() -> None:
    """Bug 8: LipLeak without its source's motion said nothing of how much leaked."""
    source = opening_of(100, 0)
    assert leak(source, source) == pytest.approx({"leak_motion": 1, "leak_corr": 1}, abs=1e-3)
    assert leak(source, np.full(100, 0.3)) == pytest.approx({"leak_motion": 0, "leak_corr": 0}, abs=1e-3)
    trembling = leak(source, 0.3 + 0.05 * source)
    assert trembling == pytest.approx({"leak_motion": 0.05, "leak_corr": 0.05}, abs=1e-2)
    half = leak(source, 0.5 * source)
    assert half == pytest.approx({"leak_motion": 0.5, "leak_corr": 0.5}, abs=1e-2)


def test_a_mouth_of_its_own_leaks_about_nothing() -> None:
    found = [leak(opening_of(100, s), opening_of(100, s + 50))["leak_corr"] for s in range(20)]
    assert abs(np.mean(found)) < 0.1
    source = opening_of(100, 0)
    wild = leak(source, 3 * opening_of(100, 1))["leak_corr"]
    r = stats.pearsonr(source, opening_of(100, 1)).statistic
    assert wild == pytest.approx(r, abs=0.01)


def test_leak_wants_silence_for_motion_a_face_and_a_source_that_moves() -> None:
    source = opening_of(100, 0)
    spoken = leak(source, source, speech(100))
    assert spoken["leak_motion"] == MissingValue(Reason.SOUND_NOT_SILENT)
    assert spoken["leak_corr"] == pytest.approx(1, abs=1e-3)
    hiss = np.random.default_rng(0).integers(-3, 4, 64_000).astype(np.int16)
    assert leak(source, source, hiss)["leak_motion"] == pytest.approx(1, abs=1e-3)
    still = leak(np.full(100, 0.5), source)
    assert set(still.values()) == {MissingValue(Reason.REFERENCE_MOUTH_STILL)}
    assert set(leak(source, source[:24]).values()) == {MissingValue(Reason.TOO_SHORT_FOR_LEAK)}
    assert not isinstance(leak(source, source[:25])["leak_corr"], MissingValue)
    nobody = Leak(context_of(source, SILENCE, regions=None)).compute()
    assert set(nobody.values()) == {MissingValue(Reason.NO_FACE)}


def test_leak_does_not_depend_on_parts() -> None:
    source, made = opening_of(100, 0), opening_of(100, 1)
    assert leak(source, made, batch=100) == pytest.approx(leak(source, made, batch=7), abs=1e-9)
    opening = [mouth_opening(landmarks(side)) for side in (source, made)]
    assert leak(source, made) == pytest.approx(
        {"leak_motion": motion_ratio(*opening), "leak_corr": shared_motion(*(o[:, None] for o in opening))},
        abs=1e-6,
    )


def test_lips_leak_in_avhuberts_eyes(reader: LipReader) -> None:
    opening = opening_of(30, 0)
    real, context = pictures(opening), context_of(opening, SILENCE)

    def leaked(made: list[np.ndarray], context: ClipContext = context) -> Any:
        return feed(LipLeak(context, reader), context, made, real).compute()["leak_avs"]

    copied, faint, own = (
        leaked(pictures(side)) for side in (opening, 0.5 + 0.3 * opening, opening_of(30, 3))
    )
    assert copied == pytest.approx(1, abs=1e-6)
    assert 0.5 > faint > 0.2
    assert abs(own) < 0.1
    assert leaked(real[:20]) == MissingValue(Reason.TOO_SHORT_FOR_LEAK)
    assert leaked(real[:5]) == MissingValue(Reason.TOO_SHORT_FOR_AVHUBERT)
    still = context_of(opening, SILENCE, points=landmarks(np.zeros(30)))
    assert leaked(real, still) == MissingValue(Reason.REFERENCE_MOUTH_STILL)
    assert abs(leaked([real[0]] * 30)) < 0.1  # the crop follows the source's mouth and moves the picture


# --- The whole benchmark -------------------------------------------------------------------------------------


def dubbed(
    out: Path, name: str, look: Look, mouth: np.ndarray, motion: np.ndarray, sound: Any = None
) -> None:
    """A talker of that look and head motion whose mouth opens as `mouth` [T] says."""
    frames = render(
        look, np.column_stack([mouth, np.full(len(mouth), 0.5)]), np.zeros(len(mouth)), motion, 192
    )
    out.mkdir(exist_ok=True)
    write_video(out / f"{name}.mp4", frames, sound)


@pytest.fixture
def talkers(tmp_path: Path) -> tuple[Path, list[Method]]:
    """Two real clips with sound and a silent file; a method that copies their frames, one with mouths of its own."""
    reference = tmp_path / "reference"
    for number, name in enumerate("ab"):
        look = SPEAKERS[number].look
        motion = np.cumsum(np.random.default_rng(number).normal(0, 0.2, (28, 4)), axis=0) * [1, 1, 0.3, 0.01]
        source = opening_of(28, number)
        dubbed(reference, name, look, source, motion, speech(28, number))
        for clip in (f"{name}_silent", f"{name}_other"):
            dubbed(tmp_path / "copy", clip, look, source, motion)
            dubbed(tmp_path / "own", clip, look, opening_of(28, number + 7), motion)
    soundfile.write(reference / "silent.wav", np.zeros(28 * 640, np.int16), 16_000)
    methods = [Method(name, MethodType.OTHER, None, tmp_path / name) for name in ("copy", "own")]
    return reference, methods


def test_crossed_pairs_are_tested_for_leaks_and_own_audio_is_compared(
    tmp_path: Path, ray_session: None, checkpoint: Path, talkers: tuple[Path, list[Method]]
) -> None:
    reference, methods = talkers
    listed = tmp_path / "pairs.csv"
    listed.write_text(
        "video,audio,output\n"
        + "".join(
            f"{v}.mp4,{a},{v}_{o}\n"
            for v, w in ("ab", "ba")
            for a, o in (("silent.wav", "silent"), (f"{w}.mp4", "other"))
        )
    )
    protocol = replace(SYNCDIFF, metrics=("landmarks", "avs", "leak", "leak-avs"), resamples=200)
    weights = {"avhubert-base": checkpoint}
    crossed = pair_by_list(reference, listed, "csv")
    results = benchmark(BenchmarkConfig(
        reference, crossed, [*baselines(True, (), False), *methods], protocol, tmp_path / "crossed", weights,
        RayOptions(workers=2),
    ))  # fmt: skip
    validate_report(tmp_path / "crossed")
    assert [metric.name for metric in results.metrics] == ["avs_u", "leak_motion", "leak_corr", "leak_avs"]
    rows: Any = pd.read_parquet(tmp_path / "crossed" / "per_clip.parquet").set_index(["method", "clip"])
    assert (rows["status"] == "scored").all()
    heard = rows.drop(index=["a_silent", "b_silent"], level="clip")
    assert heard["avs_u"].notna().all()
    copied, own, frozen = (rows.loc[name] for name in ("copy", "own", "frozen_first_frame"))
    assert copied[["leak_corr", "leak_avs"]].to_numpy() == pytest.approx(1, abs=0.1)
    assert (own["leak_corr"].abs() < 0.4).all()
    assert (own["leak_avs"].abs() < 0.4).all()
    assert (frozen["leak_corr"].abs() < 0.15).all()
    silent = ["a_silent", "b_silent"]
    assert copied.loc[silent, "leak_motion"].to_numpy() == pytest.approx(1, abs=0.1)
    assert (frozen.loc[silent, "leak_motion"] < 0.3).all()
    for clip in ("a_other", "b_other"):
        assert dict(copied.loc[clip, "null_reasons"]) == {"leak_motion": "sound_not_silent"}
    assert dict(copied.loc["a_silent", "null_reasons"]) == {"avs_u": "silent_audio"}
    assert (
        dict(rows.loc[("ground_truth", "a_silent"), "null_reasons"])["leak_corr"] == "identical_to_reference"
    )

    (tmp_path / "named").mkdir()
    for name in "ab":
        (tmp_path / "own" / f"{name}_other.mp4").rename(tmp_path / "named" / f"{name}.mp4")
    named = [Method("named", MethodType.OTHER, None, tmp_path / "named")]
    own_audio = benchmark(BenchmarkConfig(
        reference, pair_by_name(reference), [*baselines(False, (), True), *named], protocol, tmp_path / "o", {},
        RayOptions(workers=2),
    ))  # fmt: skip
    assert [metric.name for metric in own_audio.metrics] == [
        "lmd_mouth", "lmd_face", "opening_corr", "avs_u", "avs_m", "avs_v",
    ]  # fmt: skip
    cell = own_audio.methods[-1].scores["avs_m"]
    assert cell.reason == "not available: python -m syncdiff_data weights fetch avhubert-base"
    assert cell.mean is None


def test_a_setting_rules_columns_out() -> None:
    families = [FAMILIES[name] for name in ("lse", "fid-face", "image", "avs", "leak", "leak-avs")]

    def names(crossed: bool) -> list[str]:
        return [column.name for family in applicable(families, crossed) for column in family.columns]

    always = {"lse_c", "lse_d", "av_offset", "fid_face", "fid_face_frames", "avs_u"}
    assert set(names(True)) == always | {"leak_motion", "leak_corr", "leak_avs"}
    assert set(names(False)) - set(names(True)) == {
        "avs_m",
        "avs_v",
        *(c.name for c in FAMILIES["image"].columns),
    }
    assert set(names(False)) & {"leak_motion", "leak_corr", "leak_avs"} == set()
    for protocol in (PROTOCOLS["syncdiff-v2"], PROTOCOLS["syncdiff-index-v2"]):
        assert {"avs", "leak", "leak-avs"} <= set(protocol.metrics)
