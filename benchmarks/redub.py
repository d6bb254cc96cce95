"""What writing costs the picture: grey levels between a source's frames and the same frames written unchanged.

    python benchmarks/redub.py FILE [FILE ...]

Per file: the mean of the fast conversion to RGB less the exact one (first frame); of the frames written less
those given (every 20th) the mean and the mean absolute difference; the new file's size over the source's.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from syncdiff_data.media import Video, write_redub
from syncdiff_data.media.decode import EXACT_ROUNDING, FAST_ROUNDING, decode_video, rgb_of

GREY = np.array([0.299, 0.587, 0.114])
STEP = 20


def measure(path: Path, dub: Path) -> str:
    first = next(decode_video(path))
    fast = (rgb_of(first, rounding=FAST_ROUNDING).astype(int) - rgb_of(first, rounding=EXACT_ROUNDING)) @ GREY
    source = Video(path, fps=None)
    write_redub(dub, source.frames(), source, None)
    errors = [
        (after.astype(int) - before) @ GREY
        for index, (before, after) in enumerate(zip(source.frames(), Video(dub, fps=None).frames()))
        if index % STEP == 0
    ]
    mean, absolute = np.mean(errors), np.mean(np.abs(errors))
    size = dub.stat().st_size / path.stat().st_size
    return f"{path.name:32} fast {fast.mean():+.2f}  written {mean:+.3f}  absolute {absolute:.2f}  size {size:.2f}"


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:]:
            print(measure(Path(name), Path(folder) / "dub.mp4"))
