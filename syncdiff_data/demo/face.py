"""A portrait that talks: one photograph, its mouth, lids and head moved by curves.

The photograph is scikit-image's `data.astronaut()` (NASA, public domain; the file is inside the wheel). All
constants below are measured on it, in its pixels. Each frame warps a patch around the mouth so that the inner
edges of the lips follow two curves, paints what lies between them, and lays the head over a backdrop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

DETAIL = 2
"""Pixels of the working picture per pixel of the photograph."""

PERSON = [
    *[(237, 17), (205, 22), (157, 58), (154, 68), (156, 98), (158, 104), (171, 116), (175, 128), (183, 132)],
    *[
        (184, 148),
        (153, 152),
        (140, 159),
        (130, 170),
        (121, 189),
        (114, 205),
        (90, 228),
        (76, 236),
        (66, 247),
    ],
    *[
        (58, 260),
        (53, 299),
        (40, 511),
        (360, 511),
        (355, 302),
        (351, 287),
        (346, 283),
        (339, 262),
        (302, 233),
    ],
    *[(298, 219), (288, 203), (275, 189), (255, 173), (256, 163), (263, 149), (265, 137), (274, 133)],
    *[(289, 116), (295, 107), (299, 92), (299, 76), (294, 60), (285, 46), (274, 33), (259, 23), (248, 18)],
]
"""Outline of head and suit."""
SKIN = [
    *[(181, 104), (182, 127), (186, 148), (187, 180), (226, 190), (254, 183), (258, 152), (268, 131)],
    *[(271, 108), (268, 93), (243, 80), (198, 73), (186, 73)],
]
"""Outline of face and neck; what is above and beside it inside PERSON is hair, what is below is suit."""

MOUTH_X, MOUTH_HALF = 223.0, 20.0
"""Centre and half width of the mouth in the photograph, between the corners."""
LIP_X = [203, 206, 209, 214, 219, 224, 229, 234, 239, 241, 243]
UPPER_LIP_Y = [139.0, 140.2, 140.9, 141.8, 142.6, 142.8, 142.6, 141.8, 140.6, 140.4, 140.4]
LOWER_LIP_Y = [139.2, 143.8, 146.6, 148.9, 149.7, 149.9, 149.6, 147.8, 144.8, 143.0, 140.6]
"""Inner edges of the smiling lips in the photograph; the teeth lie between them."""
TILT = 0.0375
"""Slope of the line between the corners."""
REACH = 44.0
"""Distance from MOUTH_X at which the cheeks stand still."""
DARK, TONGUE = np.array([45, 16, 16], np.float32), np.array([140, 66, 66], np.float32)

EYES = ((202.3, 101.5, 9.5), (249.4, 104.0, 10.0))
"""Centre x, height of the corners and half width of either eye."""
FACE_CENTRE = (223.0, 116.0)


class Patch(NamedTuple):
    """A rectangle of the photograph: left, top, width, height."""

    left: int
    top: int
    width: int
    height: int

    def of(self, picture: np.ndarray) -> np.ndarray:
        """The view of a working picture that shows this rectangle."""
        top, left = self.top * DETAIL, self.left * DETAIL
        return picture[top : top + self.height * DETAIL, left : left + self.width * DETAIL, :3]

    def grid(self) -> tuple[np.ndarray, np.ndarray]:
        """Photograph coordinates of its working pixels: x float32 [1, W], y float32 [H, 1]."""
        x = self.left + np.arange(self.width * DETAIL, dtype=np.float32) / DETAIL
        y = self.top + np.arange(self.height * DETAIL, dtype=np.float32) / DETAIL
        return x[None, :], y[:, None]

    def warped(self, picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """This rectangle of a working picture, sampled at photograph coordinates x, y [H, W]."""
        map_x = ((x - self.left) * DETAIL).astype(np.float32)
        map_y = ((y - self.top) * DETAIL).astype(np.float32)
        return cv2.remap(self.of(picture), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


MOUTH = Patch(176, 128, 94, 84)
LIDS = Patch(188, 86, 78, 26)


@dataclass(frozen=True)
class Look:
    """What one person and their room look like.

    zoom: output pixels per photograph pixel at size 256; stretch: width of the face relative to its height;
    hair, skin: gains of R, G, B; suit_hue: added hue in OpenCV's 0-179; light: brightness of the picture's
    left minus its right side, as a fraction; contrast: about mid gray; backdrop: two RGB colours.
    """

    mirror: bool = False
    zoom: float = 1.30
    stretch: float = 1.0
    hair: tuple[float, float, float] = (1.0, 1.0, 1.0)
    skin: tuple[float, float, float] = (1.0, 1.0, 1.0)
    suit_hue: int = 0
    light: float = 0.0
    contrast: float = 1.0
    backdrop: tuple[tuple[int, int, int], tuple[int, int, int]] = ((205, 200, 195), (170, 165, 165))


@dataclass(frozen=True)
class _Portrait:
    """A look's working pictures, DETAIL pixels per photograph pixel: person uint8 RGBA, teeth float32 RGB (the
    mouth patch with everything but teeth gone dark)."""

    person: np.ndarray
    teeth: np.ndarray


def render(
    look: Look, mouth: np.ndarray, blink: np.ndarray, motion: np.ndarray, size: int = 256
) -> np.ndarray:
    """Frames of a talking head, uint8 RGB [T, size, size, 3].

    mouth: [T, 2], opening and width in [0, 1]; blink: [T], 0 open to 1 shut; motion: [T, 4], shift right and
    down in output pixels at size 256, turn in degrees, growth (0 leaves the size alone).
    """
    portrait = _portrait(look)
    backdrop = _backdrop(look, size)
    frames = np.empty((len(mouth), size, size, 3), np.uint8)
    person = portrait.person.copy()
    for t, (opening, width) in enumerate(mouth):
        MOUTH.of(person)[:] = _mouth(portrait, float(opening), float(width))
        LIDS.of(person)[:] = _lids(portrait, float(blink[t]))
        placed = cv2.warpAffine(person, _placement(look, motion[t], size), (size, size), flags=cv2.INTER_AREA)
        alpha = placed[..., 3:].astype(np.float32) / 255
        frames[t] = np.round(backdrop + (placed[..., :3] - backdrop) * alpha)
    return frames


def _placement(look: Look, motion: np.ndarray, size: int) -> np.ndarray:
    """Affine from the working picture to the output, float64 [2, 3]."""
    right, down, degrees, growth = (float(value) for value in motion)
    unit = size / 256
    scale = look.zoom * unit * (1 + growth) / DETAIL
    turn = np.deg2rad(degrees)
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    flip = -1.0 if look.mirror else 1.0
    linear = rotate @ np.diag([flip * scale * look.stretch, scale])
    centre = np.array([size / 2 + right * unit, size * 0.53 + down * unit])
    return np.column_stack([linear, centre - linear @ (np.array(FACE_CENTRE) * DETAIL)])


@lru_cache(maxsize=16)
def _portrait(look: Look) -> _Portrait:
    from skimage.data import astronaut

    photo = _recolour(astronaut(), look)
    alpha = _inside(PERSON, photo.shape[:2], blur=1.0)
    rgba = np.dstack([photo, np.round(alpha * 255).astype(np.uint8)])
    grow = np.array([[DETAIL, 0, 0], [0, DETAIL, 0]], np.float64)
    bounds = (photo.shape[1] * DETAIL, photo.shape[0] * DETAIL)
    person = cv2.warpAffine(rgba, grow, bounds, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return _Portrait(person, _teeth(person))


def _inside(outline: list[tuple[int, int]], shape: tuple[int, int], blur: float) -> np.ndarray:
    """1 inside the outline, 0 outside, soft between, float32 [H, W]."""
    mask = np.zeros(shape, np.float32)
    cv2.fillPoly(mask, [np.array(outline, np.int32)], 1.0)
    return cv2.GaussianBlur(mask, (0, 0), blur)


def _recolour(photo: np.ndarray, look: Look) -> np.ndarray:
    """The photograph with other hair, skin, suit and light, uint8 RGB [H, W, 3]."""
    height, width = photo.shape[:2]
    skin = _inside(SKIN, (height, width), blur=2.5)[..., None]
    head = np.clip((150 - np.arange(height, dtype=np.float32)) / 8, 0, 1)[:, None, None]
    hsv = cv2.cvtColor(photo, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int32) + look.suit_hue) % 180
    suit = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)
    original = photo.astype(np.float32)
    other = head * original * np.array(look.hair, np.float32) + (1 - head) * suit
    coloured = skin * original * np.array(look.skin, np.float32) + (1 - skin) * other
    lit = 1 + look.light * np.clip((FACE_CENTRE[0] - np.arange(width)) / 100, -1, 1)[None, :, None]
    return np.clip((coloured * lit - 128) * look.contrast + 128, 0, 255).astype(np.uint8)


def _backdrop(look: Look, size: int) -> np.ndarray:
    """A soft, mottled wall between the look's two colours, float32 RGB [size, size, 3]."""
    rng = np.random.default_rng(sum(look.backdrop[0]) * 1000 + sum(look.backdrop[1]))
    coarse = rng.random((5, 5)).astype(np.float32)
    blend = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)[..., None]
    first, second = (np.array(colour, np.float32) for colour in look.backdrop)
    return np.clip(first + (second - first) * blend, 0, 255)


def _teeth(person: np.ndarray) -> np.ndarray:
    x, y = MOUTH.grid()
    upper, lower = np.interp(x, LIP_X, UPPER_LIP_Y), np.interp(x, LIP_X, LOWER_LIP_Y)
    between = (y > upper + 0.8) & (y < lower - 0.8) & (np.abs(x - MOUTH_X) < 15)
    soft = cv2.GaussianBlur(between.astype(np.float32), (0, 0), 0.4 * DETAIL)[..., None]
    return DARK + (MOUTH.of(person) - DARK) * soft


def _ease(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


def _mouth(portrait: _Portrait, opening: float, width: float) -> np.ndarray:
    """The mouth patch with the lips elsewhere, float32 RGB [H, W, 3]."""
    x, y = MOUTH.grid()
    half = 11.5 + 7.5 * width
    gap = 12.5 * opening
    distance = np.abs(x - MOUTH_X)
    along = np.clip((x - MOUTH_X) / half, -1, 1)

    # Where the inner edges of the lips shall be. A spread mouth is pointed at its corners, a round one is not.
    arch = 1 - along**2
    seam = 144.0 + TILT * along * half + 0.6 * arch
    swell = arch ** (0.5 + 0.4 * width)
    upper, lower = seam - 0.2 * gap * swell, seam + 0.8 * gap * swell

    # How far they lie from where the photograph has them; beyond the corners that fades away.
    lip_x = MOUTH_X + along * MOUTH_HALF
    fade = _ease((REACH - distance) / (REACH - half))
    upper_shift = (upper - np.interp(lip_x, LIP_X, UPPER_LIP_Y)) * fade * _ease((y - 131) / 7)
    lower_shift = (lower - np.interp(lip_x, LIP_X, LOWER_LIP_Y)) * fade

    # The upper lip moves against the nose, the lower one with the jaw, which does not move quite as far.
    jaw = (0.6 * gap - 1.0) * _ease((REACH - distance) / 26) * _ease((208 - y) / 30)
    lip = _ease((20 - (y - lower)) / 15)
    down = np.where(y < (upper + lower) / 2, upper_shift, jaw + (lower_shift - jaw) * lip)

    squeeze = (np.interp(distance, [0, half, REACH], [0, MOUTH_HALF, REACH]) - distance) * np.sign(
        x - MOUTH_X
    )
    sideways = squeeze * _ease((y - 130) / 7) * _ease((178 - y) / 24)
    skin = MOUTH.warped(portrait.person, x + sideways, y - down).astype(np.float32)

    between = distance < half
    crease = 0.45 * np.exp(-(((y - seam) / 0.8) ** 2)) * between * max(0.0, 1 - 4 * opening)
    inside = between * np.clip((y - upper) * DETAIL + 0.5, 0, 1) * np.clip((lower - y) * DETAIL + 0.5, 0, 1)
    skin *= (1 - crease)[..., None]
    return np.round(skin + (_throat(portrait.teeth, upper, lower, width) - skin) * inside[..., None])


def _throat(teeth: np.ndarray, upper: np.ndarray, lower: np.ndarray, width: float) -> np.ndarray:
    """What shows between the lips: upper teeth that stay with the skull, tongue, dark; [H, W, 3]."""
    x, y = MOUTH.grid()
    light = _ease((y - upper + 1.0) / 3.5) * (0.25 + 0.75 * min(1.0, 1.6 * width))
    picture = DARK + (teeth - DARK) * light[..., None]
    gap, floor = (lower - upper).max(), lower.max()
    tongue = np.exp(-(((x - MOUTH_X) / 9) ** 2) - ((y - floor + 1) / 3.2) ** 2) * np.clip(
        (gap - 4) / 6, 0, 0.8
    )
    return picture + (TONGUE - picture) * tongue[..., None]


def _lids(portrait: _Portrait, blink: float) -> np.ndarray:
    """The patch of the eyes with the upper lids lowered: the skin above each eye stretches over it."""
    x, y = LIDS.grid()
    source_y = np.broadcast_to(y, (y.size, x.size))
    for centre, corner, half in EYES:
        arch = np.clip(1 - ((x - centre) / (half + 1)) ** 2, 0, 1)
        brow, lid, floor = corner - 11.0, corner - 5.5 * arch, corner + 2.5 * arch
        edge = lid + blink * (floor - lid)
        stretched = brow + (y - brow) * (lid - brow) / (edge - brow)
        source_y = np.where((arch > 0) & (y > brow) & (y < edge), stretched, source_y)
    return LIDS.warped(portrait.person, np.broadcast_to(x, source_y.shape), source_y)
