"""What metrics run: SyncNet, its crops and windows, S3FD face tracks, Inception, the AV-HuBERT lip reader."""
