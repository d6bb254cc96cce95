"""Seeded stand-ins for weights nobody may redistribute: signals of a sensible size at every layer."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import torch
import torchvision
from pytorch_fid import inception
from syncnet_python.detectors.s3fd.nets import S3FDNet
from syncnet_python.SyncNetModel import S
from torch import Tensor, nn


def seed(network: nn.Module, number: int) -> dict[str, Tensor]:
    """Kaiming weights and small biases from one generator; the state of the network."""
    generator = torch.Generator().manual_seed(number)
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            if parameter.dim() > 1:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1, generator=generator)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def syncnet_state(number: int = 1) -> dict[str, Tensor]:
    """SyncNet's tensors; pictures of 0 to 255 are brought down by the first batch norm's variance."""
    state = seed(S(), number)
    state["netcnnlip.1.running_var"].fill_(2 * 128.0**2)
    return state


def inception_state(number: int = 2) -> dict[str, Tensor]:
    """The tensors of pytorch-fid's network."""
    with (
        patch.object(inception, "load_state_dict_from_url", return_value={}),
        patch.object(torchvision.models.Inception3, "load_state_dict"),
    ):
        return seed(inception.fid_inception_v3(), number)


def s3fd_state(number: int = 3) -> dict[str, Tensor]:
    """S3FD's tensors, with heads scaled so that some tens of boxes in a picture pass a confidence of 0.9."""
    state = seed(S3FDNet(device="cpu"), number)
    # Three heads see normalised maps, three see raw ones that are hundreds of times larger.
    for k, (loc, conf, face_bias) in enumerate(
        [(1, 6, 20), (1, 10, -8), (1, 15, 0), (2e-3, 6e-2, 0), (2e-3, 2e-2, -5), (2e-3, 2e-2, -5)]
    ):
        state[f"loc.{k}.weight"] *= loc
        state[f"conf.{k}.weight"] *= conf
        state[f"conf.{k}.bias"].zero_()[-1] = face_bias
    return state


def saved(state: dict[str, Tensor], path: Path) -> Path:
    torch.save(state, path)
    return path
