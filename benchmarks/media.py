"""Which decoder, and how: CPU time of reading every frame as RGB, and whether the pixels agree.

    python benchmarks/media.py FILE [FILE ...]

CPU time of the process (all its threads) and not wall time, because a task of the pipeline has one thread.
Each figure is the best of three. "plain PyAV" is the loop most people write: frame.to_ndarray(format="rgb24").
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import decord
import numpy as np

from syncdiff_data.media import Video


def plain_pyav(path: Path) -> Iterator[np.ndarray]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            yield frame.to_ndarray(format="rgb24")


def with_decord(path: Path) -> Iterator[np.ndarray]:
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    for _ in range(len(reader)):
        yield reader.next().asnumpy()


def with_video(path: Path) -> Iterator[np.ndarray]:
    yield from Video(path).frames()


def frames_per_cpu_second(read: Callable[[Path], Iterator[np.ndarray]], path: Path) -> float:
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        count = sum(1 for _ in read(path))
        best = max(best, count / (time.process_time() - start))
    return best


def agreement(path: Path) -> str:
    try:
        other = list(with_decord(path))
    except decord.DECORDError:
        return "fails"
    frames = list(plain_pyav(path))
    if len(frames) != len(other):
        return f"{len(other)} frames for {len(frames)}"
    if frames[0].shape != other[0].shape:
        return "turned"
    worst = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(frames, other))
    return "equal" if worst == 0 else f"differs by up to {worst}"


def main(paths: list[Path]) -> None:
    print("| file | size | plain PyAV | Video | decord | decord's frames |\n|---|---|---|---|---|---|")
    for path in paths:
        video = Video(path)
        speeds = [f"{frames_per_cpu_second(read, path):.0f}" for read in (plain_pyav, with_video)]
        same = agreement(path)
        speeds.append("-" if same == "fails" else f"{frames_per_cpu_second(with_decord, path):.0f}")
        print(f"| {path.name} | {video.width}x{video.height} | {' | '.join(speeds)} | {same} |", flush=True)


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
