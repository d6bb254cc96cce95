"""Speech-like sound and the mouth that makes it, from one timeline of phonemes.

A source-filter synthesiser in the manner of Klatt (1980, "Software for a cascade/parallel formant
synthesizer"): glottal pulses through a cascade of resonators for what is voiced, filtered noise for what
hisses. Sound and mouth are read off the same tracks, sampled 200 times a second, so they cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import butter, sosfilt

from syncdiff_data.records import SAMPLE_RATE, SAMPLES_PER_FRAME

TICKS_PER_SECOND = 200
TICKS_PER_FRAME = 8
SAMPLES_PER_TICK = 80

COARTICULATION_TICKS = 4.0
"""Standard deviation of the smoothing between phonemes (20 ms): lips and formants glide, they do not jump."""


class Phoneme(NamedTuple):
    """What the mouth and the throat do. None: whatever the neighbours do.

    opening: 0 shut to 1 widest, below 0 pressed shut; width: 0 rounded to 1 spread; formants: F1-F3 in Hz for
    a long vocal tract (vowels after Peterson and Barney, 1952); voice: gain of the glottal source;
    hiss: gain of the noise between `band` Hz; ms: shortest and longest duration.
    """

    opening: float
    width: float | None
    formants: tuple[float, float, float] | None
    voice: float
    hiss: float
    band: tuple[float, float]
    ms: tuple[int, int]


PHONEMES = {
    "a": Phoneme(1.00, 0.50, (730, 1090, 2440), 1.0, 0.0, (0, 0), (130, 230)),
    "e": Phoneme(0.55, 0.75, (530, 1840, 2480), 0.8, 0.0, (0, 0), (120, 210)),
    "i": Phoneme(0.28, 1.00, (270, 2290, 3010), 0.85, 0.0, (0, 0), (120, 200)),
    "o": Phoneme(0.65, 0.15, (570, 840, 2410), 0.75, 0.0, (0, 0), (130, 220)),
    "u": Phoneme(0.25, 0.00, (300, 870, 2240), 0.7, 0.0, (0, 0), (120, 200)),
    "m": Phoneme(-0.25, None, (250, 1000, 2200), 0.12, 0.0, (0, 0), (80, 120)),
    "b": Phoneme(-0.25, None, None, 0.04, 0.0, (0, 0), (80, 110)),
    "p": Phoneme(-0.25, None, None, 0.0, 0.0, (0, 0), (90, 130)),
    "f": Phoneme(0.08, 0.60, None, 0.0, 0.025, (1500, 7000), (90, 140)),
    "s": Phoneme(0.15, 0.80, None, 0.0, 0.06, (4500, 7500), (90, 150)),
    "sh": Phoneme(0.22, 0.10, None, 0.0, 0.06, (2000, 5000), (90, 150)),
    "_": Phoneme(-0.15, 0.50, None, 0.0, 0.0, (0, 0), (120, 320)),
}
VOWELS = "aeiou"
CONSONANTS = ("m", "b", "p", "f", "s", "sh")
PLOSIVES = ("b", "p")


@dataclass(frozen=True)
class Voice:
    """A speaker's sound: mean pitch in Hz, formants relative to the table, durations relative to the table,
    and the share of breath in the glottal source."""

    pitch_hz: float
    tract: float = 1.0
    tempo: float = 1.0
    breath: float = 0.02


class Segment(NamedTuple):
    """One phoneme over the ticks [start, stop)."""

    phoneme: str
    start: int
    stop: int


def babble(num_frames: int, rng: np.random.Generator, voice: Voice) -> list[Segment]:
    """A random timeline of exactly num_frames frames: words of one to three syllables between pauses.

    It begins and ends in a pause where there is room for one.
    """
    total = num_frames * TICKS_PER_FRAME
    timeline: list[Segment] = []

    def say(phoneme: str) -> None:
        start = timeline[-1].stop if timeline else 0
        ms = rng.uniform(*PHONEMES[phoneme].ms) * voice.tempo
        timeline.append(Segment(phoneme, start, start + round(ms * TICKS_PER_SECOND / 1000)))

    say("_")
    while timeline[-1].stop < total:
        for _ in range(rng.integers(1, 4)):
            if rng.random() < 0.85:
                say(CONSONANTS[rng.integers(len(CONSONANTS))])
            say(VOWELS[rng.integers(len(VOWELS))])
        say("_")
    whole = [segment for segment in timeline if segment.stop <= total]
    spoken_until = whole[-1].stop if whole else 0
    if spoken_until < total:
        whole.append(Segment("_", spoken_until, total))
    return whole


def transcript(timeline: list[Segment]) -> str:
    """The words of a timeline, in capitals: `_ m a p u _ sh i _` reads "MAPU SHI"."""
    phonemes = "".join(" " if segment.phoneme == "_" else segment.phoneme for segment in timeline)
    return " ".join(phonemes.split()).upper()


def speak(timeline: list[Segment], rng: np.random.Generator, voice: Voice) -> tuple[np.ndarray, np.ndarray]:
    """Sound and mouth of a timeline of T frames.

    Returns audio, int16 [T * 640], mono at 16 kHz, and mouth, float32 [T, 2]: opening and width in [0, 1],
    each the mean over the 40 ms in which its frame is on the screen, the same in which audio
    [640 t, 640 (t + 1)) sounds.
    """
    opening = np.clip(_glide(_track([PHONEMES[s.phoneme].opening for s in timeline], timeline)), 0, 1)
    width = np.clip(_glide(_track([PHONEMES[s.phoneme].width for s in timeline], timeline)), 0, 1)
    mouth = np.stack([opening, width], axis=1).reshape(-1, TICKS_PER_FRAME, 2).mean(axis=1)

    num_samples = len(opening) * SAMPLES_PER_TICK
    sound = _voiced(timeline, rng, voice) + _hissed(timeline, rng) + _bursts(timeline, rng)
    sound += 2e-4 * rng.standard_normal(num_samples)
    assert num_samples == len(mouth) * SAMPLES_PER_FRAME
    return np.clip(np.round(sound * 32767), -32768, 32767).astype(np.int16), mouth.astype(np.float32)


def _track(values: list[float] | list[float | None], timeline: list[Segment]) -> np.ndarray:
    """One value per segment to one per tick, float64; None is bridged from the neighbours."""
    lengths = [segment.stop - segment.start for segment in timeline]
    ticks = np.repeat(np.array([np.nan if v is None else v for v in values]), lengths)
    known = np.flatnonzero(~np.isnan(ticks))
    return np.interp(np.arange(len(ticks)), known, ticks[known])


def _glide(ticks: np.ndarray) -> np.ndarray:
    return gaussian_filter1d(ticks, COARTICULATION_TICKS, mode="nearest")


def _gain(ticks: np.ndarray) -> np.ndarray:
    """A gain per tick to a gain per sample, with ramps of one tick (5 ms) so that nothing clicks."""
    samples = np.arange(len(ticks) * SAMPLES_PER_TICK)
    return np.interp((samples + 0.5) / SAMPLES_PER_TICK - 0.5, np.arange(len(ticks)), ticks)


def _voiced(timeline: list[Segment], rng: np.random.Generator, voice: Voice) -> np.ndarray:
    """Glottal pulses and breath through three moving formants and a fixed fourth, float64 [samples]."""
    ticks = timeline[-1].stop
    neutral = (500.0, 1500.0, 2500.0)
    tables = [PHONEMES[segment.phoneme].formants or neutral for segment in timeline]
    formants = [_glide(_track([table[k] for table in tables], timeline)) * voice.tract for k in range(3)]
    formants.append(np.full(ticks, 3500.0 * voice.tract))

    # Pitch wanders by a semitone or so and falls a little over the clip.
    wander = gaussian_filter1d(rng.standard_normal(ticks), 20, mode="nearest") * 0.35
    pitch = voice.pitch_hz * (1.05 - 0.1 * np.arange(ticks) / ticks) * (1 + wander)
    source = _glottal_pulses(np.repeat(pitch, SAMPLES_PER_TICK))
    source += voice.breath * rng.standard_normal(len(source))
    source *= _gain(_track([PHONEMES[segment.phoneme].voice for segment in timeline], timeline))

    sound = np.empty_like(source)
    state = np.zeros((4, 2))
    for tick in range(ticks):
        cascade = np.array([_resonator(track[tick], 50 + 0.04 * track[tick]) for track in formants])
        span = slice(tick * SAMPLES_PER_TICK, (tick + 1) * SAMPLES_PER_TICK)
        sound[span], state = sosfilt(cascade, source[span], zi=state)
    return 0.22 * sound


def _glottal_pulses(pitch_hz: np.ndarray) -> np.ndarray:
    """Derivative of Rosenberg's glottal flow (1971): 40 % opening, 16 % closing, then shut."""
    phase = np.cumsum(pitch_hz / SAMPLE_RATE) % 1.0
    rising = 0.5 * (1 - np.cos(np.pi * phase / 0.4))
    falling = np.cos(np.pi / 2 * (phase - 0.4) / 0.16)
    flow = np.where(phase < 0.4, rising, np.where(phase < 0.56, falling, 0.0))
    return np.diff(flow, prepend=flow[:1]) * SAMPLE_RATE / pitch_hz * 0.05


def _resonator(hz: float, bandwidth_hz: float) -> list[float]:
    """Second-order section of one formant with unit gain at 0 Hz (Klatt 1980, equation 1)."""
    c = -np.exp(-2 * np.pi * bandwidth_hz / SAMPLE_RATE)
    b = 2 * np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE) * np.cos(2 * np.pi * hz / SAMPLE_RATE)
    return [1 - b - c, 0.0, 0.0, 1.0, -b, -c]


def _hissed(timeline: list[Segment], rng: np.random.Generator) -> np.ndarray:
    """Fricatives: noise in each one's band, float64 [samples]."""
    num_samples = timeline[-1].stop * SAMPLES_PER_TICK
    sound = np.zeros(num_samples)
    for name in ("f", "s", "sh"):
        gains = [PHONEMES[name].hiss if segment.phoneme == name else 0.0 for segment in timeline]
        band = butter(2, PHONEMES[name].band, "bandpass", fs=SAMPLE_RATE, output="sos")
        noise = sosfilt(band, rng.standard_normal(num_samples))
        sound += noise * _gain(_track(gains, timeline)) * 0.7
    return sound


def _bursts(timeline: list[Segment], rng: np.random.Generator) -> np.ndarray:
    """The puff of noise with which a plosive opens, 15 ms from the end of its closure, float64 [samples]."""
    num_samples = timeline[-1].stop * SAMPLES_PER_TICK
    sound = np.zeros(num_samples)
    for segment in timeline:
        if segment.phoneme in PLOSIVES:
            start = segment.stop * SAMPLES_PER_TICK
            puff = 0.12 * rng.standard_normal(240) * np.exp(-np.arange(240) / 60)
            sound[start : start + 240] += puff[: num_samples - start]
    return sound
