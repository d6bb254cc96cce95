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
    *[(181, 104), (180, 112), (172, 117), (175, 130), (178, 134), (179, 148), (185, 151), (187, 180)],
    *[(226, 190), (254, 187), (258, 172), (268, 150), (272, 138), (277, 131), (272, 120), (271, 108)],
    *[(268, 93), (243, 80), (198, 73), (186, 73)],
]
"""Outline of face, ears and neck. What is above and beside it inside PERSON is hair, what is below is suit."""

MOUTH_X, MOUTH_HALF = 223.0, 20.0
"""Centre and half width of the mouth in the photograph, between the corners."""
LIP_X = [203, 206, 209, 214, 219, 224, 229, 234, 239, 241, 243]
UPPER_LIP_Y = [139.0, 140.2, 140.9, 141.8, 142.6, 142.8, 142.6, 141.8, 140.6, 140.4, 140.4]
LOWER_LIP_Y = [139.2, 143.8, 146.6, 148.9, 149.7, 149.9, 149.6, 147.8, 144.8, 143.0, 140.6]
"""Inner edges of the smiling lips in the photograph; the teeth lie between them."""
TILT = 0.0375
"""Slope of the line between the corners."""
REACH, FOLD = 44.0, 31.0
"""Distance from MOUTH_X at which the cheeks stand still, and that at which they are not squeezed sideways."""
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
        return picture[top : top + self.height * DETAIL, left : left + self.width * DETAIL]

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


MOUTH = Patch(176, 123, 94, 89)
THROAT = Patch(202, 139, 42, 22)
LIDS = Patch(188, 86, 78, 26)


@dataclass(frozen=True)
class Look:
    """What one person and their room look like.

    zoom: output pixels per photograph pixel at size 256; stretch: width of the face relative to its height;
    hair, skin: gains of R, G, B; suit_hue: added hue in OpenCV's 0-179; light: how much brighter the
    photograph's left side becomes and how much darker its right, as a fraction; contrast: about mid gray;
    backdrop: two RGB colours.
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
    """A look's working pictures, DETAIL pixels per photograph pixel.

    person: uint8 RGB; alpha: float32, 1 where the person is; throat: float32 RGB, the THROAT patch with
    everything but the upper teeth gone dark.
    """

    person: np.ndarray
    alpha: np.ndarray
    throat: np.ndarray


def render(
    look: Look, mouth: np.ndarray, blink: np.ndarray, motion: np.ndarray, size: int = 256
) -> np.ndarray:
    """Frames of a talking head, uint8 RGB [T, size, size, 3].

    mouth: [T, 2], opening and width in [0, 1]; blink: [T], 0 open to 1 shut; motion: [T, 4], shift right and
    down in output pixels at size 256, turn in degrees, growth (0 leaves the size alone).
    """
    portrait = _portrait(look)
    backdrop = _backdrop(look, size)
    person = portrait.person.copy()
    frames = np.empty((len(mouth), size, size, 3), np.uint8)
    for t, (opening, width) in enumerate(mouth):
        LIDS.of(person)[:] = _lids(portrait, float(blink[t]))
        MOUTH.of(person)[:] = _skin(portrait, float(opening), float(width))
        THROAT.of(person)[:] = _opened(THROAT.of(person), portrait.throat, float(opening), float(width))
        place = _placement(look, motion[t], size)
        head = cv2.warpAffine(person, place, (size, size), flags=cv2.INTER_LINEAR)
        alpha = cv2.warpAffine(portrait.alpha, place, (size, size), flags=cv2.INTER_LINEAR)
        frames[t] = cv2.blendLinear(head, backdrop, alpha, 1 - alpha)
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
    grow = np.array([[DETAIL, 0, 0], [0, DETAIL, 0]], np.float64)
    bounds = (photo.shape[1] * DETAIL, photo.shape[0] * DETAIL)
    person = cv2.warpAffine(photo, grow, bounds, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(_inside(PERSON, photo.shape[:2], blur=1.0), grow, bounds)
    return _Portrait(person, alpha, _throat(person))


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
    """A soft, mottled wall between the look's two colours, uint8 RGB [size, size, 3]."""
    rng = np.random.default_rng(sum(look.backdrop[0]) * 1000 + sum(look.backdrop[1]))
    coarse = rng.random((5, 5)).astype(np.float32)
    blend = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)[..., None]
    first, second = (np.array(colour, np.float32) for colour in look.backdrop)
    return np.clip(first + (second - first) * blend, 0, 255).astype(np.uint8)


def _throat(person: np.ndarray) -> np.ndarray:
    x, y = THROAT.grid()
    upper, lower = np.interp(x, LIP_X, UPPER_LIP_Y), np.interp(x, LIP_X, LOWER_LIP_Y)
    teeth = (y > upper + 0.8) & (y < lower - 0.8) & (np.abs(x - MOUTH_X) < 15)
    soft = cv2.GaussianBlur(teeth.astype(np.float32), (0, 0), 0.4 * DETAIL)[..., None]
    return DARK + (THROAT.of(person) - DARK) * soft


def _ease(value: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


class _Lips(NamedTuple):
    """Where the inner edges of the lips shall be.

    half: half the distance of the corners; the rest over x, float32 [1, W]: the place between the corners, -1 to 1,
    and the heights of the seam of a shut mouth, of the upper and of the lower lip.
    """

    half: float
    along: np.ndarray
    seam: np.ndarray
    upper: np.ndarray
    lower: np.ndarray


def _lips(x: np.ndarray, opening: float, width: float) -> _Lips:
    half = 10.5 + 8.5 * width
    gap = 12.5 * opening
    along = np.clip((x - MOUTH_X) / half, -1, 1)
    arch = 1 - along**2
    seam = 144.0 + TILT * half * along + 0.6 * arch
    # A spread mouth is pointed at its corners, a round one is not.
    swell = arch ** (0.5 + 0.4 * width)
    return _Lips(half, along, seam, seam - 0.2 * gap * swell, seam + 0.8 * gap * swell)


def _skin(portrait: _Portrait, opening: float, width: float) -> np.ndarray:
    """The mouth patch with lips, cheeks and chin moved, uint8 RGB; between the lips it is left undefined."""
    x, y = MOUTH.grid()
    lips = _lips(x, opening, width)
    distance = np.abs(x - MOUTH_X)

    # How far the lips lie from where the photograph has them; beyond the corners that fades away.
    there = MOUTH_X + lips.along * MOUTH_HALF
    fade = _ease((REACH - distance) / (REACH - lips.half))
    upper_shift = (lips.upper - np.interp(there, LIP_X, UPPER_LIP_Y).astype(np.float32)) * fade
    lower_shift = (lips.lower - np.interp(there, LIP_X, LOWER_LIP_Y).astype(np.float32)) * fade

    # The upper lip moves against the nose, the lower one with the jaw, which does not move quite as far.
    up = upper_shift * _ease((y - 131) / 7)
    jaw = (7.5 * opening - 1.0) * _ease((REACH - distance) / 26) * _ease((208 - y) / 30)
    near = _ease((20 - (y - lips.lower)) / 15)
    below = y > (lips.upper + lips.lower) / 2
    down = np.where(below, jaw + (lower_shift - jaw) * near, up)

    # A rounded mouth pushes its lips forward, so that more of them shows.
    beyond = y - np.where(below, lips.lower, lips.upper)
    down += max(0.0, 0.4 - 0.8 * width) * (1 - lips.along**2) * beyond * np.exp(-((beyond / 5) ** 2))

    squeeze = np.interp(distance, [0, lips.half, FOLD, 99], [0, MOUTH_HALF, FOLD, 99]) - distance
    sideways = squeeze * np.sign(x - MOUTH_X) * _ease((y - 124) / 14) * _ease((178 - y) / 24)
    return MOUTH.warped(portrait.person, x + sideways, y - down)


def _opened(skin: np.ndarray, throat: np.ndarray, opening: float, width: float) -> np.ndarray:
    """The throat patch with what shows between the lips, float32 RGB.

    That is teeth, which stay with the skull, the tongue and the dark; between shut lips only a crease.
    """
    x, y = THROAT.grid()
    lips = _lips(x, opening, width)
    light = _ease((y - lips.upper + 1.0) / 3.5) * (0.12 + 0.88 * min(1.0, 1.7 * width))
    floor, gap = lips.lower.max(), 12.5 * opening
    tongue = np.exp(-(((x - MOUTH_X) / 9) ** 2) - ((y - floor + 1) / 3.2) ** 2) * np.clip(
        (gap - 4) / 6, 0, 0.8
    )
    inner = DARK + (throat - DARK) * light[..., None]
    inner += (TONGUE - inner) * tongue[..., None]

    between = np.abs(x - MOUTH_X) < lips.half
    crease = 0.45 * np.exp(-(((y - lips.seam) / 0.8) ** 2)) * between * max(0.0, 1 - 4 * opening)
    inside = np.clip((y - lips.upper) * DETAIL + 0.5, 0, 1) * np.clip((lips.lower - y) * DETAIL + 0.5, 0, 1)
    shown = skin * (1 - crease)[..., None]
    return shown + (inner - shown) * (inside * between)[..., None]


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
