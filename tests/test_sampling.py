"""Samplers and rollouts: step counts, batches, chunks, rates, guidance; the same seed gives the same faces."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import tiny_model

from syncdiff_data.records import UserError
from syncdiff_model.conditioning import Pose, features_inside
from syncdiff_model.denoiser import DiffusionConfig, build_scheduler
from syncdiff_model.generator import FaceClip
from syncdiff_model.pipeline import SyncDiffPipeline
from syncdiff_model.rollout import (
    GUIDANCE,
    ONE_PASS,
    SamplingConfig,
    advance,
    guidance_of,
    start_rollout,
    windows_at,
)
from syncdiff_model.samplers import SAMPLERS, Levels, find_sampler, trailing_steps

LEVELS = Levels.of(build_scheduler(DiffusionConfig()))
POSES: tuple[Pose, ...] = ("none", "masked", "bottleneck", "full")


@pytest.mark.parametrize("name", SAMPLERS)
@given(steps=st.integers(1, 60))
@settings(max_examples=15, deadline=None)
def test_every_number_of_steps_ends_without_noise(name: str, steps: int) -> None:
    """A network that knows the only clean image there is: facts, 7, found noise left at 6, 7 and 15 steps."""
    clean = torch.full((2, 1, 4, 4), 0.7)
    wanted = trailing_steps(1000, steps)
    assert wanted[0] == 999
    assert all(a > b >= 0 for a, b in pairwise(wanted))
    made = SAMPLERS[name](lambda noisy, step: clean, torch.randn(2, 1, 4, 4), LEVELS, wanted)
    assert torch.equal(made, clean)


def test_more_steps_than_levels_are_refused() -> None:
    for steps in (0, 1001):
        with pytest.raises(UserError, match="expected 1 to 1000"):
            trailing_steps(1000, steps)
    with pytest.raises(UserError, match="There is no sampler 'euler'"):
        SamplingConfig(sampler="euler")


def test_samplers_agree_with_diffusers_on_a_gaussian() -> None:
    """Data of N(0, 1/4): the ideal network is linear, and every sampler's many steps reach the same image."""

    def ideal(noisy: torch.Tensor, step: int) -> torch.Tensor:
        alpha, sigma = LEVELS.at(step)
        return noisy * (0.25 * alpha / (0.25 * alpha**2 + sigma**2))

    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for name in ("ddim", "dpmpp_2m"):
        made = SAMPLERS[name](ideal, noise, LEVELS, trailing_steps(1000, 200))
        assert torch.allclose(made, noise / 2, atol=0.05), name
    scheduler = build_scheduler(DiffusionConfig())
    scheduler.set_timesteps(10)
    theirs = noise
    for step in scheduler.timesteps:
        theirs = scheduler.step(ideal(theirs, int(step)), int(step), theirs).prev_sample
    ours = SAMPLERS["ddim"](ideal, noise, LEVELS, scheduler.timesteps.tolist())
    assert torch.allclose(ours, theirs, atol=2e-2)


def clips(lengths: list[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8) for n in lengths]
    return crops, [rng.normal(-10, 5, (n, 104)).astype(np.float32) for n in lengths]


@pytest.mark.parametrize("pose", POSES)
def test_a_clip_depends_neither_on_others_nor_on_chunks(pose: Pose) -> None:
    """Within one gray level: convolutions round differently for other batch sizes."""
    model, config = tiny_model(pose=pose), SamplingConfig(steps=2, batch_frames=5)
    crops, features = clips([3, 9, 6])
    times = [np.arange(len(part)) / 25 for part in crops]
    start = [start_rollout(model, part[0], sound) for part, sound in zip(crops, features)]
    together = advance(model, start, crops, times, config)
    for part, sound, when, made in zip(crops, features, times, together):
        rollout = start_rollout(model, part[0], sound)
        pieces = [
            advance(model, [rollout], [part[a : a + 2]], [when[a : a + 2]], config)[0]
            for a in range(0, len(part), 2)
        ]
        assert np.abs(np.concatenate(pieces).astype(int) - made).max() <= 1
        assert len(rollout.recent) <= 2, "memory does not grow"


@pytest.mark.parametrize("pose", ["masked", "bottleneck", "full"])
def test_the_pose_is_the_frame_before_at_any_rate(pose: Pose) -> None:
    """At 50 frames a second the pose of offset 1 is the second last frame, so odd frames do not feed even ones."""
    model, config = tiny_model(pose=pose), SamplingConfig(steps=1)
    (crops,), (features,) = clips([8])
    rollout = start_rollout(model, crops[0], features)
    whole = advance(model, [rollout], [crops], [np.arange(8) / 50], config)[0]
    rollout = start_rollout(model, crops[0], features)
    even = advance(model, [rollout], [crops[::2]], [np.arange(4) / 25], config)[0]
    assert np.abs(whole[::2].astype(int) - even).max() <= 1


@given(count=st.integers(1, 9), context=st.integers(1, 7), time=st.floats(-0.3, 0.7))
@settings(max_examples=50, deadline=None)
def test_windows_interpolate_between_frames_and_repeat_the_edges(
    count: int, context: int, time: float
) -> None:
    features = torch.arange(count, dtype=torch.float32)[:, None]
    found = windows_at(features, np.array([time]), context)[0, :, 0]
    wanted = np.clip(time * 25 + np.arange(context) - context // 2, 0, count - 1)
    assert np.allclose(found, wanted, atol=2e-3)


def test_guidance_away_from_no_sound_changes_faces_and_one_turns_it_off() -> None:
    model = tiny_model()
    (crops,), (features,) = clips([2])
    made = {}
    for guidance in (1.0, 0.0, 3.0):
        rollout = start_rollout(model, crops[0], features)
        config = SamplingConfig(steps=1, guidance=guidance)
        made[guidance] = advance(model, [rollout], [crops], [np.arange(2) / 25], config)[0]
    assert not np.array_equal(made[1.0], made[3.0])
    other = start_rollout(model, crops[0], -features)
    config = SamplingConfig(steps=1, guidance=0.0)
    assert np.array_equal(made[0.0], advance(model, [other], [crops], [np.arange(2) / 25], config)[0])


def test_only_models_that_know_frames_without_sound_are_guided_by_default() -> None:
    model = tiny_model()
    assert not model.conditioner.config.without_audio
    assert guidance_of(model, SamplingConfig()) == 1
    assert guidance_of(model, SamplingConfig(guidance=2.0)) == 2
    model.conditioner.register_to_config(without_audio=True)
    assert guidance_of(model, SamplingConfig()) == GUIDANCE > 1
    assert guidance_of(model, ONE_PASS) == 1


def test_faces_stream_many_clips_of_different_lengths() -> None:
    pipeline = SyncDiffPipeline(tiny_model(), SamplingConfig(steps=1))
    crops, features = clips([40, 3])
    drawn = [0, 0]

    def stream(clip: int):  # type: ignore[no-untyped-def]
        for crop in crops[clip]:
            drawn[clip] += 1
            yield crop

    faces = pipeline.faces(
        [
            FaceClip(stream(i), np.arange(len(c)) / 25, c[0], f)
            for i, (c, f) in enumerate(zip(crops, features))
        ]
    )
    first = next(faces)
    assert first[:2] == (0, 0)
    assert drawn[0] <= 33, "frames are not read ahead"
    rest = [(clip, t) for clip, t, _ in faces]
    assert sorted([first[:2], *rest]) == [(i, t) for i, n in enumerate((40, 3)) for t in range(n)]


def test_features_inside_says_where_windows_leave_the_clip() -> None:
    batch = {
        "features": torch.zeros(2, 2, 3, 1),
        "first_frame": torch.tensor([0, 4]),
        "num_frames": torch.tensor([9, 6]),
    }
    assert features_inside(batch).tolist() == [
        [[False, True, True], [True, True, True]],
        [[True, True, True], [True, True, False]],
    ]


def test_a_sampler_of_ones_own_is_named_by_module() -> None:
    assert find_sampler("syncdiff_model.samplers:ddim") is SAMPLERS["ddim"]
    with pytest.raises(UserError, match="nowhere"):
        SamplingConfig(sampler="nowhere:mine")
