"""What is to be scored: one task per method and clip, made from the pairing alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from syncdiff_data.reasons import Reason
from syncdiff_data.records import UserError
from syncdiff_eval.cache import key_of
from syncdiff_eval.methods import Baseline, Method
from syncdiff_eval.metrics.base import MetricFamily
from syncdiff_eval.outputs import find_outputs
from syncdiff_eval.pairing import Pair, Pairing, is_crossed
from syncdiff_eval.protocols import ProtocolDefinition
from syncdiff_eval.reencode import ENCODER
from syncdiff_eval.scoring import ScoringError, strategy_of

SCORING_VERSION = 5
"""Bumped by hand whenever pairing, regions or decoding could change a number; part of every cache key."""


@dataclass(frozen=True)
class ScoringConfig:
    """All that a worker needs. Paths are absolute."""

    reference: Path
    pairing: Pairing
    methods: tuple[Method, ...]
    protocol: ProtocolDefinition
    families: Mapping[str, MetricFamily]
    """Those that run: their weights are there."""
    weights: Mapping[str, Path]
    weight_hashes: Mapping[str, str]
    libraries: Mapping[str, str]
    """Versions of those that decide numbers."""
    face_config: Any
    """syncdiff_data.faces.FaceConfig"""
    cache: Path
    """Folder of finished work; other benchmarks may use it at the same time."""
    device: str = "cpu"
    clip_timeout: float = 0
    """Seconds without a heartbeat after which a clip's worker is ended; 0: never."""

    def without_pairs(self) -> ScoringConfig:
        """What every worker gets: the pairs come one by one, in the plans."""
        return replace(self, pairing=Pairing(self.pairing.setting, ()))

    @property
    def crossed(self) -> bool:
        return self.pairing.setting == "crossed-audio"

    def fingerprint(self) -> dict[str, object]:
        """What every number of this benchmark depends on, but for the files."""
        return {**self._clip_facts(), "families": self.family_fingerprints()}

    def family_fingerprints(self) -> dict[str, str]:
        """Family -> hash of what its numbers depend on beside the clip: version, columns and weights."""
        return {
            name: key_of(
                name=name,
                version=family.version,
                columns=[column.name for column in family.columns],
                weights={weight: self.weight_hashes.get(weight) for weight in family.weights},
                content=family.content_hash,
            )[:16]
            for name, family in self.families.items()
        }

    def _clip_facts(self) -> dict[str, object]:
        """What pairing, regions and decoding depend on."""
        return {
            "scoring": SCORING_VERSION,
            "protocol": self.protocol.fingerprint(),
            "faces": asdict(self.face_config),
            **self._environment(),
        }

    def _environment(self) -> dict[str, object]:
        """What may change the last digits of every number."""
        return {"libraries": dict(self.libraries), "device": self.device}

    def reference_key(self, sha256: str) -> str:
        """Of the regions of one reference: they do not depend on the metrics and their weights."""
        return key_of(kind="reference", file=sha256, **self._clip_facts())

    def takes_driving_audio(self, task: Task) -> bool:
        """Whether a task's numbers depend on the driving audio."""
        brings_audio = strategy_of(self.protocol).outputs_bring_audio
        return not brings_audio or (task.is_baseline and not task.reencoded)

    def clip_key(
        self, task: Task, reference: str, output: str | None, audio: str | None, transcript: str | None = None
    ) -> str:
        """Of one clip's record: reference, output and audio are sha256 of the files' content, None where none is
        needed. The record holds the scores of each family under the family's own fingerprint."""
        return key_of(
            kind="clip",
            reference=reference,
            output=output,
            baseline=asdict(task.baseline),
            encoder=task.encoder,
            audio=audio,
            transcript=transcript,
            crossed=task.crossed,
            **self._clip_facts(),
        )

    def frames_facts(
        self, reference: str, output: str | None, frozen: bool, encoder: str | None
    ) -> dict[str, object]:
        """Which frames are shown, whatever the sound and the metrics: sha256 of the reference and of the
        output. A file scored alone is the same under every protocol."""
        shown = {
            "scoring": SCORING_VERSION,
            "file": output or reference,
            "frozen": frozen,
            "encoder": encoder,
            **self._environment(),
        }
        if not strategy_of(self.protocol).frames_depend_on_reference:
            return shown
        return shown | {"reference": reference, **self._clip_facts()}


@dataclass(frozen=True)
class Task:
    """One row of per_clip.parquet to be, or the same file encoded once more.

    source: of its pair. video, audio: paths below the reference folder. outputs: the method's files that may be this
    clip's; none for a baseline. rivals: other clips whose output they may be.
    """

    method: str
    clip: str
    source: str
    video: str
    audio: str
    crossed: bool
    baseline: Baseline
    is_baseline: bool
    outputs: tuple[Path, ...]
    rivals: tuple[str, ...] = ()
    reencoded: bool = False

    @property
    def has_file(self) -> bool:
        """Whether what is scored lies on the disk as it is: a method's output, or real video with its own sound."""
        return not self.is_baseline or self.baseline == Baseline()

    @property
    def encoder(self) -> str | None:
        """What the file is encoded with once more before it is scored."""
        return ENCODER if self.reencoded else None

    def output(self) -> Path | None:
        """The one file to score, None for a baseline. Raises ScoringError where there is none, or several."""
        if self.is_baseline:
            return None
        if not self.outputs:
            raise ScoringError(
                Reason.MISSING_OUTPUT,
                f"the method's folder has no file {self.clip} with a media suffix, nor one of another name it may have",
            )
        names = ", ".join(path.name for path in self.outputs)
        if len(self.outputs) > 1:
            raise ScoringError(Reason.AMBIGUOUS_OUTPUT, f"several files for one clip: {names}")
        if self.rivals:
            others = ", ".join(self.rivals)
            raise ScoringError(
                Reason.AMBIGUOUS_OUTPUT, f"one file for several clips: {names} may be of {others} too"
            )
        return self.outputs[0]


def list_tasks(methods: Sequence[Method], pairing: Pairing) -> list[Task]:
    """Every method's every clip, in order of method, then clip."""
    return [task for method in methods for task in _tasks_of(method, pairing)]


def unmatched_outputs(method: Method, pairing: Pairing) -> int:
    """Media files of a method that are no pair's output."""
    return len(find_outputs(method, pairing).unmatched)


def _tasks_of(method: Method, pairing: Pairing) -> list[Task]:
    outputs = find_outputs(method, pairing)
    own_audio = _own_audio(pairing)
    others = _next_videos(pairing)
    tasks = []
    for pair in pairing.pairs:
        baseline = method.baseline or Baseline()
        audio = _audio_of(pair, method.baseline, own_audio, others)
        tasks.append(
            Task(
                method=method.name,
                clip=pair.clip,
                source=pair.source,
                video=pair.video,
                audio=audio,
                crossed=is_crossed(pair.video, audio),
                baseline=baseline,
                is_baseline=method.baseline is not None,
                outputs=tuple(method.folder / name for name in outputs.files[pair.clip])
                if method.folder
                else (),
                rivals=outputs.rivals[pair.clip],
            )
        )
    return tasks


def _own_audio(pairing: Pairing) -> dict[str, str]:
    """Of every video its own sound: the sound file that a pair names for it, else the video itself."""
    named = {pair.video: pair.audio for pair in pairing.pairs if not is_crossed(pair.video, pair.audio)}
    return {pair.video: named.get(pair.video, pair.video) for pair in pairing.pairs}


def _audio_of(
    pair: Pair, baseline: Baseline | None, own_audio: Mapping[str, str], others: Mapping[str, str]
) -> str:
    """The pair's sound for methods and the frozen frame; for real video its own, or another's on purpose."""
    if baseline is None or baseline.frozen:
        return pair.audio
    if not baseline.other_audio:
        return own_audio[pair.video]
    if len(others) < 2:
        raise UserError("--other-audio needs two videos or more: there is no other one to take the sound of.")
    return own_audio[others[pair.video]]


def _next_videos(pairing: Pairing) -> dict[str, str]:
    """Of every video the next one in the order of pairs. A list may use one video several times, so the next pair
    need not be of another."""
    videos = list(dict.fromkeys(pair.video for pair in pairing.pairs))
    return dict(zip(videos, [*videos[1:], videos[0]]))
