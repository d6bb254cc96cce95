"""The first stage: plans of sources to shards of clips and rejects."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from syncdiff_data.clips import ClipConfig, ClipCutter
from syncdiff_data.faces import FaceBackend, load_backend, load_mean_face, mean_face
from syncdiff_data.faces.backend import plugin_file
from syncdiff_data.faces.embedded import packaged_files
from syncdiff_data.heartbeat import Watchdog
from syncdiff_data.plans import Plan
from syncdiff_data.quarantine import MAX_CRASHES, CrashQuarantine
from syncdiff_data.records import Clip, Reason, Reject, Source
from syncdiff_data.shards.rows import clip_table, rejects_table
from syncdiff_data.shards.schema import CLIPS, REJECTS, Footer, shard_path
from syncdiff_data.shards.store import Store
from syncdiff_data.shards.write import is_committed, write_shard
from syncdiff_data.stage import ReportProgress
from syncdiff_data.weights import file_sha256, find_weights


@dataclass(frozen=True)
class PreprocessStage:
    """Makes the two shards of a plan; pickled for the workers, so it holds paths and options only."""

    root: str
    out: str
    dataset: str
    fingerprint: str
    config: ClipConfig
    weights: tuple[tuple[str, str], ...]
    """(name, file) of the face backend's weights, and of `mean-face` where the user gave one."""
    device: str
    retry_failed: bool
    source_timeout: float

    def __call__(self, plan_json: str, report_progress: ReportProgress) -> dict[str, Any]:
        """Commit the shard of this plan, unless it is there already, and return its counts."""
        plan = Plan.from_json(plan_json)
        store = Store(self.out)
        clips, rejects = self._footer("clips", plan), self._footer("rejects", plan)
        if is_committed(store, clips) and is_committed(store, rejects):
            counts = count_shard(store, plan)
            if not (self.retry_failed and counts["failed"]):
                report_progress(plan.shard, counts)
                return dict(counts)
        return self._write_shards(plan, store, clips, rejects, report_progress)

    def _write_shards(
        self, plan: Plan, store: Store, clips: Footer, rejects: Footer, report_progress: ReportProgress
    ) -> dict[str, Any]:
        quarantine = CrashQuarantine(store, shard_path("clips", plan.shard, plan.num_shards))
        counts: Counter[str] = Counter()
        rejected: list[Reject] = []

        def rows() -> Iterator[pa.Table]:
            # source -> clips and rejects -> one table row a clip, written before the next clip is decoded
            for source in plan.sources:
                for item in self._extract_clips(source, quarantine):
                    if isinstance(item, Reject):
                        rejected.append(item)
                    else:
                        yield clip_table(item)
                    counts.update(count_of(item))
                counts["sources"] += 1
                report_progress(plan.shard, dict(counts))
            # The rename of the clips shard is the commit mark: the rejects must be in place before it.
            write_shard(store, rejects, REJECTS, [rejects_table(rejected)])

        write_shard(store, clips, CLIPS, rows())
        quarantine.clear()
        return dict(counts)

    def _extract_clips(self, source: Source, quarantine: CrashQuarantine) -> Iterator[Clip | Reject]:
        if quarantine.is_quarantined(source.path):
            detail = f"crashed its worker {MAX_CRASHES} times in a row; --retry-failed tries it again"
            yield Reject(source.path, None, "worker", Reason.WORKER_CRASHED, detail)
            return
        with quarantine.processing(source.path), Watchdog(self.source_timeout) as watchdog:
            try:
                yield from self._cutter().cut(source, watchdog.heartbeat)
            except Exception as error:
                error.add_note(f"The source being processed was {source.path}.")
                raise

    def _cutter(self) -> ClipCutter:
        backend, mean = _load_models(self.config, self.weights, self.device)
        return ClipCutter(Path(self.root), self.dataset, self.config, backend, mean)

    def _footer(self, kind: str, plan: Plan) -> Footer:
        common = (kind, self.fingerprint, plan.hash, plan.shard, plan.num_shards)
        if kind == "clips":
            return Footer(*common, crop_size=self.config.faces.crop_size)
        return Footer(*common, sources=tuple((source.path, source.size) for source in plan.sources))


@lru_cache(maxsize=1)
def _load_models(
    config: ClipConfig, weights: tuple[tuple[str, str], ...], device: str
) -> tuple[FaceBackend, np.ndarray]:
    """The face backend and the mean face, loaded once in a worker process."""
    files = {name: Path(file) for name, file in weights}
    mean = load_mean_face(files["mean-face"]) if "mean-face" in files else mean_face()
    return load_backend(config.faces, files, device), mean


def recipe_weights(config: ClipConfig, given: Mapping[str, Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """The weight files a configuration needs, by name, and their SHA-256, those inside pip packages included.

    Raises UserError, before any work starts, when a file is missing or is not the published one.
    """
    names = {"face-alignment": ("s3fd", "fan2d")}.get(config.faces.backend, ())
    files = {name: find_weights(name, given) for name in names}
    if "mean-face" in given:
        files["mean-face"] = find_weights("mean-face", given)
    load_backend(config.faces, files)
    hashes = {name: file_sha256(file) for name, file in (files | _bundled(config.faces.backend)).items()}
    if "mean-face" not in files:
        hashes["mean-face"] = hashlib.sha256(mean_face().astype("<f8").tobytes()).hexdigest()
    return files, hashes


def _bundled(backend: str) -> dict[str, Path]:
    """Files that decide what a backend finds and that come with a package instead of from the user."""
    if backend == "embedded":
        return packaged_files()
    return {backend: plugin_file(backend)} if ":" in backend else {}


def count_of(item: Clip | Reject) -> dict[str, int]:
    """What one clip or reject adds to the counts of a run."""
    if isinstance(item, Clip):
        return {"clips": 1, "frames": item.num_frames}
    return {"rejects": 1, str(item.kind): 1, f"rejects/{item.reason}": 1}


def count_shard(store: Store, plan: Plan) -> Counter[str]:
    """The counts of a committed shard, read back."""
    counts: Counter[str] = Counter(sources=len(plan.sources))
    with pq.ParquetFile(store.open(shard_path("clips", plan.shard, plan.num_shards))) as file:
        frames = file.read(columns=["num_frames"]).column(0).to_pylist()
    counts.update(clips=len(frames), frames=sum(frames))
    with pq.ParquetFile(store.open(shard_path("rejects", plan.shard, plan.num_shards))) as file:
        for row in file.read(columns=["kind", "reason"]).to_pylist():
            counts.update({"rejects": 1, row["kind"]: 1, f"rejects/{row['reason']}": 1})
    return counts


def totals(shards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """dataset.json's counts from the counts of its shards."""
    total: Counter[str] = Counter()
    for counts in shards:
        total.update(counts)
    by_reason = {
        key.removeprefix("rejects/"): total[key] for key in sorted(total) if key.startswith("rejects/")
    }
    return {
        "sources": total["sources"],
        "clips": total["clips"],
        "frames": total["frames"],
        "rejects": total["rejects"],
        "rejects_by_reason": by_reason,
    }
