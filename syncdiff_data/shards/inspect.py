"""A data set for people: a summary in the terminal, and a contact sheet, because one would rather look than read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from syncdiff_data.cli import for_console
from syncdiff_data.images import encode_png
from syncdiff_data.records import FPS, Clip, UserError
from syncdiff_data.shards.dataset import DATASET_FILE, MAKE_AGAIN, Dataset, iterate_shards, load_dataset
from syncdiff_data.shards.read import read_features, read_rejects
from syncdiff_data.shards.rows import read_clip
from syncdiff_data.shards.schema import SYNC_COLUMNS, feature_columns, has_sync
from syncdiff_data.shards.store import Store, write_atomically

SHEET_CLIPS = 12
SHEET_FRAMES = 6
TILE = 160
POINT = (80, 255, 80)
MOUTH_POINT = (255, 90, 60)


def summarise(dataset: str | PathLike[str], console: Console | None = None, clips: str | None = None) -> None:
    """Print what a data set of clips or features holds. UserError when the folder is none.

    clips: the clips that features were made of, so that their sources can be named.
    """
    console = console or Console()
    store = Store(dataset)
    description = load_dataset(store, must_be_complete=False)
    console.print(_headline(store, description))
    if not description.complete:
        return
    if description.kind == "features":
        _print_features(console, store, description, clips)
    else:
        _print_clips(console, store, description)


def contact_sheet(dataset: str | PathLike[str], out: Path, clips: int = SHEET_CLIPS) -> None:
    """Write a PNG with `clips` clips spread over the data set: a row each, face crops with their landmarks, and the
    mouth crops in the corners."""
    rows = [_checked_row(clip) for clip in spread_clips(dataset, clips)]
    if not rows:
        rows = [np.zeros((TILE, TILE * SHEET_FRAMES, 3), np.uint8)]
    write_atomically(out, lambda file: _write(file, encode_png(np.vstack(rows))))


def crop_landmarks(clip: Clip) -> np.ndarray:
    """float32 [T, 68, 2]: the clip's landmarks in the pixels of its face crops."""
    inverse = np.stack([cv2.invertAffineTransform(affine) for affine in clip.face_to_source])
    return (np.einsum("tij,tkj->tki", inverse[:, :, :2], clip.landmarks) + inverse[:, None, :, 2]).astype(
        np.float32
    )


def _checked_row(clip: Clip) -> np.ndarray:
    try:
        return _sheet_row(clip)
    except (
        Exception
    ) as error:  # OpenCV has its own for affines that turn nothing and bytes that are no picture
        raise UserError(
            f"clip {clip.clip_id} of {clip.source} cannot be shown ({error}). {MAKE_AGAIN}"
        ) from error


def _sheet_row(clip: Clip) -> np.ndarray:
    points = crop_landmarks(clip)
    frames = np.linspace(0, clip.num_frames - 1, SHEET_FRAMES).round().astype(int)
    tiles = []
    for t in frames:
        tile = cv2.resize(clip.face[t], (TILE, TILE), interpolation=cv2.INTER_AREA)
        scaled = (points[t] + 0.5) * (TILE / clip.face.shape[1]) - 0.5
        for number, (x, y) in enumerate(scaled):
            cv2.circle(
                tile, (round(float(x)), round(float(y))), 1, MOUTH_POINT if number >= 48 else POINT, -1
            )
        if clip.mouth is not None:
            tile[:48, :48] = cv2.resize(clip.mouth[t], (48, 48), interpolation=cv2.INTER_AREA)[..., None]
        tiles.append(tile)
    row = np.hstack(tiles)
    label = f"{clip.source}  track {clip.track}  {clip.start_s:.2f} s, {clip.num_frames} frames"
    cv2.putText(row, label, (52, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 255, 255), 1, cv2.LINE_AA)
    return row


def spread_clips(dataset: str | PathLike[str], wanted: int) -> Iterator[Clip]:
    """About `wanted` clips at even steps through the data set."""
    store = Store(dataset)
    description = load_dataset(store, "clips")
    total = description.count("clips")
    chosen = (
        set(np.linspace(0, total - 1, min(wanted, total)).round().astype(int).tolist()) if total else set()
    )
    number = 0
    for _, shard in iterate_shards(store, description):
        for row in range(shard.num_row_groups):
            if number in chosen:
                yield read_clip(shard, row)
            number += 1


def _headline(store: Store, dataset: Dataset) -> str:
    state = "complete" if dataset.complete else "[red]not finished[/red]: run the command that makes it again"
    return (
        f"[bold]{for_console(store.uri)}[/bold]: {dataset.kind} of {for_console(repr(dataset.name))}, "
        f"{dataset.num_shards} shards, "
        f"recipe {for_console(dataset.fingerprint)}, {state}"
    )


def _print_clips(console: Console, store: Store, dataset: Dataset) -> None:
    frames, speakers, splits = [], Counter[str](), Counter[str]()
    for _, shard in iterate_shards(store, dataset):
        table = shard.read(columns=["num_frames", "speaker", "split"]).to_pydict()
        frames += [count or 0 for count in table["num_frames"]]
        speakers.update(name for name in table["speaker"] if name)
        splits.update(name or "-" for name in table["split"])
    hours = sum(frames) / FPS / 3600
    console.print(
        f"{dataset.count('sources')} sources, {dataset.count('clips')} clips, {hours:.2f} hours, "
        f"{len(speakers)} speakers, splits {for_console(str(dict(splits)))}"
    )
    if frames:
        quartiles = np.percentile(frames, [0, 25, 50, 75, 100]).astype(int).tolist()
        console.print(f"frames per clip: min {quartiles[0]}, quartiles {quartiles[1:4]}, max {quartiles[4]}")
    _print_rejects(console, store)


def _print_rejects(console: Console, store: Store, examples: int = 3) -> None:
    rejects = read_rejects(store.uri)
    if not rejects:
        return
    table = Table("kind", "reason", "count", "for example", title="rejects", title_justify="left")
    groups = Counter((str(r.kind), str(r.reason)) for r in rejects)
    for (kind, reason), count in sorted(groups.items()):
        some = [f"{r.source}: {r.detail}" for r in rejects if r.reason == reason][:examples]
        table.add_row(kind, reason, str(count), for_console("\n".join(some)))
    console.print(table)


def _print_features(console: Console, store: Store, dataset: Dataset, clips: str | None) -> None:
    first = next((shard for _, shard in iterate_shards(store, dataset)), None)
    if first is None:
        raise UserError(f"{store.uri} is damaged: its {DATASET_FILE} counts no shard.")
    columns = feature_columns(first.schema_arrow)
    shown = ", ".join(f"{name} ({column})" for name, column in columns.items())
    console.print(
        f"{dataset.count('clips')} clips, {dataset.count('frames')} frames, columns {for_console(shown)}"
    )
    if has_sync(first.schema_arrow):
        _print_sync(console, store, {} if clips is None else _sources(Store(clips)))
    for name, licence in dataset.recipe.get("config", {}).get("licences", {}).items():
        console.print(f"made with {for_console(name)}: {for_console(licence)}")


def _sources(clips: Store) -> dict[str, str]:
    """clip_id -> source and time."""
    named: dict[str, str] = {}
    for _, shard in iterate_shards(clips, load_dataset(clips, "clips")):
        rows = shard.read(columns=["clip_id", "source", "track", "start_s"]).to_pylist()
        named |= {r["clip_id"]: f"{r['source']} track {r['track']} at {r['start_s']:.1f} s" for r in rows}
    return named


def _print_sync(console: Console, store: Store, sources: Mapping[str, str], worst: int = 10) -> None:
    """Histograms of offsets and confidences, and the clips furthest out of step."""
    # Clips that were rejected have null.
    rows = [
        (clip_id, columns)
        for clip_id, columns in read_features(store.uri)
        if all(name in columns and columns[name].size for name in SYNC_COLUMNS)
    ]
    if not rows:
        return
    offsets = np.array([int(columns["sync_offset"]) for _, columns in rows])
    confidences = np.array([float(columns["sync_confidence"]) for _, columns in rows])
    _print_histogram(console, "frames by which the sound comes late", np.unique(offsets, return_counts=True))
    tenths = np.floor(confidences * 10) / 10
    _print_histogram(console, "confidence from", np.unique(tenths.round(1), return_counts=True))
    order = np.lexsort((confidences, -np.abs(offsets)))[:worst]
    table = Table("clip", "offset", "confidence", title="furthest out of step", title_justify="left")
    for place in order:
        name = rows[place][0]
        table.add_row(
            for_console(sources.get(name, name)), f"{offsets[place]:+d}", f"{confidences[place]:.3f}"
        )
    console.print(table)


def _print_histogram(console: Console, title: str, bins: tuple[np.ndarray, np.ndarray]) -> None:
    table = Table(title, "clips", "", title_justify="left")
    for value, count in zip(*bins):
        table.add_row(f"{value:g}", str(count), "#" * math.ceil(28 * count / bins[1].max()))
    console.print(table)


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(data)
