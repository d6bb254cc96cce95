"""Training samples per second: this project's loader against Wav2Lip's way of reading the same clips.

Wav2Lip trains from a folder per clip that holds one JPEG a frame and audio.wav. For each sample it lists a random
folder, reads five consecutive frames and five more from elsewhere, resizes them to 96, reads the whole wav, computes
its mel spectrogram and cuts the windows of the five frames. Here the folders are filled with the very JPEG bytes and
samples of the shards, so that both sides decode the same pictures.

    python benchmarks/loader.py --clips CLIPS --features MEL --scratch DIR

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
from torch.utils.data import DataLoader, Dataset

from syncdiff_data.features import mel_windows
from syncdiff_data.loader import ClipWindows, Loader, LoaderConfig
from syncdiff_data.records import SAMPLE_RATE
from syncdiff_data.shards import read_clips

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
    windows_per_visit: tuple[int, ...] = (1, 2, 4, 8)
    """Windows the loader cuts each time it reads a clip; one row each."""
    repeats: int = 3
    """The median is printed. CPU time tells more than the clock on a busy machine."""


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


def main(config: Benchmark) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folders = write_folders(config.clips, config.scratch)
    roots = (config.clips, config.features, config.scratch)
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]

    def ours(visit: int) -> Loader:
        options = LoaderConfig(
            config.batch_size, WINDOW, context=1, feature="mel", windows_per_visit=visit, epochs=1
        )
        return Loader(ClipWindows(config.clips, config.features, options), config.workers)

    rows: dict[str, Callable[[], Iterable[dict]]] = {
        f"loader, {visit} windows a visit": partial(ours, visit) for visit in config.windows_per_visit
    }
    folder_samples = Wav2LipFolder(folders, samples=len(folders))
    rows["Wav2Lip's folders"] = lambda: DataLoader(
        folder_samples, config.batch_size, num_workers=config.workers
    )
    print(f"{len(folders)} clips, {config.workers} workers, batches of {config.batch_size}")
    print(
        "| | samples/s cold | samples/s warm | CPU ms a sample, cold | warm | kB a sample from disk, cold |"
    )
    print("|---|---|---|---|---|---|")
    for name, make in rows.items():
        cold, warm = [], []
        for _ in range(config.repeats):
            drop_cache(files)
            cold.append(measure(make()))
            warm.append(measure(make()))
        cold_speed, cold_cpu, disk = np.median(cold, axis=0)
        warm_speed, warm_cpu, _ = np.median(warm, axis=0)
        print(
            f"| {name} | {cold_speed:.0f} | {warm_speed:.0f} | {cold_cpu:.1f} | {warm_cpu:.1f} | {disk:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
