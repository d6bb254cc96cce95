"""The parts of benchmarks/scale.py that run in one process: lists, data sets and reports of `size` items."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scale_meter import MIB, Meter

from syncdiff_data.cli import RayOptions
from syncdiff_data.clips import ClipConfig
from syncdiff_data.environment import environment
from syncdiff_data.images import encode_gray, encode_jpeg
from syncdiff_data.loader import ClipWindows, LoaderConfig
from syncdiff_data.loader.sync import SyncFilter
from syncdiff_data.plans import entry_of, make_plans, plan_hash
from syncdiff_data.preprocess import PreprocessStage, totals
from syncdiff_data.reasons import Reason
from syncdiff_data.recipe import Recipe
from syncdiff_data.records import SAMPLES_PER_FRAME, Clip, Source
from syncdiff_data.shards import Store
from syncdiff_data.shards.clip_columns import vector_column
from syncdiff_data.shards.lifecycle import finish_dataset, start_dataset
from syncdiff_data.shards.rows import clip_table, rejects_table
from syncdiff_data.shards.schema import CLIPS, REJECTS, Footer, features_schema, shard_path
from syncdiff_data.sources import list_sources
from syncdiff_data.stage import Context
from syncdiff_data.stage.engine import _blocks
from syncdiff_data.stage.link import Link
from syncdiff_eval import benchmark as driver
from syncdiff_eval import runner
from syncdiff_eval.methods import GROUND_TRUTH, Method, MethodType, baselines, read_methods
from syncdiff_eval.metrics import FAMILIES
from syncdiff_eval.pairing import pair_by_list
from syncdiff_eval.per_clip import per_clip_table
from syncdiff_eval.protocols import SYNCDIFF
from syncdiff_eval.records import ClipRecord, failed_record
from syncdiff_eval.report.files import write_report
from syncdiff_eval.results import Results
from syncdiff_eval.summary import method_results, metric_infos
from syncdiff_eval.tasks import list_tasks

SHARD_SIZE = 32
SHORT_CLIP = 5
"""Frames of a clip of the data sets on disk, whose footers alone are read."""
PAIRS_PER_VIDEO = 11
"""Wav2Lip's lists use each video about so often."""
METHODS = 10


# Sources and plans


def sources_of(size: int) -> list[Source]:
    """A list like VoxCeleb2's: 200 clips a speaker, 8 a video."""
    return [
        Source(
            f"dev/mp4/id{i // 200:05}/video{i // 8:07}/{i % 8:05}.mp4", 100_000 + i, "dev", f"id{i // 200:05}"
        )
        for i in range(size)
    ]


def make_source_files(folder: Path, size: int) -> None:
    """The same as empty files."""
    for source in sources_of(size):
        path = folder / source.path
        if path.name == "00000.mp4":
            path.parent.mkdir(parents=True)
        path.touch()


def plans(size: int, folder: Path, meter: Meter) -> None:
    """A folder of sources to the plans of preprocessing."""
    with meter.step("sources listed"):
        sources = list_sources("voxceleb2", folder)
    with meter.step("plans made and hashed"):
        made = make_plans(sources, SHARD_SIZE)
        plan_hash([plan.hash for plan in made])


# A data set that is there


def _recipe() -> Recipe:
    return Recipe.of("clips", "stub", 1, {}, {})


def short_clip(num_frames: int = SHORT_CLIP) -> Clip:
    """A clip of crops as small as JPEG and PNG make them."""
    face = encode_jpeg(np.zeros((16, 16, 3), np.uint8))
    mouth = encode_gray(np.zeros((96, 96), np.uint8))
    return Clip(
        clip_id="",
        source="",
        split="dev",
        speaker="id00000",
        text=None,
        track=0,
        start_s=0.0,
        source_frame=np.arange(num_frames, dtype=np.int32),
        face_jpeg=(face,) * num_frames,
        mouth_png=(mouth,) * num_frames,
        audio=np.zeros(num_frames * SAMPLES_PER_FRAME, np.int16),
        landmarks=np.zeros((num_frames, 68, 2), np.float32),
        box=np.zeros((num_frames, 4), np.float32),
        face_to_source=np.zeros((num_frames, 2, 3), np.float32),
    )


def _write(store: Store, footer: Footer, schema: pa.Schema, table: pa.Table) -> None:
    """`write_shard` without its fsync, of a table with one row group a row."""
    path = Path(store.path(shard_path(footer.kind, footer.shard, footer.num_shards)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(
        path,
        footer.attach(schema, environment()),
        use_dictionary=False,
        write_statistics=["clip_id", "split", "num_frames"] if footer.kind == "clips" else ["clip_id"],
        write_page_checksum=True,
    ) as writer:
        writer.write_table(table.cast(writer.schema), row_group_size=1)


def _with(table: pa.Table, name: str, values: Sequence[str]) -> pa.Table:
    at = table.schema.names.index(name)
    return table.set_column(at, table.schema.field(at), pa.array(values))


def make_dataset(folder: Path, size: int) -> None:
    """Finished data sets `clips` and `features` of one short clip a source."""
    made = make_plans(sources_of(size), SHARD_SIZE)
    store, beside = Store(folder / "clips"), Store(folder / "features")
    hash_ = plan_hash([plan.hash for plan in made])
    dataset = start_dataset(store, _recipe(), hash_, len(made))
    recipe = Recipe.of("features", "stub", 1, {"clips": dataset.fingerprint}, {})
    features = start_dataset(beside, recipe, hash_, len(made))
    row = clip_table(short_clip())
    columns = {"mel": 4, "sync_offset": pa.int32(), "sync_confidence": pa.float32()}
    cells = [
        vector_column(np.zeros((SHORT_CLIP, 4), np.float16)),
        pa.array([1], pa.int32()),
        pa.array([0.5], pa.float32()),
    ]
    vectors = pa.Table.from_arrays([pa.array([""]), *cells], schema=features_schema(columns))
    nothing = rejects_table([])
    for plan in made:
        ids = [f"{plan.shard:08x}{i:08x}" for i in range(len(plan.sources))]
        common = (plan.hash, plan.shard, plan.num_shards)
        clips = _with(pa.concat_tables([row] * len(ids)), "clip_id", ids)
        clips = _with(clips, "source", [source.path for source in plan.sources])
        entries = tuple(entry_of(source) for source in plan.sources)
        _write(store, Footer("rejects", dataset.fingerprint, *common, sources=entries), REJECTS, nothing)
        _write(store, Footer("clips", dataset.fingerprint, *common, crop_size=_crop_size()), CLIPS, clips)
        wide = _with(pa.concat_tables([vectors] * len(ids)), "clip_id", ids)
        _write(beside, Footer("features", features.fingerprint, *common), vectors.schema, wide)
        _write(beside, Footer("rejects", features.fingerprint, *common), REJECTS, nothing)
    counts = {
        "sources": size,
        "clips": size,
        "frames": size * SHORT_CLIP,
        "rejects": 0,
        "rejects_by_reason": {},
    }
    replace(dataset, complete=True, counts=counts, environments=[environment()]).save(store)
    replace(features, complete=True, counts={"clips": size}, environments=[environment()]).save(beside)


def _crop_size() -> int:
    return ClipConfig().faces.crop_size


def resume(size: int, folder: Path, meter: Meter) -> None:
    """A finished data set is asked for again: every shard is found to be there, in this process."""
    store = Store(folder / "clips")
    made = make_plans(sources_of(size), SHARD_SIZE)
    with meter.step("dataset.json compared"):
        dataset = start_dataset(store, _recipe(), plan_hash([plan.hash for plan in made]), len(made))
    stage = PreprocessStage(
        "",
        store.uri,
        "stub",
        dataset.fingerprint,
        ClipConfig(),
        (),
        "cpu",
        retry_failed=False,
        heartbeat_timeout=0,
    )
    with meter.step("shards checked and counted"):
        link = Link()
        counts = totals([stage.process(plan, Context(link, plan.shard)) for plan in made])
    with meter.step("dataset.json written"):
        assert finish_dataset(store, dataset, counts).counts["clips"] == size


def loader(size: int, folder: Path, meter: Meter) -> None:
    """The index of a training run, its order, and what each DataLoader worker is sent."""
    clips, features = folder / "clips", folder / "features"
    with meter.step("index of clips and features"):
        dataset = ClipWindows(clips, features, LoaderConfig(feature="mel"))
    with meter.step("order of an epoch"):
        dataset.place_of(0)
        _ = dataset.order_fingerprint
    with meter.step("pickled for a worker") as notes:
        notes["MiB sent to a worker"] = len(pickle.dumps(dataset)) / MIB
    with meter.step("offsets of the sync filter"):
        assert len(SyncFilter(str(features)).shifts(_dataset_of(clips))) == size


def _dataset_of(folder: Path) -> Any:
    from syncdiff_data.shards import load_dataset

    return load_dataset(Store(folder), "clips")


# Benchmarks: `size` rows, a tenth of them clips of each of ten methods


def make_outputs(folder: Path, size: int) -> None:
    """References, the CSV of pairs and the outputs of every method, as empty files."""
    pairs = size // METHODS
    videos = -(-pairs // PAIRS_PER_VIDEO)
    (folder / "reference").mkdir()
    for video in range(videos):
        (folder / "reference" / f"{video:05}.mp4").touch()
    with (folder / "pairs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "audio", "output"])
        for pair in range(pairs):
            video, other = pair % videos, (pair + 1 + pair // videos) % videos
            rows.writerow([f"{video:05}.mp4", f"{other:05}.mp4", f"{pair}.mp4"])
    for method in range(METHODS):
        (folder / f"method{method}").mkdir()
        for pair in range(pairs):
            (folder / f"method{method}" / f"{pair}.mp4").touch()


def benchmark_of(folder: Path, ray: RayOptions) -> driver.BenchmarkConfig:
    pairing = pair_by_list(folder / "reference", folder / "pairs.csv", "csv")
    given = tuple(f"method{i}={folder / f'method{i}'}" for i in range(METHODS))
    methods = [*baselines(False, (), False), *read_methods(given, None)]
    return driver.BenchmarkConfig(
        folder / "reference", pairing, methods, SYNCDIFF, folder / "report", {}, ray, families=FAMILIES
    )


def tasks(size: int, folder: Path, meter: Meter) -> None:
    """The list of what is to be scored."""
    with meter.step("pairs listed"):
        config = benchmark_of(folder, RayOptions())
    with meter.step("outputs found, tasks listed"):
        listed = list_tasks(config.methods, config.pairing)
    with meter.step("all plans pickled") as notes:
        scoring = driver._scoring_config(config, {}, {}).without_pairs()
        stage = runner.ScoreStage(scoring, runner.Cache(folder))
        planned = [runner.ScorePlan(task, "0" * 32) for task in listed]
        blocks = _blocks(planned, workers=2, most=stage.plans_per_block)
        notes["MiB sent to a worker at its start"] = len(pickle.dumps(stage)) / MIB
        notes["MiB of plans"] = sum(len(block["plans"]) for block in blocks) / MIB


def report(size: int, folder: Path, meter: Meter) -> None:
    """Records to per_clip.parquet, results.json and the page."""
    methods = [GROUND_TRUTH, *(Method(f"method{i}", MethodType.GAN, None, Path()) for i in range(METHODS))]
    infos = metric_infos([FAMILIES[name] for name in SYNCDIFF.metrics], {})
    clips = [f"{i:07}" for i in range(size // METHODS)]
    sources = {clip: f"{int(clip) // PAIRS_PER_VIDEO:06}.mp4" for clip in clips}
    with meter.step("records received"):
        records = [record for method in methods for record in _received(method.name, sources, infos)]
    with meter.step("table per clip"):
        table = per_clip_table(records, infos)
    with meter.step("means, intervals, tests, ranks"):
        pooled = {(method.name, info.name): 20.0 for method in methods for info in infos if info.pooled}
        unmatched = {method.name: 0 for method in methods}
        rows, comparisons = method_results(methods, infos, records, pooled, unmatched, SYNCDIFF, sources)
    results = _results(clips, sources, infos, rows, comparisons)
    with TemporaryDirectory(dir=folder) as out, meter.step("report written"):
        write_report(Path(out), results, table, lambda method, clip: None)


def drawn_record(names: Sequence[str], rng: np.random.Generator) -> ClipRecord:
    """Of a clip that has every number."""
    facts = {
        "sha256": "0" * 64, "codec": "h264", "width": 256, "height": 256, "fps": 25.0, "bit_rate": 400_000,
        "decoder": "h264", "has_audio": True, "sound_late_s": 0.0,
    }  # fmt: skip
    values = dict(zip(names, rng.normal(30, 2, len(names)).tolist()))
    return {
        "status": "scored", "reason": None, "detail": None, "num_frames": 75, "facts": facts, "audio_sha256": "0" * 64,
        "values": values, "missing": {}, "arrays": {},
    }  # fmt: skip


def _received(method: str, sources: dict[str, str], infos: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Drawn records as they come from workers, which read them from JSON."""
    names = [info.name for info in infos if not info.pooled]
    rng = np.random.default_rng(len(method) + ord(method[-1]))
    for clip, source in sources.items():
        record: dict[str, Any] = failed_record(Reason.UNREADABLE, "stubbed")
        if int(clip) % 100 != 7:
            record = drawn_record(names, rng)
        yield {
            "method": method,
            "clip": clip,
            "source": source,
            **pickle.loads(pickle.dumps(json.loads(json.dumps(record)))),
        }


def _results(clips: Any, sources: Any, infos: Any, rows: Any, comparisons: Any) -> Results:
    with patch.object(driver, "git_commit", lambda: None):
        protocol = driver._protocol(SYNCDIFF, driver.Pairing("crossed-audio", ()))
    return Results(
        schema_version=3, protocol=protocol, n_clips=len(clips), n_sources=len(set(sources.values())), metrics=infos,
        methods=rows, comparisons=comparisons, reencoding=[], published=[], weights={}, versions={}, git_commit=None,
    )  # fmt: skip
