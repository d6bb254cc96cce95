"""No number depends on how a clip's frames were cut into batches, nor on how parts were merged: every family."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lip_clips import EYES, landmarks, opening_of, pictures, speech
from seeded_networks import inception_state, saved, syncnet_state
from tiny_avhubert import write_tiny_checkpoint

from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.metrics.base import ClipContext, FrameBatch, KeepsArrays, Metric, MissingValue, Regions

TOLERANCE = dict.fromkeys(
    (
        "image",
        "landmarks",
        "mouth_audio",
        "leak",
        "dynamics",
        "sharpness",
        "silent-lips",
        "identity",
    ),
    1e-9,
) | dict.fromkeys(("lse", "fid-face", "fid-full", "avs", "leak-avs", "expert", "frechet-centerface"), 1e-4)
"""Relative. Networks add up in another order where a batch has another size."""
READ_THE_FILE = {"lse-wav2lip-lrs", "lse-syncnet-track", "lse-latentsync", "lse-mochabench", "expert-file"}
"""Families that take no batches: they read the scored file themselves."""
NEEDS_WORDS = {"closure"}
"""Families that find nothing in the made sound here, which has no consonants: their own tests have real speech."""
ADD_UP_FRAMES = {"image", "landmarks", "mouth_audio", "leak", "fid-face", "fid-full"}
"""Their parts may be parts of one clip; the others merge whole clips: here the same one thrice, whose mean it is."""


def test_every_family_is_here() -> None:
    assert TOLERANCE.keys() | READ_THE_FILE | NEEDS_WORDS == FAMILIES.keys()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    folder = tmp_path_factory.mktemp("weights")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {
        "syncnet": saved(syncnet_state(), folder / "syncnet"),
        "inception-fid": saved(inception_state(), folder / "inception"),
        "avhubert-base": write_tiny_checkpoint(folder / "tiny.pt"),
    }
    torch.set_num_threads(threads)


def clip(count: int, name: str) -> tuple[ClipContext, list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Context, generated and reference frames, and generated landmarks; one frame shows no face."""
    ours, theirs = opening_of(count, 0), opening_of(count, 1)
    present = np.ones(count, bool)
    present[count // 2] = False
    move = np.arange(count)[:, None]
    face, mouth = (np.array(box) + move for box in ([60, 60, 190, 200], [90, 140, 160, 190]))
    regions = Regions(
        present, landmarks(ours), face.astype(np.float32), face.astype(np.int32), mouth.astype(np.int32), EYES
    )
    sound = np.zeros(640 * count, np.int16) if name.startswith("leak") else speech(count)
    context = ClipContext(25, count, sound, EYES, regions=regions)
    return context, pictures(theirs), pictures(ours), landmarks(theirs)


def numbers(metric: Metric) -> dict[str, Any]:
    found: dict[str, Any] = dict(metric.compute())
    return found | (metric.arrays() if isinstance(metric, KeepsArrays) else {})


def assert_same(found: dict[str, Any], expected: dict[str, Any], relative: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, MissingValue):
            assert found[name] == value
        else:
            scale = np.abs(value).max(initial=1e-30)
            np.testing.assert_allclose(found[name], value, rtol=0, atol=relative * scale, err_msg=name)


@pytest.mark.parametrize("name", TOLERANCE)
def test_numbers_do_not_depend_on_batches_or_merging(name: str, files: dict[str, Path]) -> None:
    count = {"fid-face": 6, "fid-full": 6, "leak": 30, "leak-avs": 30, "expert": 54}.get(name, 18)
    start = FAMILIES[name].load({key: files[key] for key in FAMILIES[name].weights}, "cpu")
    context, generated, reference, points = clip(count, name)

    def fed(batch: int, first: int = 0, stop: int = count) -> Metric:
        """The metric after frames first to stop - 1."""
        metric = start(context)
        for at in range(first, stop, batch):
            cut = slice(at, min(at + batch, stop))
            feed_one(metric, context, cut, generated, reference, points)
        return metric

    whole = numbers(fed(8))
    assert not all(isinstance(value, MissingValue) for value in whole.values())
    for batch in (1, 3):
        assert_same(numbers(fed(batch)), whole, TOLERANCE[name])
    spans = ((0, 5), (5, 6), (6, count)) if name in ADD_UP_FRAMES else ((0, count),) * 3
    first, *others = (fed(3, *span) for span in spans)
    others[0].merge(others[1])
    first.merge(others[0])
    merged = numbers(first) if name in ADD_UP_FRAMES else dict(first.compute())
    assert_same(merged, {column: whole[column] for column in merged}, TOLERANCE[name])


def feed_one(metric: Metric, context: ClipContext, cut: slice, *sides: Any) -> None:
    """Frames cut.start to cut.stop - 1 as one batch."""
    generated, reference, points = (side[cut] for side in sides)
    assert context.regions is not None
    regions = context.regions.span(cut.start, cut.stop)
    times = tuple(i / context.fps for i in range(cut.start, cut.stop))
    metric.update(FrameBatch(cut.start, reference, generated, regions, points, times))
