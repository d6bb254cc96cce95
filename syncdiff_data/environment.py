"""What, beside the recipe, decides the bytes of a run: versions of libraries, processor, device."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("numpy", "scipy", "torch", "av", "opencv-python", "pyarrow", "soundfile", "dlib-bin", "ray")
"""Those that decide bytes and numbers."""


@cache
def libraries() -> dict[str, str]:
    """Versions of Python and of LIBRARIES here; `none` where one is not installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def environment(device: str = "cpu") -> dict[str, str]:
    """Of this process, for the metadata of what it writes. No host names: equal machines have equal ones."""
    return {**libraries(), "machine": platform.machine(), "device": device}
