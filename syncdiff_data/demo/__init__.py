"""Demo data: generated talkers, so that the whole chain runs on something real-looking without a download."""

from syncdiff_data.demo.talkers import (
    LIST_NAME,
    SPEAKERS,
    Speaker,
    Take,
    make_talker,
    make_talkers,
    record,
    talker_clip,
    write_list,
)

__all__ = [
    "LIST_NAME",
    "SPEAKERS",
    "Speaker",
    "Take",
    "make_talker",
    "make_talkers",
    "record",
    "talker_clip",
    "write_list",
]
