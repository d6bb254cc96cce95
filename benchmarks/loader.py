"""Training samples per second: this project's loader against Wav2Lip's way of reading the same clips.

Wav2Lip trains from a folder per clip that holds one JPEG a frame and audio.wav. For each sample it lists a random
folder, reads five consecutive frames and five more from elsewhere, resizes them to 96, reads the whole wav, computes
its mel spectrogram and cuts the windows of the five frames. Here the folders are filled with the very JPEG bytes and
samples of the shards, so that both sides decode the same pictures.

    python benchmarks/loader.py --clips CLIPS --features MEL --scratch DIR

A row is a task, whose loader decodes what it asks for: the parts of Wav2Lip's sample are the window, another frame of
the face and mel windows; the presets' generators ask for frames moved in time or for poses as well, and for landmarks;
an autoencoder for the window alone. Every round measures every row, so a ratio compares what ran side by side; medians
over the rounds are printed. "Decoding" is the time in which the same library decodes that many of the same crops that
lie in memory, as a share of a sample's: the limit of that row.

Cold means that the files' pages are dropped from the page cache before each run (posix_fadvise on every file, after
a sync; with the right to do so the kernel drops all its caches too, directories included). A run visits as many clips
as there are, on either side. Both sides have one thread, that of BLAS included, which else spins beside Wav2Lip's
spectrograms. The last columns count this process alone, so they want workers = 0.
"""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = (
    "1"  # Read when numpy and torch are imported.
)

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import soundfile
import torch
import tyro
from cpu_profile import profile_text
from torch.utils.data import DataLoader, Dataset

from syncdiff_data.features import mel_windows
from syncdiff_data.images import decode_jpeg, decode_jpeg_into
from syncdiff_data.loader import BatchParts, ClipWindows, Loader, LoaderConfig
from syncdiff_data.records import SAMPLE_RATE
from syncdiff_data.shards import read_clips
from syncdiff_model.presets import load_preset
from syncdiff_model.tasks.autoencoder import AutoencoderTask
from syncdiff_model.tasks.syncdiff import SyncDiffTask

WINDOW = 5
WAV2LIP_SIZE = 96


@dataclass(frozen=True)
class Benchmark:
    """Where the clips are and how to read them."""

    clips: Path
    """Clips data set."""
    features: Path
    """Features of these clips made with --encoder mel."""
    scratch: Path
    """Folder for Wav2Lip's layout of the same clips; filled when empty. On the disk that holds the clips."""
    workers: int = 0
    """DataLoader workers on both sides; 0 reads in the main process."""
    batch_size: int = 16
    windows_per_visit: tuple[int, ...] = ()
    """Other numbers of windows that the loader cuts each time it reads a clip; a row each, of preset paper."""
    rounds: int = 5
    """CPU time tells more than the clock on a busy machine."""
    cold: bool = True
    """Measure with an empty page cache too."""
    profile: Path | None = None
    """Text file for a profile of the CPU time of preset paper."""


FOLDERS = "Wav2Lip's folders"
TASKS = {
    "loader, the parts of Wav2Lip's sample": BatchParts(("frames", "identity"), landmarks=False),
    "loader, SyncDiff, preset compact": SyncDiffTask.batch_parts(load_preset("compact")),
    "loader, SyncDiff, preset paper": SyncDiffTask.batch_parts(load_preset("paper")),
    "loader, autoencoder": AutoencoderTask.batch_parts(load_preset("compact")),
}
PAPER = "loader, SyncDiff, preset paper"
DECODED = {"frames": WINDOW, "identity": 1, "pose": 1, "masked": 2 / 3}
"""Crops that a part adds to a sample, mean: of the poses all but one lie in the window, and so do those of a window
that was moved by up to one frame."""


class Wav2LipFolder(Dataset[dict[str, torch.Tensor]]):
    """Wav2Lip's training samples as its training script makes them: any index gives a random window."""

    def __init__(self, folders: Sequence[Path], samples: int):
        self._folders, self._samples = folders, samples

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = random.Random(index)
        folder = rng.choice(self._folders)
        count = len(list(folder.glob("*.jpg")))
        right, wrong = rng.sample(range(count - WINDOW), 2)
        audio, _ = soundfile.read(folder / "audio.wav", dtype="int16")
        mel = mel_windows(audio, count)[right : right + WINDOW].reshape(WINDOW, 1, -1, 16)
        return {
            "frames": read_window(folder, right),
            "wrong": read_window(folder, wrong),
            "mel": torch.from_numpy(mel),
        }


def read_window(folder: Path, first: int) -> torch.Tensor:
    """Five frames as float32 [3, 5, 96, 96], BGR, 0-1."""
    frames = [cv2.imread(str(folder / f"{t}.jpg")) for t in range(first, first + WINDOW)]
    small = np.stack([cv2.resize(frame, (WAV2LIP_SIZE, WAV2LIP_SIZE)) for frame in frames])
    return torch.from_numpy(np.ascontiguousarray((small / 255.0).transpose(3, 0, 1, 2), np.float32))


def write_folders(clips: Path, scratch: Path) -> list[Path]:
    """Wav2Lip's layout of a clips data set; an existing one is taken as it is."""
    if not scratch.is_dir():
        for clip in read_clips(clips):
            folder = scratch / clip.clip_id
            folder.mkdir(parents=True)
            for frame, jpeg in enumerate(clip.face_jpeg):
                (folder / f"{frame}.jpg").write_bytes(jpeg)
            soundfile.write(folder / "audio.wav", clip.audio, SAMPLE_RATE)
    return sorted(scratch.iterdir())


def drop_cache(files: Iterable[Path]) -> None:
    """Forget the pages of these files, and all else that is cached where this process may."""
    os.sync()
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    switch = Path("/proc/sys/vm/drop_caches")
    if os.access(switch, os.W_OK):
        switch.write_text("3")


def measure(batches: Iterable[dict]) -> tuple[float, float, float]:
    """Samples per second over one run, starting the workers included; CPU milliseconds and kilobytes that came from
    the disk, a sample.
    """
    wall, cpu, disk, count = time.perf_counter(), time.process_time(), bytes_from_disk(), 0
    for batch in batches:
        count += len(batch["frames"])
    return (
        count / (time.perf_counter() - wall),
        1000 * (time.process_time() - cpu) / count,
        (bytes_from_disk() - disk) / count / 1000,
    )


def bytes_from_disk() -> int:
    """What this process has had fetched from storage, the kernel's reading ahead included."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def decoding_ms(clips: Path) -> float:
    """CPU milliseconds in which a crop is decoded that lies in memory, mean over the crops of some clips."""
    crops = [jpeg for clip, _ in zip(read_clips(clips), range(20)) for jpeg in clip.face_jpeg]
    place = decode_jpeg(crops[0])
    cpu = time.process_time()
    for jpeg in crops:
        decode_jpeg_into(jpeg, place)
    return 1000 * (time.process_time() - cpu) / len(crops)


def main(config: Benchmark) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folders = write_folders(config.clips, config.scratch)
    roots = (config.clips, config.features, config.scratch)
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]

    def loader(task: str, visit: int = 4) -> Loader:
        options = LoaderConfig(
            config.batch_size, WINDOW, parts=TASKS[task], context=1, windows_per_visit=visit, epochs=1
        )
        features = None if "autoencoder" in task else config.features
        return Loader(ClipWindows(config.clips, features, options), config.workers)

    folder_samples = Wav2LipFolder(folders, samples=len(folders))
    rows: dict[str, Callable[[], Iterable[dict]]] = {
        FOLDERS: lambda: DataLoader(folder_samples, config.batch_size, num_workers=config.workers)
    }
    rows |= {task: partial(loader, task) for task in TASKS}
    rows |= {
        f"{PAPER}, {visit} windows a visit": partial(loader, PAPER, visit)
        for visit in config.windows_per_visit
    }
    found: dict[str, list[list[tuple[float, float, float]]]] = {name: [] for name in rows}
    decoding = []
    for _ in range(config.rounds):
        decoding.append(decoding_ms(config.clips))
        for name, make in rows.items():
            if config.cold:
                drop_cache(files)
            cold = measure(make()) if config.cold else (np.nan, np.nan, np.nan)
            if not config.cold and not found[name]:
                measure(make())  # fills the page cache
            found[name].append([cold, measure(make())])
    print_table(len(folders), config, found, float(np.median(decoding)))
    if config.profile:
        config.profile.write_text(profile_text(lambda: sum(1 for _ in rows[PAPER]())))


def print_table(
    clips: int,
    config: Benchmark,
    found: dict[str, list[list[tuple[float, float, float]]]],
    decoding: float,
) -> None:
    """Medians over the rounds. found: per row and round the samples/s, CPU ms and kB a sample, cold and warm."""
    print(f"{clips} clips, {config.workers} workers, batches of {config.batch_size}, {config.rounds} rounds")
    print(f"decoding one crop: {decoding:.3f} ms of CPU")
    print(
        "| | samples/s warm | x folders | range | CPU ms a sample warm | x folders | range | of it decoding "
        "| samples/s cold | x folders | CPU ms cold | kB from disk cold |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    theirs = np.array(found[FOLDERS])  # [rounds, cold or warm, 3]
    for name, values in found.items():
        ours = np.array(values)
        speed, cpu = ours[..., 0] / theirs[..., 0], theirs[..., 1] / ours[..., 1]
        (cold_speed, cold_cpu, disk), (warm_speed, warm_cpu, _) = np.median(ours, axis=0)
        share = decoded(name) * decoding / warm_cpu
        print(
            f"| {name} | {warm_speed:.0f} | {spread(speed[:, 1])} | {warm_cpu:.2f} | {spread(cpu[:, 1])} | {share:.0%} "
            f"| {cold_speed:.0f} | {np.median(speed[:, 0]):.1f} | {cold_cpu:.2f} | {disk:.0f} |"
        )


def decoded(row: str) -> float:
    """Crops that a sample of this row decodes."""
    parts = next((parts for task, parts in TASKS.items() if row.startswith(task)), None)
    return sum(DECODED[image] for image in parts.images) if parts else 2 * WINDOW


def spread(ratios: np.ndarray) -> str:
    """Median, and smallest to largest."""
    return f"{np.median(ratios):.1f} | {ratios.min():.1f} to {ratios.max():.1f}"


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
