"""Frames and sound of a source on one clock, and writing them back."""

from syncdiff_data.media.audio import AudioTrack, read_audio
from syncdiff_data.media.codecs import decode_flac, encode_flac
from syncdiff_data.media.playback import LongerAudio, Playback
from syncdiff_data.media.redub import write_redub
from syncdiff_data.media.soundtrack import sound_start
from syncdiff_data.media.video import Video
from syncdiff_data.media.write import write_video

__all__ = [
    "AudioTrack",
    "LongerAudio",
    "Playback",
    "Video",
    "decode_flac",
    "encode_flac",
    "read_audio",
    "sound_start",
    "write_redub",
    "write_video",
]
