"""One clip at a time: what is paired, what is refused, what real files score."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_files import click_times, clicks, make_audio, make_video

from syncdiff_data.faces import load_backend
from syncdiff_data.media import Video, write_video
from syncdiff_data.reasons import Reason
from syncdiff_data.records import MediaError
from syncdiff_eval.benchmark import FACES
from syncdiff_eval.methods import Baseline
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import ClipContext, Column, FrameBatch, MetricFamily, Values
from syncdiff_eval.metrics.landmarks import mouth_opening
from syncdiff_eval.metrics.mouth_audio import MAX_LAG, lagged_correlation, loudness
from syncdiff_eval.protocols import SYNCDIFF, SYNCDIFF_INDEX, ProtocolDefinition
from syncdiff_eval.scoring import (
    ClipScore,
    Reference,
    Scorer,
    ScoreRequest,
    ScoringError,
    driving_audio,
    measure_reference,
    score_clip,
    shift_audio,
)
from syncdiff_eval.videos import frames, read_facts, sound_start


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(
        SYNCDIFF,
        FAMILIES,
        {name: FAMILIES[name].load({}, "cpu") for name in ("image", "landmarks", "mouth_audio")},
        load_backend(FACES, {}),
    )


def reference_of(path: Path) -> Reference:
    """Without faces: the pairing does not need them."""
    times = np.array([time for time, _ in frames(path)])
    return Reference(read_facts(path), len(times), 0.0, None, times)


def score(
    scorer: Scorer, reference: Path, output: Path, protocol: ProtocolDefinition = SYNCDIFF
) -> dict[str, Any]:
    bound = replace(scorer, protocol=protocol)
    return plain(score_clip(ScoreRequest(reference, reference_of(reference), output), bound))


def plain(score: ClipScore) -> dict[str, Any]:
    return {**score.record(), "values": score.values, "missing": score.missing}


def refusal(scorer: Scorer, reference: Path, output: Path) -> str:
    with pytest.raises(ScoringError) as refused:
        score(scorer, reference, output)
    return refused.value.reason


def test_frames_pair_by_index_over_the_shorter_length(tmp_path: Path, scorer: Scorer) -> None:
    reference = make_video(tmp_path / "r.mp4", range(20))
    shorter = make_video(tmp_path / "s.mp4", range(15))
    record = score(scorer, reference, shorter)
    assert record["num_frames"] == 15
    assert record["values"]["psnr_full"] > 30
    late = make_video(tmp_path / "l.mp4", range(100, 120))
    assert score(scorer, reference, late)["missing"]["psnr_full"] == "identical_to_reference"


def test_lengths_that_differ_by_more_than_the_stated_gap_are_refused(tmp_path: Path, scorer: Scorer) -> None:
    reference = make_video(tmp_path / "r.mp4", range(20))
    assert refusal(scorer, reference, make_video(tmp_path / "s.mp4", range(14))) == Reason.LENGTH_MISMATCH
    assert refusal(scorer, reference, make_video(tmp_path / "l.mp4", range(26))) == Reason.LENGTH_MISMATCH


def test_another_clock_is_refused_and_only_the_index_protocol_ignores_it(
    tmp_path: Path, scorer: Scorer
) -> None:
    reference = make_video(tmp_path / "r.mp4", range(20))
    fast = make_video(tmp_path / "f.mp4", range(20), Fraction(1, 30))
    assert refusal(scorer, reference, fast) == Reason.FPS_MISMATCH
    uneven = [4 * i + 3 * (i in (11, 13)) for i in range(20)]
    variable = make_video(tmp_path / "v.mp4", uneven, Fraction(1, 100))
    even = make_video(tmp_path / "c.mp4", range(0, 80, 4), Fraction(1, 100))
    assert refusal(scorer, variable, even) == Reason.FRAME_TIMES_DIFFER
    assert score(scorer, reference, fast, SYNCDIFF_INDEX)["num_frames"] == 20
    assert score(scorer, variable, reference, SYNCDIFF_INDEX)["values"]["psnr_full"] > 30


def test_another_size_is_refused(tmp_path: Path, scorer: Scorer) -> None:
    reference = make_video(tmp_path / "r.mp4", range(5))
    assert (
        refusal(scorer, reference, make_video(tmp_path / "o.mp4", range(5), size=(96, 96)))
        == Reason.SIZE_MISMATCH
    )


def lossless(path: Path, images: list[np.ndarray]) -> Path:
    """FFV1 keeps odd sizes and every value."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("size", [(61, 97), (64, 97), (61, 96)])
def test_a_writers_even_padding_is_not_compared(
    tmp_path: Path, scorer: Scorer, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(3)]
    noisy = [np.clip(image + rng.normal(0, 9, image.shape), 0, 255).astype(np.uint8) for image in images]
    padding = [(0, side % 2) for side in size]
    padded = [np.pad(image, (*padding, (0, 0)), constant_values=255) for image in noisy]
    reference = lossless(tmp_path / "r.mkv", images)
    values = [
        score(scorer, reference, lossless(tmp_path / f"{name}.mkv", shown))["values"]
        for name, shown in (("o", noisy), ("p", padded))
    ]
    assert values[0] == values[1]
    for wrong in ([(1, 1), (1, 1)], [(0, 2), (0, 0)], [(0, 0), (0, 2)]):
        other = [np.pad(image, (*wrong, (0, 0))) for image in noisy]
        assert refusal(scorer, reference, lossless(tmp_path / "w.mkv", other)) == Reason.SIZE_MISMATCH


def test_an_even_reference_allows_no_padding(tmp_path: Path, scorer: Scorer) -> None:
    images = [np.zeros((60, 96, 3), np.uint8)] * 2
    larger = [np.zeros((60, 97, 3), np.uint8)] * 2
    reference, output = lossless(tmp_path / "r.mkv", images), lossless(tmp_path / "o.mkv", larger)
    assert refusal(scorer, reference, output) == Reason.SIZE_MISMATCH


def test_broken_outputs_say_how(tmp_path: Path, scorer: Scorer) -> None:
    reference = make_video(tmp_path / "r.mp4", range(5))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes(reference.read_bytes()[:900])
    for name in ("empty.mp4", "cut.mp4"):
        with pytest.raises(MediaError) as error:
            score(scorer, reference, tmp_path / name)
        assert error.value.reason == Reason.UNREADABLE


def test_crossed_audio_leaves_no_comparison_with_the_reference(tmp_path: Path, scorer: Scorer) -> None:
    path = make_video(tmp_path / "r.mp4", range(20))
    longer = make_video(tmp_path / "o.mp4", range(40))
    record = plain(score_clip(ScoreRequest(path, reference_of(path), longer, crossed=True), scorer))
    assert record["num_frames"] == 20
    assert set(record["missing"].values()) <= {"crossed_audio", "no_audio", "no_face"}
    assert record["missing"]["psnr_full"] == "crossed_audio"


def test_shifted_audio() -> None:
    audio = np.arange(1, 6401, dtype=np.int16)
    late, early = shift_audio(audio, 2, 25), shift_audio(audio, -2, 25)
    assert not late[:1280].any()
    np.testing.assert_array_equal(late[1280:], audio[:-1280])
    np.testing.assert_array_equal(early[:-1280], audio[1280:])
    np.testing.assert_array_equal(shift_audio(audio, 0, 25), audio)
    for beyond in (11, -11):
        np.testing.assert_array_equal(shift_audio(audio, beyond, 25), np.zeros_like(audio))


def test_sound_of_its_own_file_starts_with_its_first_sound(tmp_path: Path) -> None:
    """An MP3's clock starts before its encoder's delay, which once put the sound two frames late."""
    with av.open(str(tmp_path / "a.mp3"), "w") as container:
        stream = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        block = av.AudioFrame.from_ndarray(clicks([0.5], 1, 16_000), format="s16", layout="mono")
        block.sample_rate = 16_000
        for part in av.AudioResampler(stream.format, "mono", 16_000).resample(block):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    start_s = sound_start(tmp_path / "a.mp3")
    assert start_s > 0.02
    np.testing.assert_allclose(
        click_times(driving_audio(tmp_path / "a.mp3", start_s, 25, 25)), [0.5], atol=2e-3
    )


def test_an_audio_stream_without_sound_is_no_sound(tmp_path: Path) -> None:
    path = make_audio(
        tmp_path / "a.mkv", np.zeros((1, 16_000), np.int16), 16_000, "pcm_s16le", holes=[(-1, 9)],
        video_pts=range(20),
    )  # fmt: skip
    assert Video(path).has_audio
    family = MetricFamily("deaf", (Column("deaf", "Deaf", "", True, 0),), 1, lambda files, device: _Deaf)
    scorer = Scorer(replace(SYNCDIFF, pairing="standalone"), {"deaf": family}, {"deaf": _Deaf}, None)
    assert score_clip(ScoreRequest(path, reference_of(path), path), scorer).values == {"deaf": 1.0}


class _Deaf:
    """Whether there is no sound."""

    def __init__(self, context: ClipContext):
        self.context = context

    def update(self, batch: FrameBatch) -> None: ...

    def merge(self, other: Any) -> None: ...

    def compute(self) -> Values:
        return {"deaf": float(self.context.audio is None)}


def test_a_size_that_changes_within_a_file_is_a_reason(tmp_path: Path, scorer: Scorer) -> None:
    streams = b""
    for side in (64, 96):
        with av.open(str(tmp_path / "part.m2v"), "w", format="mpeg2video") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            for _ in range(8):
                picture = np.full((side, side, 3), side, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        streams += (tmp_path / "part.m2v").read_bytes()
    (tmp_path / "o.mpg").write_bytes(streams)
    reference = make_video(tmp_path / "r.mp4", range(16), size=(64, 64))
    with pytest.raises(MediaError, match="size changes"):
        score(scorer, reference, tmp_path / "o.mpg", SYNCDIFF_INDEX)


@pytest.fixture(scope="module")
def real(shared: Path, scorer: Scorer) -> Any:
    measured: dict[str, Reference] = {}

    def run(name: str, output: Path | None, baseline: Baseline = Baseline()) -> dict[str, Any]:  # noqa: B008
        path = shared / "clips" / name
        if name not in measured:
            measured[name] = measure_reference(path, scorer, FACES)
        reference = measured[name]
        audio = None
        if reference.facts.has_audio:
            audio = driving_audio(path, reference.start_s, reference.num_frames, reference.facts.fps)
            audio = shift_audio(audio, baseline.audio_shift, reference.facts.fps)
        return plain(
            score_clip(ScoreRequest(path, reference, output, baseline=baseline, audio=audio), scorer)
        )

    return run


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("pair_B_gen_wav2lip.mp4", Reason.FPS_MISMATCH),
        ("pair_B_gen_retalking.mp4", Reason.FPS_MISMATCH),
        ("pair_B_gen_ours_50fps.mp4", Reason.FPS_MISMATCH),
        ("pair_B_gen_sync_none_25.mp4", Reason.FPS_MISMATCH),
    ],
)
def test_pair_b_aligns_only_by_index_and_is_refused(
    shared: Path, scorer: Scorer, output: str, reason: str
) -> None:
    clips = shared / "clips"
    assert refusal(scorer, clips / "retalk_face1_vfr.mp4", clips / output) == reason


def test_pair_c_is_scored(real: Any, shared: Path) -> None:
    """Wav2Lip-GAN on a 15 fps source without sound, one frame shorter."""
    record = real("pair_C_src_man.mp4", shared / "clips" / "pair_C_gen_bleed.mp4")
    values = record["values"]
    assert record["num_frames"] == 34
    assert 25 < values["psnr_mouth"] < values["psnr_full"] < 40
    assert 0.8 < values["ssim_mouth"] < values["ssim_full"] < 1
    assert 0 < values["lmd_mouth"] < 5
    assert record["missing"]["mouth_audio_corr"] == "no_audio"


def test_degradations_order_every_metric(real: Any, shared: Path, tmp_path: Path) -> None:
    """More blur is worse everywhere, another clip's face is worst, a frozen frame moves no mouth."""
    import cv2

    name = "grid_s1_lwae8n.mpg"
    images = [image for _, image in frames(shared / "clips" / name)]
    other = [image for _, image in frames(shared / "clips" / "grid_s1_swwv6n.mpg")]
    outputs = {
        "little": [cv2.GaussianBlur(image, (0, 0), 1.0) for image in images],
        "much": [cv2.GaussianBlur(image, (0, 0), 4.0) for image in images],
        "other": other,
    }
    values = {}
    for key, shown in outputs.items():
        write_video(tmp_path / f"{key}.mp4", shown, None)
        values[key] = real(name, tmp_path / f"{key}.mp4")["values"]
    for better, worse in (("little", "much"), ("much", "other")):
        for metric in ("psnr_mouth", "ssim_mouth", "psnr_face", "opening_corr"):
            assert values[better][metric] > values[worse][metric], (metric, better, worse)
    for metric in ("lmd_mouth", "lmd_face"):
        assert values["little"][metric] < min(values[worse][metric] for worse in ("much", "other")), metric


def test_mouth_and_sound_fit_best_where_they_belong(shared: Path, scorer: Scorer) -> None:
    """Over GRID clips, sound moved by k frames moves the best lag by k, and the fit falls on both sides."""
    openings, sounds = [], []
    for path in sorted((shared / "grid_s1").rglob("*.mpg"))[:6]:
        reference = measure_reference(path, scorer, FACES)
        assert reference.regions is not None
        openings.append(mouth_opening(reference.regions.landmarks))
        sounds.append(driving_audio(path, reference.start_s, reference.num_frames, 25))

    def curve(shift: int) -> np.ndarray:
        levels = [
            loudness(shift_audio(sound, shift, 25), 25, len(mouth)) for sound, mouth in zip(sounds, openings)
        ]
        return np.mean([lagged_correlation(mouth, level) for mouth, level in zip(openings, levels)], axis=0)

    natural = int(np.argmax(curve(0))) - MAX_LAG
    assert abs(natural) <= 2
    for shift in (-8, -5, -2, 3, 6, 8):
        assert abs(int(np.argmax(curve(shift))) - MAX_LAG - natural - shift) <= 1
    at_zero = {shift: curve(shift)[MAX_LAG] for shift in (-10, -5, 0, 5, 10)}
    assert max(at_zero, key=lambda shift: at_zero[shift]) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
def test_a_number_that_is_not_finite_is_a_missing_value(tmp_path: Path, value: float) -> None:
    """results.json and the page hold finite numbers; a metric of somebody's own may compute others."""

    class Divides(_Deaf):
        def compute(self) -> Values:
            return {"ratio": value}

    path = make_video(tmp_path / "real.mkv", range(5))
    family = MetricFamily("ratio", (Column("ratio", "Ratio", "", True, 2),), 1, lambda files, device: Divides)
    scorer = Scorer(SYNCDIFF, {"ratio": family}, {"ratio": Divides}, None)
    scored = score_clip(ScoreRequest(path, reference_of(path), path), scorer)
    assert (scored.values, scored.missing) == ({}, {"ratio": "not_scorable"})
