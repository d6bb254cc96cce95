"""A small network that scores whether lips and audio belong together, and by how many frames they are apart."""

from syncdiff_data.sync_expert.expert import PRETRAINED, SyncExpert, pretrained_folder
from syncdiff_data.sync_expert.scoring import MAX_SHIFT, SyncScore, score_embeddings

__all__ = ["MAX_SHIFT", "PRETRAINED", "SyncExpert", "SyncScore", "pretrained_folder", "score_embeddings"]
