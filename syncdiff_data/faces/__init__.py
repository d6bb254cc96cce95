"""Faces: detection, tracks, 68 landmarks, the aligned crop and AV-HuBERT's mouth crop."""

from syncdiff_data.faces.alignment import crop_face, face_transforms
from syncdiff_data.faces.backend import FaceBackend, load_backend
from syncdiff_data.faces.config import FaceConfig
from syncdiff_data.faces.mean_face import load_mean_face, mean_face
from syncdiff_data.faces.mouth import MouthCropper, mouth_crops
from syncdiff_data.faces.tracking import Track, TrackReject, find_tracks

__all__ = [
    "FaceBackend",
    "FaceConfig",
    "MouthCropper",
    "Track",
    "TrackReject",
    "crop_face",
    "face_transforms",
    "find_tracks",
    "load_backend",
    "load_mean_face",
    "mean_face",
    "mouth_crops",
]
