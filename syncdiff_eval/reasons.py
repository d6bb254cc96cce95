"""Why a clip of a method has no score: a closed vocabulary, beside that of syncdiff_data.records."""

from enum import StrEnum


class Refusal(StrEnum):
    """What per_clip.parquet says in `reason`; `detail` holds the particulars."""

    MISSING_OUTPUT = "missing_output"
    """No file of the clip's name in the method's folder."""
    AMBIGUOUS_OUTPUT = "ambiguous_output"
    """Several files that differ by suffix only."""
    UNREADABLE = "unreadable"
    NO_VIDEO_STREAM = "no_video_stream"
    REFERENCE_UNREADABLE = "reference_unreadable"
    """The reference cannot be decoded, so no method can be scored on this clip."""
    AUDIO_UNREADABLE = "audio_unreadable"
    """The driving audio cannot be decoded, or is another's and holds no sound."""
    SIZE_MISMATCH = "size_mismatch"
    FPS_MISMATCH = "fps_mismatch"
    FRAME_TIMES_DIFFER = "frame_times_differ"
    """Variable frame rate on one side: frame i is not the same moment in both."""
    LENGTH_MISMATCH = "length_mismatch"
    WORKER_CRASHED = "worker_crashed"
    """Scoring it killed its process three times running."""
