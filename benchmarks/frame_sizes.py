"""What preprocessing costs a frame by the size of the frames: the table "Large frames" of docs/scaling.md.

    python benchmarks/frame_sizes.py --video FILE [--lines 288 720 1080 2160]

FILE is made larger or smaller (bicubic) and encoded again (H.264), so the face fills the same share of each. CPU time
of one thread, without Ray and shards, and what decoding alone takes of it.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import tyro
from preprocess import cpu_ms, prepare_whole

from syncdiff_data.media import AudioTrack, Video, write_video
from syncdiff_data.media.soundtrack import sound_start


@dataclass(frozen=True)
class Options:
    video: Path
    """With one face in it."""
    lines: tuple[int, ...] = (288, 720, 1080, 2160)
    frames: int = 75


def write_resized(source: Path, target: Path, lines: int, most: int) -> None:
    """The first `most` frames at so many lines, with their sound."""
    frames = [frame for _, frame in zip(range(most), Video(source).frames())]
    height, width = frames[0].shape[:2]
    size = (2 * round(width * lines / height / 2), lines)
    sound = AudioTrack(source).slice(float(sound_start(source)), len(frames))
    write_video(target, [cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in frames], sound)


def decode(path: Path) -> None:
    for _ in Video(path).frames():
        pass


def main(options: Options) -> None:
    """Print a row a size: the least of three runs."""
    cv2.setNumThreads(1)
    prepare_whole(options.video)  # loads the networks
    print("| lines | CPU ms a frame | of it decoding | frames a second and core |")
    print("| ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for lines in options.lines:
            path = Path(folder) / f"{lines}.mp4"
            write_resized(options.video, path, lines, options.frames)
            whole, decoding = (min(cpu_ms(work, path) for _ in range(3)) for work in (prepare_whole, decode))
            print(f"| {lines} | {whole:.1f} | {decoding:.1f} | {1000 / whole:.0f} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
