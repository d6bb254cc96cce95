"""Which phones are spoken when, by PocketSphinx and the English models inside its wheel.

Where the words are known they are aligned with the sound; elsewhere they are recognised first. Recognised words are
partly wrong, but what sounds alike has like phones. PocketSphinx's phone loop, which needs no words, found too few of
the /p b m/ of running speech for closure to tell real from foreign sound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from syncdiff_data.records import SAMPLE_RATE

BEAMS: tuple[dict[str, float], ...] = ({}, {"beam": 1e-100, "wbeam": 1e-80, "pbeam": 1e-100})
"""Of the alignment: PocketSphinx's own, then wider ones for sound whose right path the first ones prune."""
FRAMES_PER_SECOND = 100
LONGEST_S = 30.0
"""Longer sound is recognised in equal parts, so that a long file shows a heartbeat."""
SHORTEST_S = 0.1
"""Of sound in which anything can be found."""


@dataclass(frozen=True)
class Phone:
    """One phone of CMUdict (39 without stress; SIL and noises in capitals too), in seconds since the first sample."""

    label: str
    start_s: float
    end_s: float


class PhoneRecognizer:
    """Loads its models at first use: 0.5 s and 100 MB with the language model. What it finds does not depend on what it
    heard before."""

    def __init__(self) -> None:
        self._decoders: dict[str, Any] = {}

    def phones(
        self, audio: np.ndarray, transcript: str | None = None, heartbeat: Callable[[], None] = lambda: None
    ) -> list[Phone]:
        """Phones of int16 [N] at 16 kHz mono, in order; none where nothing is understood.

        transcript: the words that are spoken, in English. Where they do not fit the sound, or one is not in the
        dictionary, words are recognised instead. heartbeat: called after every part of the work.
        """
        if len(audio) < SHORTEST_S * SAMPLE_RATE:
            return []
        words = re.findall(r"[a-z']+", (transcript or "").lower())
        for beams in BEAMS if words else ():
            aligned = self._aligned(audio, words, beams)
            heartbeat()
            if aligned:
                return aligned
        return self._recognized(audio, heartbeat)

    def _aligned(self, audio: np.ndarray, words: Sequence[str], beams: dict[str, float]) -> list[Phone]:
        """Phones of these words; none where they cannot be aligned."""
        name = f"align {beams}"
        decoder = self._decoder(name, lm=None, **beams)
        try:
            decoder.set_align_text(" ".join(words))
            return _two_passes(decoder, audio)
        except RuntimeError:  # an unknown word, or no path to the end
            del self._decoders[name]
            return []

    def _recognized(self, audio: np.ndarray, heartbeat: Callable[[], None]) -> list[Phone]:
        """Phones of the words that are recognised."""
        found: list[Phone] = []
        parts = np.array_split(audio, max(1, int(np.ceil(len(audio) / SAMPLE_RATE / LONGEST_S))))
        start_s = 0.0
        for part in parts:
            decoder = self._decoder("recognize")
            try:
                decoder.activate_search("_default")
                phones = _two_passes(decoder, part)
            except RuntimeError:  # words whose phones are not found in the sound
                del self._decoders["recognize"]
                phones = []
            found += [Phone(p.label, p.start_s + start_s, p.end_s + start_s) for p in phones]
            start_s += len(part) / SAMPLE_RATE
            heartbeat()
        return found

    def _decoder(self, name: str, **settings: Any) -> Any:
        from pocketsphinx import Decoder

        if name not in self._decoders:
            # The best path through the lattice moves words to where the second pass cannot follow.
            self._decoders[name] = Decoder(bestpath=False, loglevel="FATAL", **settings)
        return self._decoders[name]


def _two_passes(decoder: Any, audio: np.ndarray) -> list[Phone]:
    """The decoder's search for words, then their phones. RuntimeError where the second pass fails."""
    _pass(decoder, audio)
    if decoder.hyp() is None:
        return []
    decoder.set_alignment()
    _pass(decoder, audio)
    return [
        Phone(
            phone.name,
            phone.start / FRAMES_PER_SECOND,
            (phone.start + phone.duration) / FRAMES_PER_SECOND,
        )
        for word in decoder.get_alignment()
        for phone in word
    ]


def _pass(decoder: Any, audio: np.ndarray) -> None:
    # As a whole utterance, with fresh features: neither normalisation nor noise removal knows what was heard before.
    decoder.reinit_feat()
    decoder.start_utt()
    decoder.process_raw(audio.tobytes(), full_utt=True)
    decoder.end_utt()
