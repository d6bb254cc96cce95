"""What a model's dubs of real speech are like: lips, picture, sync. The tables of docs/results.md, "SyncDiff".

    python benchmarks/real_speech.py --videos LIST.csv --split test --model NAME=RUN [--model ...] --out DIR

LIST.csv has the columns path and split (`preprocess.py --source folder`). Every video of the split is dubbed with its
own sound and with that of the next one; all is measured on the dubbed files, with one face backend and
one set of boxes. Dubs that are there stay, so a table can be printed again. Several models are compared pair by
pair. --ceiling RUN shows what the path costs without a model: the crops pasted back as they are, and reconstructed by
RUN's autoencoder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro

from syncdiff_data.faces import Track, load_backend, mean_face
from syncdiff_data.landmarks import opening
from syncdiff_data.media import AudioTrack, Video, sound_start
from syncdiff_data.prepared import find_faces
from syncdiff_data.sync_expert.expert import SyncExpert
from syncdiff_data.sync_expert.tracks import embed_tracks
from syncdiff_data.tables import videos_of_split
from syncdiff_eval.metrics.image import psnr, ssim
from syncdiff_eval.metrics.sharpness import detail_energy
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.regions import build_regions
from syncdiff_eval.statistics import Inference, mean_interval, paired_difference
from syncdiff_model.autoencoder import to_bytes
from syncdiff_model.checkpoint import load_syncdiff
from syncdiff_model.dubbing import Dubber, DubConfig, DubPair
from syncdiff_model.generators import load_generator
from syncdiff_model.pipeline import SyncDiffPipeline
from syncdiff_model.rollout import SamplingConfig

INFERENCE = Inference(resamples=10_000, confidence=0.95, seed=0)
COLUMNS = {
    "own": "opening correlation, own sound",
    "foreign": "opening correlation with the sound's clip, foreign sound",
    "source": "opening correlation with the source video, foreign sound",
    "control": "own sound's opening with the foreign clip's",
    "lead": "foreign less control",
    "spread": "spread of the opening, of the real one",
    "psnr": "PSNR mouth, dB",
    "ssim": "SSIM mouth",
    "sharpness": "high-frequency energy of the mouth, of the real one",
    "confidence": "sync expert's confidence, own sound, of the real video's",
    "confidence_foreign": "the same, foreign sound, of the real video's of that sound",
}


@dataclass(frozen=True)
class Options:
    videos: Path
    out: Path
    model: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=RUN; repeatable."""
    ceiling: str | None = None
    """A run whose crops are pasted back as they are (row `crops`) and reconstructed (row `autoencoder`)."""
    sharpen: float = DubConfig.sharpen
    """As for synthesize.py."""
    split: str = "test"
    limit: int | None = None
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    expert: str = "evaluation"
    """The sync expert that judges: not the one of a training loss."""


@dataclass(frozen=True)
class Source:
    path: Path
    track: Track
    opening: np.ndarray
    sound: np.ndarray
    confidence: float


def main(options: Options) -> None:
    paths = videos_of_split(options.videos, options.split)[: options.limit]
    expert = SyncExpert.from_pretrained(options.expert)
    models = {name: load_generator(run, options.sampling, {}) for name, run in named(options.model)}
    if options.ceiling:
        model = load_syncdiff(Path(options.ceiling))
        models |= {"crops": Copying(model), "autoencoder": Reconstructing(model)}
    tables: dict[str, dict[str, np.ndarray]] = {}
    sources: list[Source] = []
    for name, generator in models.items():
        config = DubConfig(options.sampling, face_cache=options.out / "faces", sharpen=options.sharpen)
        dubber = Dubber(generator, config)
        sources = sources or [measured(path, dubber, expert) for path in paths]
        dub_all(dubber, paths, options.out / name)
        tables[name] = table(options.out / name, sources, dubber, expert)
        show(name, tables[name], [path.stem for path in paths])
        text = json.dumps({column: values.tolist() for column, values in tables[name].items()})
        (options.out / f"{name}.json").write_text(text)
    compare(tables, [path.stem for path in paths])


def named(models: Sequence[str]) -> list[tuple[str, str]]:
    """NAME and RUN of each NAME=RUN."""
    pairs = [model.partition("=") for model in models]
    return [(name, run) for name, _, run in pairs]


class Copying(SyncDiffPipeline):
    """Gives every crop back as it is: what cropping, pasting and coding cost."""

    def advance(
        self,
        states: Sequence[Any],
        crops: Sequence[np.ndarray],
        times: Sequence[np.ndarray],
        heartbeat: Callable[[], None] = lambda: None,
    ) -> list[np.ndarray]:
        return [part.copy() for part in crops]


class Reconstructing(Copying):
    """Gives every crop back as the autoencoder shows it."""

    @torch.no_grad()
    def advance(
        self,
        states: Sequence[Any],
        crops: Sequence[np.ndarray],
        times: Sequence[np.ndarray],
        heartbeat: Callable[[], None] = lambda: None,
    ) -> list[np.ndarray]:
        made = []
        for part in crops:
            frames = torch.from_numpy(part).permute(0, 3, 1, 2)
            again = self.model.images(self.model.frame_latents(frames))
            made.append(to_bytes(again).permute(0, 2, 3, 1).numpy())
        return made


def measured(path: Path, dubber: Dubber, expert: SyncExpert) -> Source:
    """A real video: its largest face, and how well its lips fit its sound."""
    video = Video(path, fps=None)
    tracks = find_faces(video, dubber.backend, dubber.faces, dubber.config.face_cache)
    track = max(tracks, key=lambda track: len(track.box))
    sound = AudioTrack(path).slice(float(sound_start(path)), video.num_frames)
    confidence = fit(list(video.frames()), track, sound, expert)
    return Source(path, track, opening(track.landmarks), sound, confidence)


def fit(frames: Sequence[np.ndarray], track: Track, sound: np.ndarray, expert: SyncExpert) -> float:
    """The expert's confidence in lips and sound, as far as both last."""
    count = min(len(frames) - track.first_frame, len(track.box), len(sound) // 640 - track.first_frame)
    shorter = replace(track, box=track.box[:count], landmarks=track.landmarks[:count])
    (lips,) = embed_tracks([shorter], enumerate(frames), expert, mean_face())
    audio = expert.embed_sound(sound[track.first_frame * 640 : (track.first_frame + count) * 640], count)
    return expert.score(lips, audio).confidence


def dub_all(dubber: Dubber, paths: Sequence[Path], out: Path) -> None:
    """OUT/own/I.mp4 and OUT/foreign/I.mp4 of every video; says how many frames a second that took."""
    started, frames = time.monotonic(), 0
    for number, path in enumerate(paths):
        for kind, sound in (("own", path), ("foreign", paths[(number + 1) % len(paths)])):
            pair = DubPair(path, sound, out / kind / f"{number}.mp4")
            if pair.output.exists():
                continue
            failure = dubber.dub(pair)
            if failure:
                raise SystemExit(f"{path.name}: {failure.reason} ({failure.detail})")
            frames += Video(pair.output, fps=None).num_frames
    if frames:
        print(f"{frames} frames dubbed at {frames / (time.monotonic() - started):.1f} a second")


def table(
    folder: Path, sources: Sequence[Source], dubber: Dubber, expert: SyncExpert
) -> dict[str, np.ndarray]:
    """One value a video of every column."""
    backend = load_backend(dubber.faces, {})
    found: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for number, source in enumerate(sources):
        other = sources[(number + 1) % len(sources)]
        for kind, sound in (("own", source), ("foreign", other)):
            frames = list(Video(folder / kind / f"{number}.mp4", fps=None).frames())
            track = relocated(frames, source.track, backend)
            made = opening(track.landmarks)
            confidence = fit(frames, track, sound.sound, expert) / sound.confidence
            if kind == "own":
                found["own"].append(correlation(made, source.opening))
                found["control"].append(correlation(made, other.opening))
                found["spread"].append(float(made.std() / source.opening.std()))
                found["confidence"].append(confidence)
                for name, value in picture(frames, source).items():
                    found[name].append(value)
            else:
                found["foreign"].append(correlation(made, other.opening))
                found["source"].append(correlation(made, source.opening))
                found["confidence_foreign"].append(confidence)
        found["lead"].append(found["foreign"][-1] - found["control"][-1])
    return {name: np.array(values) for name, values in found.items()}


def relocated(frames: Sequence[np.ndarray], track: Track, backend: object) -> Track:
    """The track with the landmarks of other frames inside its boxes, as far as both last."""
    count = min(len(frames) - track.first_frame, len(track.box))
    shown = frames[track.first_frame : track.first_frame + count]
    landmarks = backend.landmarks(shown, track.box[:count])  # type: ignore[attr-defined]
    return replace(track, box=track.box[:count], landmarks=landmarks)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's r over the time that both last."""
    count = min(len(a), len(b))
    return float(np.corrcoef(a[:count], b[:count])[0, 1])


def picture(frames: Sequence[np.ndarray], source: Source) -> dict[str, float]:
    """PSNR and SSIM of the mouth and its high-frequency energy, as the benchmark's columns define them."""
    track = source.track
    size = frames[0].shape[1], frames[0].shape[0]
    regions = build_regions(track.first_frame, track.landmarks, track.box, len(frames), size, SYNCDIFF)
    assert regions is not None
    values: dict[str, list[float]] = {"psnr": [], "ssim": [], "made": [], "real": []}
    for t, (real, made) in enumerate(zip(Video(source.path, fps=None).frames(), frames)):
        if not regions.present[t]:
            continue
        x0, y0, x1, y1 = regions.mouth[t]
        real, made = real[y0:y1, x0:x1], made[y0:y1, x0:x1]
        values["psnr"].append(psnr(real, made))
        values["ssim"].append(ssim(real, made))
        values["made"].append(detail_energy(made))
        values["real"].append(detail_energy(real))
    return {
        "psnr": float(np.mean(values["psnr"])),
        "ssim": float(np.mean(values["ssim"])),
        "sharpness": sum(values["made"]) / sum(values["real"]),
    }


def show(name: str, values: dict[str, np.ndarray], clips: Sequence[str]) -> None:
    print(f"\n{name}, {len(clips)} clips: mean [95 % interval]")
    for column, meaning in COLUMNS.items():
        low, high = mean_interval(values[column], clips, INFERENCE) or (np.nan, np.nan)
        print(f"  {column:19} {values[column].mean():7.3f} [{low:.3f}, {high:.3f}]  {meaning}", flush=True)


def compare(tables: dict[str, dict[str, np.ndarray]], clips: Sequence[str]) -> None:
    """Every model against the first: paired differences of the columns that say most."""
    names = list(tables)
    for name in names[1:]:
        print(f"\n{name} less {names[0]}: paired difference [95 % interval], p by sign flips")
        for column in ("own", "foreign", "lead", "psnr", "sharpness", "confidence"):
            found = paired_difference(tables[name][column], tables[names[0]][column], clips, INFERENCE)
            print(f"  {column:19} {found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]  p {found.p:.4f}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
