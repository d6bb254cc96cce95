"""Kind 38: clips that share their video, or their speaker, are not independent."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from syncdiff_data.records import UserError
from syncdiff_eval.pairing import Pairing, pair_by_list
from syncdiff_eval.statistics import Inference, mean_interval, paired_difference

INFERENCE = Inference(resamples=1000, confidence=0.95, seed=1)
VIDEOS, PAIRS, DRAWS = 100, 11, 300


def clustered(rng: np.random.Generator, sizes: list[int]) -> np.ndarray:
    """Scores of a true mean of zero, of which the video decides nearly all."""
    means = rng.normal(size=len(sizes))
    return np.repeat(means, sizes) + rng.normal(0, 0.3, sum(sizes))


def videos_of(sizes: list[int]) -> list[str]:
    return [f"video{i}" for i, size in enumerate(sizes) for _ in range(size)]


def rates(sizes: list[int], sources: list[str], draws: int = DRAWS) -> tuple[float, float]:
    """Share of intervals that cover zero, and of equal methods found different."""
    rng = np.random.default_rng(len(sizes))
    covered = wrong = 0
    for _ in range(draws):
        values = clustered(rng, sizes)
        found = paired_difference(values, np.zeros(len(values)), sources, INFERENCE)
        interval = mean_interval(values, sources, INFERENCE)
        assert found is not None
        assert found.p is not None
        assert interval is not None
        covered += interval[0] <= 0 <= interval[1]
        wrong += found.p < 0.05
    return covered / draws, wrong / draws


def test_kind_38_a_hundred_videos_of_eleven_pairs() -> None:
    """By pair, the interval covers about half and half of equal methods win; by video both are as stated."""
    sizes = [PAIRS] * VIDEOS
    coverage, wrong = rates(sizes, videos_of(sizes))
    assert 0.91 < coverage < 0.985
    assert 0.015 < wrong < 0.09
    coverage, wrong = rates(sizes, [str(i) for i in range(sum(sizes))], 60)
    assert coverage < 0.7
    assert wrong > 0.3


def test_kind_38_videos_of_very_different_numbers_of_pairs() -> None:
    sizes = [30, 20, 10, *[1] * 12]
    coverage, wrong = rates(sizes, videos_of(sizes))
    assert coverage > 0.9
    assert wrong < 0.09


def test_kind_38_with_one_clip_a_video_the_interval_is_students() -> None:
    values = np.random.default_rng(2).normal(5, 2, 12)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert mean_interval(values, [str(i) for i in range(12)], INFERENCE) == pytest.approx(expected)


def test_kind_38_the_order_of_clips_and_the_names_of_videos_do_not_matter() -> None:
    sizes = [4, 3, 2, 2, 1, 1, 1, 1]
    values, sources = clustered(np.random.default_rng(3), sizes), videos_of(sizes)
    order = np.random.default_rng(4).permutation(len(values))
    shuffled = mean_interval(values[order], [sources[i][::-1] for i in order], INFERENCE)
    assert shuffled == pytest.approx(mean_interval(values, sources, INFERENCE))


def listed(folder: Path, text: str) -> Pairing:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (folder / name).write_bytes(b"x")
    (folder / "pairs.csv").write_text(text)
    return pair_by_list(folder, folder / "pairs.csv", "csv")


def test_kind_38_the_source_of_a_pair_is_its_video_or_its_speaker(tmp_path: Path) -> None:
    rows = ["video,audio,output", "a.mp4,b.mp4,0", "a.mp4,c.mp4,1", "b.mp4,a.mp4,2"]
    assert listed(tmp_path, "\n".join(rows)).sources == {"0": "a.mp4", "1": "a.mp4", "2": "b.mp4"}
    spoken = [row + cell for row, cell in zip(rows, (",speaker", ",s1", ",s1", ",s1"))]
    assert set(listed(tmp_path, "\n".join(spoken)).sources.values()) == {"s1"}


@pytest.mark.parametrize(
    ("speakers", "words"), [(("s1", "s2", "s3"), "two speakers"), (("s1", "s1", ""), "some pairs only")]
)
def test_kind_38_speakers_that_contradict_are_refused(
    tmp_path: Path, speakers: tuple[str, ...], words: str
) -> None:
    rows = [
        f"{video},c.mp4,{i},{who}"
        for i, (video, who) in enumerate(zip(("a.mp4", "a.mp4", "b.mp4"), speakers))
    ]
    with pytest.raises(UserError, match=words):
        listed(tmp_path, "\n".join(["video,audio,output,speaker", *rows]))
