"""How well does a sync expert work on speakers it never saw? The tables of docs/sync.md.

    python benchmarks/sync_expert.py --expert DIR|evaluation|training --clips CLIPS [--other training] [--no-landmarks]

CLIPS holds one data set per folder of SHARED/methods, as `preprocess.py --source folder --largest-face` makes them:
`reference` and each method, clips of the same file names. Prints the area under the ROC curve of own against foreign
sound, the offsets, Spearman's rho of the mean confidences with the authors' Sync-C (and with another expert's), and
what damage to the pictures does to the confidence.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import tyro
from scipy.stats import mannwhitneyu, spearmanr

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.features import logfbank
from syncdiff_data.media.encode import add_video_stream
from syncdiff_data.shards import read_clips
from syncdiff_data.sync_expert.expert import SyncExpert

SYNC_C = {
    "reference": 7.95, "wav2lip": 8.56, "videoretalking": 8.22, "musetalk": 7.94, "diff2lip": 8.35, "latentsync": 8.10,
    "xdub": 7.58, "lipforcing": 7.59,
}  # fmt: skip
"""Published by the authors of Lip Forcing for their HDTF clips."""
LONGEST = 81
"""Frames that are scored: 3.2 s."""


@dataclass(frozen=True)
class Options:
    expert: str
    clips: Path
    other: str | None = None
    """Another expert: how alike the two rank the rows."""
    resamples: int = 2000
    """Of clips, for the intervals of rho."""
    landmarks: bool = True
    """Beside the pictures; leaderboards score without."""
    max_move: int = 10
    """Frames by which the sound is moved on purpose."""


@dataclass(frozen=True)
class Embedded:
    """Embeddings [T, D] of the first 3.2 s of a clip."""

    lips: np.ndarray
    audio: np.ndarray
    frozen: np.ndarray


def embed(expert: SyncExpert, folder: Path, landmarks: bool = True) -> dict[str, Embedded]:
    """Every file of a data set, its first clip; the frozen clip repeats its first frame."""
    found: dict[str, Embedded] = {}
    for clip in read_clips(folder):
        name = Path(clip.source).stem
        if name in found or clip.mouth is None:
            continue
        mouth, points = clip.mouth[:LONGEST], clip.landmarks[:LONGEST] if landmarks else None
        sound = align_frames(logfbank(clip.audio), clip.num_frames)[:LONGEST]
        still = [None if x is None else np.repeat(x[:1], len(mouth), axis=0) for x in (mouth, points)]
        found[name] = Embedded(
            expert.embed_lips(mouth, points), expert.embed_audio(sound), expert.embed_lips(*still)
        )
    return found


def auc(own: list[float], foreign: list[float]) -> float:
    """Area under the ROC curve."""
    return float(mannwhitneyu(own, foreign).statistic / (len(own) * len(foreign)))


def moved_within_one(expert: SyncExpert, clips: dict[str, Embedded], most: int) -> float:
    """Share of (clip, k) in which moving the sound by k frames moves the offset by k, within one."""
    right = []
    for clip in clips.values():
        offset = expert.score(clip.lips, clip.audio).offset
        for k in range(-most, most + 1):
            lips = clip.lips[max(0, k) :] if k > 0 else clip.lips[: len(clip.lips) + k]
            audio = clip.audio[: len(clip.audio) - k] if k > 0 else clip.audio[-k:]
            # Lips t + k beside audio t: the audio comes k frames later than before, so the offset is less by k.
            right.append(abs(expert.score(lips, audio).offset - (offset - k)) <= 1)
    return float(np.mean(right))


def main(options: Options) -> None:
    """Embed every method, then print the tables."""
    expert = SyncExpert.from_pretrained(options.expert)
    methods = {
        name: embed(expert, options.clips / name, options.landmarks)
        for name in SYNC_C
        if (options.clips / name).exists()
    }
    reference = methods["reference"]
    print("| row | AUC own against foreign | confidence, HDTF | offsets | moved sound found |")
    print("| --- | ---: | ---: | --- | ---: |")
    confidence = {}
    for name, clips in methods.items():
        scores = {clip: expert.score(e.lips, e.audio) for clip, e in clips.items()}
        foreign = [
            expert.score(e.lips, other.audio).confidence
            for clip, e in clips.items()
            for another, other in reference.items()
            if another != clip
        ]
        hdtf = [s.confidence for clip, s in scores.items() if clip.startswith("hdtf")]
        confidence[name] = float(np.mean(hdtf or [s.confidence for s in scores.values()]))
        offsets = " ".join(f"{s.offset:+d}" for s in scores.values())
        area = auc([s.confidence for s in scores.values()], foreign)
        moved = moved_within_one(expert, clips, options.max_move)
        print(f"| {name} | {area:.3f} | {confidence[name]:.3f} | {offsets} | {moved:.0%} |")
    real = [expert.score(e.lips, e.audio).confidence for e in reference.values()]
    still = [expert.score(e.frozen, e.audio).confidence for e in reference.values()]
    p = mannwhitneyu(real, still, alternative="greater").pvalue
    print(f"\nreal {np.mean(real):.3f}, frozen first frame {np.mean(still):.3f}, p = {p:.2g}")
    own = table_of(expert, methods)
    print_rho("the authors' Sync-C", own, [SYNC_C[m] for m in methods], options.resamples)
    if options.other:
        another = SyncExpert.from_pretrained(options.other)
        embedded = {name: embed(another, options.clips / name, options.landmarks) for name in methods}
        theirs = table_of(another, embedded)
        rho = spearmanr(own.mean(axis=1), theirs.mean(axis=1)).statistic
        by_clip = spearmanr(own.ravel(), theirs.ravel()).statistic
        print(
            f"Spearman's rho with {options.other}: over the rows {rho:.2f}, over all their clips {by_clip:.2f}"
        )
    print_damage(expert, options.clips)


def table_of(expert: SyncExpert, methods: dict[str, dict[str, Embedded]]) -> np.ndarray:
    """Confidences [methods, clips], of the HDTF clips that all methods have."""
    common = set.intersection(*(set(clips) for clips in methods.values()))
    names = sorted(name for name in common if name.startswith("hdtf")) or sorted(common)
    return np.array(
        [
            [expert.score(clips[n].lips, clips[n].audio).confidence for n in names]
            for clips in methods.values()
        ]
    )


def print_rho(name: str, confidences: np.ndarray, published: list[float], resamples: int) -> None:
    """Spearman's rho over the rows, with its interval over resampled clips."""
    rng = np.random.default_rng(0)
    count = confidences.shape[1]
    drawn = [
        spearmanr(confidences[:, rng.integers(count, size=count)].mean(axis=1), published).statistic
        for _ in range(resamples)
    ]
    rho = spearmanr(confidences.mean(axis=1), published).statistic
    low, high = np.quantile(drawn, [0.025, 0.975])
    print(f"Spearman's rho with {name} over {len(published)} rows: {rho:.2f} [{low:.2f}, {high:.2f}]")


def print_damage(expert: SyncExpert, clips: Path) -> None:
    """Mean confidence of two methods whose pictures are damaged; landmarks are left out, as in a leaderboard."""
    print(
        "\n| row | as it is | blurred (sigma 2) | H.264, crf 40 | mouth of another time (reversed) | frozen |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in ("reference", "wav2lip", "latentsync"):
        cells: dict[str, list[float]] = {}
        for clip in read_clips(clips / name):
            assert clip.mouth is not None
            mouth = clip.mouth[:LONGEST]
            audio = expert.embed_audio(align_frames(logfbank(clip.audio), clip.num_frames)[:LONGEST])
            for kind, damaged in damages(mouth).items():
                score = expert.score(expert.embed_lips(damaged), audio)
                cells.setdefault(kind, []).append(score.confidence)
        print(f"| {name} | " + " | ".join(f"{np.mean(values):.3f}" for values in cells.values()) + " |")


def damages(mouth: np.ndarray) -> dict[str, np.ndarray]:
    """uint8 [T, 96, 96] as it is, blurred, encoded, played backwards, and frozen."""
    return {
        "as it is": mouth,
        "blurred": np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in mouth]),
        "encoded": encoded(mouth, 40),
        "reversed": mouth[::-1],
        "frozen": np.repeat(mouth[:1], len(mouth), axis=0),
    }


def encoded(mouth: np.ndarray, crf: int) -> np.ndarray:
    """The crops once through H.264."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = add_video_stream(container, (96, 96), "yuv420p", Fraction(25), crf)
        for frame in mouth:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
