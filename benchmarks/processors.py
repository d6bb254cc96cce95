"""Which products are the same on another processor? Switches of the libraries stand in for one with fewer instructions.

    python benchmarks/processors.py [--clips 6] [--grid DIR --limit N]

Talkers, clips and features are made once as this processor does it and once with OpenCV, torch and oneDNN held to SSE
(x264 needs no switch: its code is the same everywhere, see docs/reliability.md), each in processes of their own. Prints
for every product the share of equal files or cells and the largest difference.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from syncdiff_data.shards import read_clips, read_features

ROOT = Path(__file__).resolve().parent.parent
SWITCHES = {
    "OPENCV_CPU_DISABLE": "AVX,FP16,FMA3,AVX2,AVX_VNNI,AVX512F,AVX512-COMMON,AVX512-SKX,AVX512-CLX,AVX512-ICL",
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Nehalem",
    "JSIMD_FORCESSE2": "1",
}
TALKERS = "import sys; from syncdiff_data.demo import make_talkers; from pathlib import Path; "
MAKE = TALKERS + "make_talkers(Path(sys.argv[1]), num_clips=int(sys.argv[2]), seconds=1.0)"


@dataclass(frozen=True)
class Options:
    clips: int = 6
    grid: Path | None = None
    """A GRID speaker's folder, for real faces too."""
    limit: int = 20
    """Clips of it."""


def run(line: list[str | Path], extra: dict[str, str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **extra}
    subprocess.run([sys.executable, *map(str, line)], env=environment, check=True, stdout=subprocess.DEVNULL)


def make(here: Path, options: Options, extra: dict[str, str], videos: Path | None) -> None:
    """Talkers, their clips and features below `here`; clips are made of `videos` where given, so that each product is
    compared by itself."""
    run(["-c", MAKE, here / "videos", str(options.clips)], extra)
    sources = {"talkers": ["--source", "folder", "--root", (videos or here / "videos") / "talkers.csv"]}
    if options.grid is not None:
        sources["grid"] = ["--source", "grid", "--root", options.grid, "--limit", str(options.limit)]
    for name, source in sources.items():
        run([ROOT / "pipelines/preprocess.py", *source, "--out", here / name], extra)
        for encoder in ("logfbank", "mel"):
            features = here / f"{name}-{encoder}"
            run([ROOT / "pipelines/extract_features.py", "--clips", here / name, "--encoder", encoder,
                 "--out", features], extra)  # fmt: skip


def show(product: str, equal: list[bool], difference: float | None, unit: str = "") -> None:
    largest = "" if difference is None else f"{difference:.3g} {unit}"
    print(f"| {product} | {sum(equal)} of {len(equal)} | {largest} |", flush=True)


def compare(one: Path, two: Path, name: str) -> None:
    """The clips and features of one data set."""
    pairs = list(zip(read_clips(one / name), read_clips(two / name), strict=True))
    for column, unit in (("landmarks", "pixels"), ("box", "pixels"), ("face", "levels"), ("mouth", "levels")):
        values = [(getattr(a, column).astype(float), getattr(b, column).astype(float)) for a, b in pairs]
        equal = [np.array_equal(a, b) for a, b in values]
        show(f"{name}: {column}", equal, max(float(np.abs(a - b).max()) for a, b in values), unit)
    show(f"{name}: audio", [np.array_equal(a.audio, b.audio) for a, b in pairs], None)
    for encoder in ("logfbank", "mel"):
        features = zip(read_features(one / f"{name}-{encoder}"), read_features(two / f"{name}-{encoder}"))
        values = [(a[1][encoder].astype(float), b[1][encoder].astype(float)) for a, b in features]
        largest = max(float(np.abs(a - b).max()) for a, b in values)
        show(f"{name}: {encoder}", [np.array_equal(a, b) for a, b in values], largest)


def main(options: Options) -> None:
    """Make everything twice and compare."""
    with tempfile.TemporaryDirectory() as name:
        one, two = Path(name) / "here", Path(name) / "switched"
        make(one, options, {}, None)
        make(two, options, SWITCHES, one / "videos")
        print(f"{platform.processor() or platform.machine()}, against {SWITCHES}\n")
        print("| product | equal | largest difference |\n| --- | ---: | ---: |")
        talkers = sorted((one / "videos").rglob("*.mp4"))
        same = [
            p.read_bytes() == (two / "videos" / p.relative_to(one / "videos")).read_bytes() for p in talkers
        ]
        show("generated talkers (mp4)", same, None)
        for data_set in ("talkers", *(["grid"] if options.grid else [])):
            compare(one, two, data_set)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
