"""Schema of results.json: typed, every key documented, validated on writing and on reading.

The JSON schema (`python -m syncdiff_eval schema`) is generated from these classes; the docstrings below are its
descriptions. No times, host names or absolute paths: two runs on the same files give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from syncdiff_data.documents import first_error
from syncdiff_data.records import UserError
from syncdiff_data.shards.store import write_text
from syncdiff_data.tables import repeated
from syncdiff_eval.methods import LONGEST_TEXT, MethodType, check_name

SCHEMA_VERSION: Literal[3] = 3


class StrictModel(BaseModel):
    """No unknown keys, no NaN, no infinity, no text of megabytes."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        strict=True,
        str_max_length=LONGEST_TEXT,
    )


class Protocol(StrictModel):
    """How the clips were scored."""

    name: str
    version: int
    summary: str
    setting: Literal["own-audio", "crossed-audio"]
    """Whether the videos are driven by their own sound; the two settings are never mixed."""
    pairing: Literal["timestamp", "index", "standalone"]
    """same: paired frames must be shown at the same time. index: paired by index whatever the declared
    times. own: the output is scored standalone."""
    max_length_gap: int
    """Frames by which an output's length may differ from the reference's (own audio)."""
    face_backend: str
    seed: int = Field(ge=0)
    """Of the signs that a permutation test draws."""
    resamples: int = Field(ge=1, le=1_000_000)
    """Signs it draws where it cannot enumerate all."""
    confidence: float = Field(gt=0, lt=1)
    least_coverage: float
    """Share of the clips of the method with the most, under which a method has no rank and no shared clips."""


class MetricInfo(StrictModel):
    """One column of the leaderboard."""

    name: str
    """Column of per_clip.parquet, unless pooled."""
    title: str
    unit: str
    """Empty where there is none."""
    higher_is_better: bool | None
    """null: a descriptive number that is never ranked."""
    decimals: int = Field(ge=0, le=12)
    pooled: bool
    """true: one value per method from all its frames; no value per clip, no interval."""
    not_available: str | None
    """Why the metric did not run, with the command that gets its weights; null if it ran."""
    group: str = "Other"
    """The table of the report that it stands in."""
    in_protocol: bool = True
    """false: added by the user, and not part of the protocol."""


class Score(StrictModel):
    """One cell: a method under a metric."""

    mean: float | None
    """Over the clips scored; null with a reason."""
    low: float | None
    """Student's interval of the mean, by sources; null under six sources, and for a pooled metric."""
    high: float | None
    n_scored: int
    """Clips that have a value; of a pooled metric, the clips that were scored."""
    n_attempted: int
    """Clips of the benchmark, the same for every method."""
    mean_shared: float | None
    """Over the clips on which every ranked method has a value."""
    n_shared: int
    low_coverage: bool
    """Whether so few clips have a value, against the method with the most (protocol.least_coverage), that the method
    has no rank under this metric and others are not held to its clips."""
    rank: int | None
    """Methods without a significant difference share a rank; null for real video, baselines, low coverage and numbers
    that are not ranked."""
    reason: str | None
    """Why mean is null."""


class MethodResult(StrictModel):
    """One row of the leaderboard."""

    name: str
    type: MethodType
    """reference: real video, an anchor in separate rows."""
    citation: str | None
    baseline: bool
    """Made by the benchmark from the references."""
    n_attempted: int
    n_scored: int
    failures: dict[str, int]
    """Reason -> clips. n_scored and these add up to n_attempted."""
    unmatched_outputs: int
    """Media files in the method's folder that match no reference."""
    media: list[str]
    """Codec, size, fps of its files with their number, the most frequent first."""
    codecs: list[str]
    """Of its files, in alphabetical order."""
    bit_rate: int | None = Field(le=2**63 - 1)
    """Median over its files, bit/s; null where no file states one."""
    sound_late_ms: float | None = None
    """Milliseconds by which the audio stream starts after the video stream, as containers declare it (negative: before
    it); the lower median over its files, null where no file declares both."""
    n_sound_shifted: int = 0
    """Files whose own sound lies over 20 ms before or after the driving audio, by their cross-correlation."""
    sound_shift_ms: float | None = None
    """Lower median over those, positive where the sound comes late; null without any."""
    scores: dict[str, Score]
    """By metric name; every metric of the table."""


class Comparison(StrictModel):
    """Paired comparison of two methods on the clips both have, under one metric."""

    metric: str
    a: str
    b: str
    difference: float
    """Mean of a - b."""
    low: float | None
    """Student's interval of the mean difference, by sources; null under six sources."""
    high: float | None
    p: float | None
    """Two-sided paired permutation test, by sources; null under six sources."""
    p_holm: float | None
    """Corrected for all comparisons under this metric that have a p."""
    n: int
    n_sources: int
    """Different sources of the n clips."""
    winner: str | None
    """The better method where p_holm is below 1 - confidence; null: no significant difference."""


class Shift(StrictModel):
    """Change of one metric when every file of a method is re-encoded once."""

    n: int
    """Clips that have a value before and after."""
    mean: float | None
    """Mean of re-encoded minus original over those clips; null with a reason."""
    mean_abs: float | None
    """Mean of the absolute differences."""
    largest_abs: float | None
    """The largest of them."""
    reencoded: float | None
    """Mean of the re-encoded files alone, over the n_reencoded clips that have one. Re-encoded real video is
    compared with the original: its PSNR and SSIM measure the codec and have no value before re-encoding."""
    n_reencoded: int
    reason: str | None
    """Why mean is null."""


class Reencoding(StrictModel):
    """One method's files re-encoded once and scored again; the leaderboard does not include them."""

    method: str
    encoder: str
    """Encoder and settings of the re-encoding."""
    n_attempted: int
    """Files re-encoded: those that have a score as they are."""
    failures: dict[str, int]
    """Reason -> re-encoded files that could not be scored."""
    shifts: dict[str, Shift]
    """By metric name; every metric that has a value per clip."""


class PublishedNumber(StrictModel):
    """A number published elsewhere, in tables separate from the measured ones."""

    method: str
    type: MethodType
    dataset: str
    metric: Literal["lse_c", "lse_d", "fid", "ssim", "psnr", "lmd"]
    value: float
    protocol: str
    """Only where the source names its script; else: not stated."""
    audio: Literal["own", "crossed", "not stated"]
    setting: str
    """In the words of the source."""
    source: str
    how: str
    """Where in the source, and who quotes it."""
    quality: Literal["paper", "secondhand"]
    """paper: read in the paper itself; secondhand: a copy, not checked against it."""


class MergedReport(StrictModel):
    """One of the reports that were merged."""

    results_sha256: str
    """Of its results.json."""
    methods: list[str]
    """Its rows, baselines and real video left out."""
    syncdiff_version: str | None
    git_commit: str | None


class Results(StrictModel):
    """A whole results.json."""

    schema_version: Literal[3]
    """Raised when a key changes its meaning."""
    protocol: Protocol
    n_clips: int
    n_sources: int
    """Different videos the clips are made of, or speakers where the list of pairs names them: clips of one are not
    independent."""
    metrics: list[MetricInfo]
    methods: list[MethodResult]
    """Reference rows first, then the rest in the order given."""
    comparisons: list[Comparison]
    reencoding: list[Reencoding]
    """Real video, then every method that has files, with --reencode-check; else empty."""
    published: list[PublishedNumber]
    """Published numbers, if requested; not measured here and not comparable without their protocol."""
    weights: dict[str, str]
    """sha256 of every weight file used, by registry name."""
    versions: dict[str, str]
    """Of this package and the libraries that affect numbers."""
    git_commit: str | None
    """Of the project's checkout, null where there is none."""
    scoring_version: int | None = None
    """Raised when pairing, regions or decoding could change a number; null in reports of earlier versions."""
    family_versions: dict[str, int] = {}
    """Of the families of metrics that ran, raised when their numbers could change."""
    other_flags: list[str] = []
    """Words of the command that nothing above tells: how pairs and outputs were found, which clips have previews.
    Empty for a merged report and for reports of earlier versions."""
    merged_from: list[MergedReport] = []
    """Of a merged report, those that scored the clips; else empty."""


def write_results(results: Results, path: Path) -> None:
    """Write results.json atomically. Raises UserError where it cannot be written."""
    write_text(path, results.model_dump_json(indent=2) + "\n")


def read_results(report: Path) -> Results:
    """REPORT/results.json, checked. Raises UserError that says what is missing or wrong."""
    path = report / "results.json"
    if not path.is_file():
        raise UserError(f"{report} is not a report: it has no results.json.")
    try:
        results = Results.model_validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise UserError(
            f"{path} does not follow the schema: {first_error(error)} ({error.error_count()} such places)."
        ) from error
    _check_names(results)
    if fault := _fault(results):
        raise UserError(f"{path} {fault}: run the benchmark again.")
    return results


def _check_names(results: Results) -> None:
    """UserError for a name that cannot stand in a table."""
    check_name(results.protocol.name, "a protocol's name")
    for method in results.methods:
        check_name(method.name, "a method's name")
    for metric in results.metrics:
        check_metric(metric)


def check_metric(metric: MetricInfo) -> None:
    """UserError for a metric whose names cannot stand in a table."""
    check_name(metric.name, "a metric's name")
    check_name(metric.title, "a metric's title")
    check_name(metric.group, "a group's title")
    check_name(metric.unit or "1", "a unit")


def _fault(results: Results) -> str | None:
    """Why no table can be made of it: rows and columns that are there twice, or do not meet in a cell each."""
    for what, names in (
        ("metric", [metric.name for metric in results.metrics]),
        ("method", [method.name for method in results.methods]),
        ("re-encoded method", [row.method for row in results.reencoding]),
    ):
        if twice := repeated(names):
            return f"has the {what} {twice[0]!r} twice"
    columns = {metric.name for metric in results.metrics}
    shifts = {metric.name for metric in results.metrics if not metric.pooled}
    for method in results.methods:
        if set(method.scores) != columns:
            return f"has other metrics for {method.name!r} than it lists"
    for row in results.reencoding:
        if set(row.shifts) != shifts:
            return f"has other metrics for the re-encoded files of {row.method!r} than it lists"
    return None
