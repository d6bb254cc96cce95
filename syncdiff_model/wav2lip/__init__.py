"""The published Wav2Lip (arXiv 2008.10010): its generator, its weight files, its face boxes and its crops."""
