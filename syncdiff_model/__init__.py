"""SyncDiff (arXiv 2503.13371): latent diffusion lip-sync with a bottlenecked temporal pose prior."""
