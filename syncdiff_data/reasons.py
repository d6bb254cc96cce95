"""The closed vocabulary of reasons, for the data and the eval packages.

A reason is one snake_case word. Four kinds of results carry one; a word may serve several of them:

- a reject (`REJECT_REASONS`): a source or track that became no clip, or a clip without features;
- a pair of a list that was not dubbed (`DUB_FAILURE_REASONS`): column `reason` of dubs.csv;
- a clip of a method without a score (`SCORE_FAILURE_REASONS`): column `reason` of per_clip.parquet;
- a missing value of one metric (`MISSING_VALUE_REASONS`): column `null_reasons` of per_clip.parquet.

Particulars, such as a file name or a size, are in the `detail` beside the reason.
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a reject means for the next run."""

    FILTERED = "filtered"
    """Final: the same source would be rejected again."""
    FAILED = "failed"
    """Worth another try: `--retry-failed` runs it again."""


class Reason(StrEnum):
    """Why there is no clip, no score or no value. The string values are part of the file formats."""

    # Reading a file: rejects and score failures.
    UNREADABLE = "unreadable"
    """The file cannot be decoded to its end."""
    NO_VIDEO_STREAM = "no_video_stream"
    """The file holds no video."""
    MISSING_INPUT = "missing_input"
    """A pair of a list of dubs names a video or sound that does not exist."""
    WORKER_CRASHED = "worker_crashed"
    """Processing it ended its worker process several times in a row."""

    # Content of a file: rejects and missing values.
    NO_AUDIO = "no_audio"
    """There is no audio stream, or it holds no samples."""
    SILENT_AUDIO = "silent_audio"
    """There is an audio stream, but it is silent."""
    NO_FACE = "no_face"
    """No face was detected. In a score: the reference shows no usable face."""

    # Rejects.
    FACE_TOO_SMALL = "face_too_small"
    """The face is smaller than `min_face_px`."""
    FACE_NOT_UPRIGHT = "face_not_upright"
    """The face is rotated too far from upright."""
    TRACK_TOO_SHORT = "track_too_short"
    """The face track has fewer than `min_frames` frames."""
    NOT_SPEAKING = "not_speaking"
    """`--speaker sync`: another face speaks as long as this one is seen."""
    BROKEN_TIMESTAMPS = "broken_timestamps"
    """The clock jumps by more than a frame may be held (media.video.MAX_GAP_S)."""
    WRITE_ERROR = "write_error"
    """The result could not be written; the source is not at fault."""
    FEATURE_OVERFLOW = "feature_overflow"
    """A feature of the clip is not finite or larger than float16 can store, so the clip has no features."""
    READ_ERROR = "read_error"
    """The disk or mount failed while the source was read, several times in a row; nothing is known about the file."""
    UNEXPECTED_ERROR = "unexpected_error"
    """An exception that no code handles; the detail holds its name and stack."""

    # Score failures: no metric has a value for this clip of this method.
    MISSING_OUTPUT = "missing_output"
    """The method's folder has no file of the clip's name, or of a usual name of its output."""
    AMBIGUOUS_OUTPUT = "ambiguous_output"
    """Several files may be the clip's output, or one file that of several clips; none is chosen."""
    REFERENCE_UNREADABLE = "reference_unreadable"
    """The reference cannot be decoded, so no method can be scored on this clip."""
    AUDIO_UNREADABLE = "audio_unreadable"
    """The driving audio cannot be decoded, or is another clip's and holds no samples."""
    SIZE_MISMATCH = "size_mismatch"
    """The output's frame size differs from the reference's."""
    FPS_MISMATCH = "fps_mismatch"
    """The output's frame rate differs from the reference's."""
    FRAME_TIMES_DIFFER = "frame_times_differ"
    """A frame has different presentation times in the output and in the reference (variable frame rate)."""
    LENGTH_MISMATCH = "length_mismatch"
    """The numbers of frames differ by more than the protocol allows."""

    # Missing values: the metric does not apply to the row.
    IDENTICAL_TO_REFERENCE = "identical_to_reference"
    """The scored frames are the reference's own."""
    CROSSED_AUDIO = "crossed_audio"
    """The metric compares with the reference; the driving audio is another clip's."""
    OWN_AUDIO = "own_audio"
    """The metric needs another clip's driving audio; this one has its own."""
    NOT_AVAILABLE = "not_available"
    """The metric did not run; results.json says why."""

    # Missing values: the metric cannot be computed from the content of the clip.
    NO_FACE_TRACK = "no_face_track"
    """The published face tracker found no track that is long enough."""
    TOO_SHORT_FOR_SYNC = "too_short_for_sync"
    """Fewer SyncNet windows than LSE needs."""
    TOO_SHORT_FOR_AVHUBERT = "too_short_for_avhubert"
    """Fewer frames than AV-HuBERT needs."""
    TOO_SHORT_FOR_LEAK = "too_short_for_leak"
    """Fewer frames than the leak test needs."""
    TOO_SHORT_FOR_LAG = "too_short_for_lag"
    """Fewer frames than the search of the best lag needs."""
    TOO_FEW_FRAMES = "too_few_frames"
    """A covariance needs at least two frames."""
    FRAME_TOO_SMALL = "frame_too_small"
    """The frame is smaller than the window of SSIM."""
    MOUTH_STILL = "mouth_still"
    """The generated mouth does not move, so no lag fits best."""
    REFERENCE_MOUTH_STILL = "reference_mouth_still"
    """The reference's mouth does not move, so nothing can be correlated with it."""
    REFERENCE_FLAT = "reference_flat"
    """The reference's mouth region has no fine structure at all, as drawn ones may, so sharpness has no ratio."""
    NO_SILENCE = "no_silence"
    """No pause of speech is long enough while a face is seen."""
    NO_BILABIALS = "no_bilabials"
    """No /p/, /b/ or /m/ was heard while a face is seen, or no vowel beside it."""
    SOUND_NOT_SILENT = "sound_not_silent"
    """The metric needs silent driving audio."""
    NOT_SCORABLE = "not_scorable"
    """A sync scorer from outside this project returned no score, or a metric a number that is not finite."""

    @property
    def kind(self) -> Kind:
        """FAILED where a good copy, a mended disk, a new worker or a corrected program may help on another try."""
        return Kind.FAILED if self in FAILED_REASONS else Kind.FILTERED


FAILED_REASONS = frozenset(
    {Reason.UNREADABLE, Reason.READ_ERROR, Reason.WRITE_ERROR, Reason.UNEXPECTED_ERROR, Reason.WORKER_CRASHED}
)

REJECT_REASONS = frozenset(
    {
        Reason.UNREADABLE,
        Reason.NO_VIDEO_STREAM,
        Reason.WORKER_CRASHED,
        Reason.NO_AUDIO,
        Reason.SILENT_AUDIO,
        Reason.NO_FACE,
        Reason.FACE_TOO_SMALL,
        Reason.FACE_NOT_UPRIGHT,
        Reason.TRACK_TOO_SHORT,
        Reason.NOT_SPEAKING,
        Reason.BROKEN_TIMESTAMPS,
        Reason.WRITE_ERROR,
        Reason.FEATURE_OVERFLOW,
        Reason.READ_ERROR,
        Reason.UNEXPECTED_ERROR,
    }
)
"""What `reason` of a rejects shard may be."""

DUB_FAILURE_REASONS = frozenset(
    {
        Reason.MISSING_INPUT,
        Reason.UNREADABLE,
        Reason.NO_VIDEO_STREAM,
        Reason.BROKEN_TIMESTAMPS,
        Reason.NO_AUDIO,
        Reason.NO_FACE,
        Reason.FACE_TOO_SMALL,
        Reason.FACE_NOT_UPRIGHT,
        Reason.TRACK_TOO_SHORT,
        Reason.WRITE_ERROR,
        Reason.READ_ERROR,
        Reason.UNEXPECTED_ERROR,
        Reason.WORKER_CRASHED,
    }
)
"""What `reason` of a failed row of dubs.csv may be."""

SCORE_FAILURE_REASONS = frozenset(
    {
        Reason.UNREADABLE,
        Reason.BROKEN_TIMESTAMPS,
        Reason.NO_VIDEO_STREAM,
        Reason.WORKER_CRASHED,
        Reason.MISSING_OUTPUT,
        Reason.AMBIGUOUS_OUTPUT,
        Reason.REFERENCE_UNREADABLE,
        Reason.AUDIO_UNREADABLE,
        Reason.SIZE_MISMATCH,
        Reason.FPS_MISMATCH,
        Reason.FRAME_TIMES_DIFFER,
        Reason.LENGTH_MISMATCH,
        Reason.READ_ERROR,
        Reason.UNEXPECTED_ERROR,
    }
)
"""What `reason` of a failed row of per_clip.parquet may be."""

MISSING_VALUE_REASONS = frozenset(
    {
        Reason.NO_AUDIO,
        Reason.SILENT_AUDIO,
        Reason.NO_FACE,
        Reason.IDENTICAL_TO_REFERENCE,
        Reason.CROSSED_AUDIO,
        Reason.OWN_AUDIO,
        Reason.NOT_AVAILABLE,
        Reason.NO_FACE_TRACK,
        Reason.TOO_SHORT_FOR_SYNC,
        Reason.TOO_SHORT_FOR_AVHUBERT,
        Reason.TOO_SHORT_FOR_LEAK,
        Reason.TOO_SHORT_FOR_LAG,
        Reason.TOO_FEW_FRAMES,
        Reason.FRAME_TOO_SMALL,
        Reason.MOUTH_STILL,
        Reason.REFERENCE_MOUTH_STILL,
        Reason.REFERENCE_FLAT,
        Reason.NO_SILENCE,
        Reason.NO_BILABIALS,
        Reason.SOUND_NOT_SILENT,
        Reason.NOT_SCORABLE,
    }
)
"""What a value of `null_reasons` of per_clip.parquet may be, where the metrics are this project's."""
