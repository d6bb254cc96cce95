"""AV-HuBERT without fairseq: the encoder, a reader for its checkpoints, and the preparation of its inputs."""

from syncdiff_data.avhubert.config import BASE, LARGE, EncoderConfig
from syncdiff_data.avhubert.convert import convert_checkpoint
from syncdiff_data.avhubert.encoder import AVHubertEncoder
from syncdiff_data.avhubert.preparation import align_frames, audio_input, video_input

__all__ = [
    "BASE",
    "LARGE",
    "AVHubertEncoder",
    "EncoderConfig",
    "align_frames",
    "audio_input",
    "convert_checkpoint",
    "video_input",
]
