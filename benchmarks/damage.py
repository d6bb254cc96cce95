"""Damaged files among good ones: are all accounted for, the good ones kept, and memory bounded?

    python benchmarks/damage.py [--damaged 300] [--good 20] [--seed 0]

Makes generated talkers, damages copies of them at random (bytes changed, zeroed, taken out, doubled; cut ends; damaged
headers; mp4, mkv, avi, ts), preprocesses all, compares the good ones' clips with those of a run without the damaged.
Exit status 1 where a file is missing from clips and rejects, or a good clip differs.
"""

from __future__ import annotations

import collections
import hashlib
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import psutil
import pyarrow.parquet as pq
import tyro
from damages import ANY_BYTES

from syncdiff_data.demo import talker_clip
from syncdiff_data.media import write_video
from syncdiff_data.shards import read_clips, read_rejects

PREPROCESS = Path(__file__).resolve().parent.parent / "pipelines" / "preprocess.py"
CONTAINERS = (".mp4", ".mkv", ".avi", ".ts")


@dataclass(frozen=True)
class Options:
    damaged: int = 300
    good: int = 20
    seed: int = 0
    workers: int = 2


def make_good(folder: Path, count: int) -> list[Path]:
    """Talkers of a second, some long enough for several key frames, in four containers by remuxing."""
    folder.mkdir()
    made = []
    for number in range(count):
        suffix = CONTAINERS[number % len(CONTAINERS)]
        frames, audio, _ = talker_clip(number, num_frames=25 + 5 * (number % 4))
        source = folder / "source.mp4"
        write_video(source, frames, audio)
        made.append(folder / f"good_{number:02}{suffix}")
        if suffix == ".mp4":
            source.rename(made[-1])
        elif suffix == ".avi":
            write_avi(made[-1], frames, audio)
            source.unlink()
        else:
            remux(source, made[-1])
            source.unlink()
    return made


def write_avi(path: Path, frames: list[np.ndarray], audio: np.ndarray) -> None:
    """MPEG-4 part 2 and PCM, as old AVI files hold."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25, options={"qscale": "2"})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for picture in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(audio[None], format="s16", layout="mono")
        samples.sample_rate = 16_000
        container.mux(sound.encode(samples))
        container.mux(sound.encode(None))


def remux(source: Path, target: Path) -> None:
    """The same packets in another container."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)


def make_damaged(folder: Path, good: list[Path], count: int, seed: int) -> None:
    """Damaged copies, one to three kinds of damage each."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        original = good[int(rng.integers(len(good)))]
        data = bytearray(original.read_bytes())
        for which in rng.integers(len(ANY_BYTES), size=int(rng.integers(1, 4))):
            data = ANY_BYTES[which](data, rng) if data else data
        (folder / f"damaged_{number:03}{original.suffix}").write_bytes(data)


class PeakMemory:
    """The largest resident memory of any one process of a tree, sampled ten times a second."""

    def __init__(self, pid: int):
        self.gib, self._pid, self._stop = 0.0, pid, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            try:
                processes = psutil.Process(self._pid).children(recursive=True)
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    if process.cmdline() and process.cmdline()[0].startswith("ray::"):
                        self.gib = max(self.gib, process.memory_info().rss / 2**30)
                except psutil.Error:
                    continue  # It ended meanwhile.

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self.gib


def preprocess(root: Path, out: Path, workers: int) -> tuple[int, float, float]:
    """Exit status, seconds, and GiB of the largest worker."""
    line = [sys.executable, str(PREPROCESS), "--source", "folder", "--root", str(root), "--out", str(out)]
    line += ["--workers", str(workers), "--name", "damage", "--crop-size", "96"]
    started = time.monotonic()
    run = subprocess.Popen(line)
    memory = PeakMemory(run.pid)
    status = run.wait()
    return status, time.monotonic() - started, memory.stop()


def good_clips(out: Path) -> dict[str, str]:
    """Clip id -> hash of its row, of the good files."""
    found = {}
    for shard in sorted((out / "clips").glob("*.parquet")):
        for row in pq.read_table(shard).to_pylist():
            if row["source"].startswith("good_"):
                found[row["clip_id"]] = hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest()
    return found


def main(options: Options) -> None:
    """Make, damage, run twice, compare."""
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        good = make_good(here / "alone", options.good)
        mixed = here / "mixed"
        mixed.mkdir()
        for path in good:
            (mixed / path.name).write_bytes(path.read_bytes())
        make_damaged(mixed, good, options.damaged, options.seed)
        alone_status, _, alone_memory = preprocess(here / "alone", here / "alone_out", options.workers)
        status, seconds, memory = preprocess(mixed, here / "mixed_out", options.workers)
        names = {path.name for path in mixed.iterdir()}
        clips = {clip.source for clip in read_clips(here / "mixed_out")}
        rejects = read_rejects(here / "mixed_out")
        lost = names - clips - {reject.source for reject in rejects}
        same = good_clips(here / "alone_out") == good_clips(here / "mixed_out")
        by_reason = collections.Counter(str(reject.reason) for reject in rejects)
    print(f"{options.damaged} damaged files (seed {options.seed}) among {options.good} good ones:")
    print(
        f"exit status {status} (the good ones alone: {alone_status}), {seconds:.0f} s with {options.workers} workers"
    )
    print(
        f"{len(clips)} sources with clips, {len(names - clips)} without; rejects by reason: {dict(by_reason)}"
    )
    print(f"not accounted for: {sorted(lost) or 'none'}; clips of the good files the same bytes: {same}")
    print(f"largest worker: {memory:.2f} GiB, with good files alone {alone_memory:.2f} GiB")
    raise SystemExit(bool(lost) or not same or status not in (0, 3))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
