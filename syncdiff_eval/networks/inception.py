"""pytorch-fid's network, run without waste: no gradients, batch norms folded, weights laid out once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from pytorch_fid import inception
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from syncdiff_data.records import UserError
from syncdiff_data.weights.state_dict import read_state
from syncdiff_eval.networks.packed import packed

DIMENSIONS = 2048
SIDE = 299
BATCH = 4
"""Images at a time."""


class Inception:
    """Features of single images."""

    dimensions = DIMENSIONS

    def __init__(self, state: Mapping[str, Tensor], device: str = "cpu"):
        """state: tensors of pt_inception-2015-12-05-6726825d.pth. UserError when they are another network's."""
        # pytorch-fid has no argument for the weights: it always asks its downloader.
        with patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
            try:
                network = inception.InceptionV3()
            except RuntimeError as error:
                raise UserError(
                    f"these weights are not pytorch-fid's: {str(error).splitlines()[1].strip()}"
                ) from error
        network.eval()
        network.resize_input = False
        for parent in list(network.modules()):
            for name, layer in parent.named_children():
                if {"conv", "bn"} <= layer._modules.keys():
                    folded = fuse_conv_bn_eval(layer.conv, layer.bn)
                    setattr(parent, name, packed((folded, nn.ReLU(inplace=True)), device))
        self.device = device
        self._network = network

    @classmethod
    def from_file(cls, path: Path, device: str = "cpu") -> Inception:
        """Load pytorch-fid's weight file. UserError when it is something else."""
        return cls(read_state(path, "Inception"), device)

    @torch.inference_mode()
    def features(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """RGB uint8 [H, W, 3] of any sizes to float32 [N, 2048]."""
        inputs = map(self._resized, images)
        parts = []
        while batch := list(islice(inputs, BATCH)):
            parts.append(self._network(torch.cat(batch))[0].flatten(1).cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, DIMENSIONS), np.float32)

    def _resized(self, image: np.ndarray) -> Tensor:
        """[1, 3, 299, 299], 0 to 1: as the network resizes, but images of different sizes then make a batch."""
        pixels = (
            torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].to(self.device).float() / 255
        )
        return functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", align_corners=False)
