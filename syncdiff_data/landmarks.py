"""The 68 facial landmarks of iBUG 300-W (Sagonas et al. 2013): which index is which."""

from __future__ import annotations

import numpy as np

# In order: jaw, brows, nose bridge, nostrils, eyes, outer lips, inner lips.
MIRROR = np.array(
    [
        *(*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)),
        *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
        *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65),
    ]
)
"""Point i of a mirrored face is point MIRROR[i] of the original."""
