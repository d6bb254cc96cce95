"""The trained expert: a folder of config.json and weights, and embeddings of clips of any length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file

from syncdiff_data.avhubert.preparation import align_frames
from syncdiff_data.documents import parse_json
from syncdiff_data.features.audio import logfbank
from syncdiff_data.records import UserError
from syncdiff_data.sync_expert.files import CONFIG, WEIGHTS_FILE, find_expert
from syncdiff_data.sync_expert.network import REACH_AUDIO, REACH_LIPS, NetworkConfig, SyncNetwork
from syncdiff_data.sync_expert.prepare import halve, landmark_motion, picture_statistics, standard_energies
from syncdiff_data.sync_expert.scoring import MAX_SHIFT, SyncScore, score_embeddings
from syncdiff_data.weights import file_sha256
from syncdiff_data.weights.shapes import check_finite, shapes_within, stored_shapes

CHUNK = 256
"""Frames that the networks see at a time. Memory does not grow with the clip beyond its input and its embeddings."""


class SyncExpert:
    """Embeds lips and sound so that a clip's own sound lies near its lips, frame by frame.

    Embeddings of one video serve every sound and every shift.
    """

    def __init__(self, network: SyncNetwork, device: str = "cpu", sha256: str | None = None):
        self.network = network.to(device).eval().requires_grad_(False)
        self.device = device
        self.sha256 = sha256
        """Of the weights' file; None for a network that was never saved."""

    @classmethod
    def from_pretrained(cls, folder: str | PathLike[str], device: str = "cpu") -> SyncExpert:
        """The expert of a folder (config.json and model.safetensors), or of a name in PRETRAINED.

        UserError when the folder does not hold one.
        """
        path = find_expert(folder)
        try:
            config = TypeAdapter(NetworkConfig).validate_python(
                parse_json((path / CONFIG).read_bytes())["network"]
            )
            with shapes_within(stored_shapes([path / WEIGHTS_FILE])):
                SyncNetwork(config)
            network = SyncNetwork(config)
            network.load_state_dict(load_file(path / WEIGHTS_FILE))
            check_finite(network)
        except Exception as error:
            raise UserError(
                f"the sync expert in {path} is damaged, or of another version ({error}): copy or train it again."
            ) from error
        return cls(network, device, file_sha256(path / WEIGHTS_FILE))

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors below `folder`."""
        save_network(self.network, folder)

    def embed_lips(self, mouth: np.ndarray, landmarks: np.ndarray | None = None) -> np.ndarray:
        """Unit vectors float32 [T, D] of mouth crops uint8 [T, 96, 96] as the clips table stores them.

        landmarks: float32 [T, 68, 2], in pixels of any frame; None goes without (docs/sync.md says what that
        costs). ValueError for other shapes or types.
        """
        if mouth.dtype != np.uint8 or mouth.shape[1:] != (96, 96) or not len(mouth):
            raise ValueError(
                f"mouth: expected uint8 [T, 96, 96], T > 0, got {mouth.dtype} {list(mouth.shape)}"
            )
        if landmarks is not None and landmarks.shape != (len(mouth), 68, 2):
            raise ValueError(f"landmarks: expected [{len(mouth)}, 68, 2], got {list(landmarks.shape)}")
        mean, gray, spread = picture_statistics(mouth)
        standard_mean = self._tensor((mean - gray) / spread)
        motion = None if landmarks is None else landmark_motion(landmarks)
        parts = []
        for seen, kept in _chunks(len(mouth), REACH_LIPS):
            pictures = self._tensor((halve(mouth[seen]) - gray) / spread)
            points = None if motion is None else self._tensor(motion[seen])[None]
            parts.append(self._run(self.network.lips, kept, pictures[None], standard_mean[None], points))
        return np.concatenate(parts)

    def embed_audio(self, logfbank: np.ndarray) -> np.ndarray:
        """Unit vectors float32 [T, D] of `logfbank` features [T, 104], not normalised. ValueError for other shapes."""
        if logfbank.ndim != 2 or logfbank.shape[1] != 104 or not len(logfbank):
            raise ValueError(f"logfbank: expected [T, 104], T > 0, got {list(logfbank.shape)}")
        energies = standard_energies(logfbank)
        parts = [
            self._run(self.network.audio, kept, self._tensor(energies[seen])[None])
            for seen, kept in _chunks(len(energies), REACH_AUDIO)
        ]
        return np.concatenate(parts)

    def embed_sound(self, samples: np.ndarray, num_frames: int) -> np.ndarray:
        """Unit vectors float32 [num_frames, D] of int16 [N] at 16 kHz, sample 0 at the time of frame 0."""
        return self.embed_audio(align_frames(logfbank(samples), num_frames))

    def score(self, lips: np.ndarray, audio: np.ndarray, max_shift: int = MAX_SHIFT) -> SyncScore:
        """Offset and confidence of embeddings [T, D]; see `score_embeddings`."""
        return score_embeddings(lips, audio, max_shift)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self.device)

    def _run(self, network: torch.nn.Module, kept: slice, *inputs: torch.Tensor | None) -> np.ndarray:
        """The kept frames of a chunk, float32 on the host; bfloat16 inside on a GPU."""
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled="cuda" in self.device):
            embedded: np.ndarray = network(*inputs)[0, kept].float().cpu().numpy()
        return embedded


def save_network(network: SyncNetwork, folder: Path) -> None:
    """Write config.json and model.safetensors of an expert's network, which may be in training."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(state, folder / WEIGHTS_FILE)
    text = json.dumps({"network": asdict(network.config)}, indent=1) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def _chunks(frames: int, reach: int) -> Iterator[tuple[slice, slice]]:
    """Frames to read and, within them, frames to keep: chunks that overlap by what an embedding sees on either side."""
    for start in range(0, frames, CHUNK):
        first, stop = max(0, start - reach), min(frames, start + CHUNK + reach)
        yield slice(first, stop), slice(start - first, min(frames, start + CHUNK) - first)
