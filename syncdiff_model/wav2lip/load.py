"""Wav2Lip's published weights: `wav2lip.pth` and `wav2lip_gan.pth`, or files of that layout, into the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from syncdiff_data.records import UserError
from syncdiff_data.weights import find_weights
from syncdiff_data.weights.state_dict import read_state
from syncdiff_model.wav2lip.network import Wav2Lip

WEIGHTS = ("wav2lip", "wav2lip-gan")
"""Names in the registry of weights: without and with the visual discriminator in training."""


def load_wav2lip(
    name: str = "wav2lip", weights: Mapping[str, Path] | None = None, device: str = "cpu"
) -> Wav2Lip:
    """The published network, in eval mode, on `device`.

    name: one of WEIGHTS. weights: files the user gave, by name. Raises UserError where the file is missing, with the
    sentence that gets it, or is not the published one (its SHA-256 is known).
    """
    return read_network(find_weights(name, weights or {}), device)


def read_network(path: Path, device: str = "cpu") -> Wav2Lip:
    """The network with the weights of any file of the published layout, in eval mode, on `device`.

    The layout: {"state_dict": tensors, ...}, as wav2lip_train.py saves it, names prefixed `module.` where it trained on
    several GPUs; bare tensors are read too. Nothing in the file is run. Raises UserError for any other file.
    """
    state = read_state(path, "Wav2Lip")
    tensors = state.get("state_dict", state)
    if not isinstance(tensors, dict):
        raise UserError(
            f'{path} is not a file of Wav2Lip weights: "state_dict" is a {type(tensors).__name__}.'
        )
    network = Wav2Lip()
    try:
        network.load_state_dict({str(key).removeprefix("module."): value for key, value in tensors.items()})
    except RuntimeError as error:
        fault = str(error).splitlines()[1].strip()
        raise UserError(f"{path} is not a file of Wav2Lip weights: {fault[:200]}") from error
    return network.to(device).eval()
