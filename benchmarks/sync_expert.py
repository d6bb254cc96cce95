"""How well does a sync expert work on speakers it never saw? The tables of docs/sync.md.

    python benchmarks/sync_expert.py --expert DIR|evaluation|training --clips CLIPS --shared SHARED

CLIPS holds one data set per folder of SHARED/methods, as `preprocess.py --source folder --largest-face` makes them:
`reference` and each method, clips of the same file names. Prints the area under the ROC curve of own against foreign
sound, the offsets, and Spearman's rho of the mean confidences with the authors' Sync-C.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from scipy.stats import mannwhitneyu, spearmanr

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.features import logfbank
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
    max_move: int = 10
    """Frames by which the sound is moved on purpose."""


@dataclass(frozen=True)
class Embedded:
    """Embeddings [T, D] of the first 3.2 s of a clip."""

    lips: np.ndarray
    audio: np.ndarray
    frozen: np.ndarray


def embed(expert: SyncExpert, folder: Path) -> dict[str, Embedded]:
    """Every file of a data set, its first clip; the frozen clip repeats its first frame."""
    found: dict[str, Embedded] = {}
    for clip in read_clips(folder):
        name = Path(clip.source).stem
        if name in found or clip.mouth is None:
            continue
        mouth, points = clip.mouth[:LONGEST], clip.landmarks[:LONGEST]
        sound = align_frames(logfbank(clip.audio), clip.num_frames)[:LONGEST]
        still = np.repeat(mouth[:1], len(mouth), axis=0), np.repeat(points[:1], len(points), axis=0)
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
        name: embed(expert, options.clips / name) for name in SYNC_C if (options.clips / name).exists()
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
    rho = spearmanr([confidence[m] for m in methods], [SYNC_C[m] for m in methods]).statistic
    print(f"Spearman's rho with the authors' Sync-C over {len(methods)} rows: {rho:.2f}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
