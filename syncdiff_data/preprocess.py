"""The first stage: plans of sources to shards of clips and rejects."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from syncdiff_data.clips import ClipConfig, ClipExtractor
from syncdiff_data.faces import load_backend, load_mean_face, mean_face
from syncdiff_data.faces.backend import BACKENDS
from syncdiff_data.faces.embedded import packaged_files
from syncdiff_data.plans import Plan, entry_of
from syncdiff_data.records import Clip, Reject, Source
from syncdiff_data.registry import is_own, lookup, source_file
from syncdiff_data.shards.rows import clip_table, rejects_table
from syncdiff_data.shards.schema import CLIPS, REJECTS, Footer, footer_values, shard_path
from syncdiff_data.shards.store import Store
from syncdiff_data.shards.write import is_committed, write_shard
from syncdiff_data.speaker import SPEAKER_EXPERT, load_speaker_expert
from syncdiff_data.stage import Context, Failure, Stage
from syncdiff_data.sync_expert.files import expert_sha256
from syncdiff_data.weights import file_sha256, find_weights


@dataclass(frozen=True)
class PreprocessStage(Stage[Plan, dict[str, Any]]):
    """Makes the two shards of a plan; its items are the sources."""

    root: str
    out: str
    dataset: str
    fingerprint: str
    config: ClipConfig
    weights: tuple[tuple[str, str], ...]
    """(name, file) of the face backend's weights, and of `mean-face` where the user gave one."""
    device: str
    retry_failed: bool
    heartbeat_timeout: float
    """Seconds without a new frame after which a source's worker is ended; 0: never."""
    verify: bool = False
    """Read every byte of shards that are there already, instead of their footers."""

    title = "preprocess"
    unit = "sources"
    plans_per_block = 1

    @cached_property
    def _extractor(self) -> ClipExtractor:
        files = {name: Path(file) for name, file in self.weights}
        mean = load_mean_face(files["mean-face"]) if "mean-face" in files else mean_face()
        backend = load_backend(self.config.faces, files, self.device)
        expert = load_speaker_expert(self.device) if self.config.speaker == "sync" else None
        return ClipExtractor(Path(self.root), self.dataset, self.config, backend, mean, expert)

    def setup(self) -> None:
        _ = self._extractor

    def process(self, plan: Plan, context: Context) -> dict[str, Any]:
        """Commit the shard of this plan, unless it is there already, and return its counts."""
        store = Store(self.out)
        clips, rejects = self._footer("clips", plan), self._footer("rejects", plan)
        if all(is_committed(store, footer, self.verify) for footer in (clips, rejects)):
            counts = count_shard(store, plan)
            if not (self.retry_failed and counts["failed"]):
                context.report(counts)
                return dict(counts)
        return self._write_shards(plan, store, clips, rejects, context)

    def _write_shards(
        self, plan: Plan, store: Store, clips: Footer, rejects: Footer, context: Context
    ) -> dict[str, Any]:
        counts: Counter[str] = Counter()
        rejected: list[Reject] = []

        def rows() -> Iterator[pa.Table]:
            # source -> clips and rejects -> one table row a clip, written before the next clip is decoded
            for source in plan.sources:
                for item in self._extract_clips(source, context):
                    if isinstance(item, Reject):
                        rejected.append(item)
                    else:
                        yield clip_table(item)
                    counts.update(count_of(item))
                counts["sources"] += 1
                context.report(counts)
            # The rename of the clips shard is the commit mark: the rejects must be in place before it.
            write_shard(store, rejects, REJECTS, [rejects_table(rejected)], self.device)

        write_shard(store, clips, CLIPS, rows(), self.device)
        return dict(counts)

    def _extract_clips(self, source: Source, context: Context) -> Iterator[Clip | Reject]:
        for item in context.item(
            source.path, lambda: self._extractor.extract_clips(source, context.heartbeat)
        ):
            yield reject_of(source, item) if isinstance(item, Failure) else item

    def _footer(self, kind: str, plan: Plan) -> Footer:
        common = (kind, self.fingerprint, plan.hash, plan.shard, plan.num_shards)
        if kind == "clips":
            return Footer(*common, crop_size=self.config.faces.crop_size)
        return Footer(*common, sources=tuple(entry_of(source) for source in plan.sources))


def reject_of(source: Source, failure: Failure) -> Reject:
    """What stands in the data set for a source that failed; every such failure is worth another try."""
    return Reject(source.path, None, "worker", failure.reason, failure.detail)


def recipe_config(config: ClipConfig) -> dict[str, Any]:
    """The part of a configuration that a recipe holds. A choice that is not made is left out, so that data sets from
    before it could be made can be resumed."""
    plain = asdict(config)
    if config.speaker == "all":
        del plain["speaker"]
    return plain


def recipe_weights(config: ClipConfig, given: Mapping[str, Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """The weight files a configuration needs, by name, and their SHA-256, those inside pip packages included.

    Raises UserError, before any work starts, when a file is missing or is not the published one.
    """
    names = (
        () if is_own(config.faces.backend) else lookup(config.faces.backend, BACKENDS, "face backend").weights
    )
    files = {name: find_weights(name, given) for name in names}
    if "mean-face" in given:
        files["mean-face"] = find_weights("mean-face", given)
    load_backend(config.faces, files)
    hashes = {name: file_sha256(file) for name, file in (files | _bundled(config.faces.backend)).items()}
    if config.speaker == "sync":
        hashes["sync_expert"] = expert_sha256(SPEAKER_EXPERT)
    if "mean-face" not in files:
        hashes["mean-face"] = hashlib.sha256(mean_face().astype("<f8").tobytes()).hexdigest()
    return files, hashes


def _bundled(backend: str) -> dict[str, Path]:
    """Files that decide what a backend finds and that come with a package instead of from the user."""
    if backend == "embedded":
        return packaged_files()
    return {backend: source_file(backend, "face backend")} if is_own(backend) else {}


def count_of(item: Clip | Reject) -> dict[str, int]:
    """What one clip or reject adds to the counts of a run."""
    if isinstance(item, Clip):
        return {"clips": 1, "frames": item.num_frames}
    return {"rejects": 1, str(item.kind): 1, f"rejects/{item.reason}": 1}


def count_shard(store: Store, plan: Plan) -> Counter[str]:
    """The counts of a committed shard, read back."""
    counts: Counter[str] = Counter(sources=len(plan.sources))
    with pq.ParquetFile(store.open(shard_path("clips", plan.shard, plan.num_shards))) as file:
        frames = footer_values(file.metadata, "num_frames")
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
