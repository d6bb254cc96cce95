"""Third-party weight files: where each is published, under which terms, and what needs it.

None of them is part of this project. A hash is given only where independent sources agree on it (and, for
names in PyTorch's style, its first digits stand in the file's name); AV-HuBERT's have no published hash.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightFile:
    """One published file.

    url: a direct download, or None where the publisher offers none.
    page: where the file and its terms are described.
    sha256: of the file as published, or None where it is not known.
    in_torch_hub: whether the library that owns the file looks for it in torch's hub folder.
    importer: 'module:function' that turns the published file src into a folder dst, as function(src, dst).
    imported_file: the file of that folder which is loaded.
    """

    name: str
    file_name: str
    url: str | None
    page: str
    sha256: str | None
    licence: str
    needed_by: str
    in_torch_hub: bool = False
    importer: str | None = None
    imported_file: str = ""


_FACE_ALIGNMENT = "https://www.adrianbulat.com/downloads/python-fan/"
_FACE_ALIGNMENT_PAGE = "https://github.com/1adrianb/face-alignment"
_SYNCNET = "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/"
_SYNCNET_PAGE = "https://www.robots.ox.ac.uk/~vgg/software/lipsync/"
_SYNCNET_LICENCE = "terms of the file not stated; the code around it is under the MIT licence"
# Since 2025 the page offers TorchScript archives in place of these two files (Wav2Lip-SD-GAN.pt and -NOGAN.pt, its
# issue 743).
_WAV2LIP_PAGE = "https://github.com/Rudrabha/Wav2Lip#getting-the-weights"
_WAV2LIP_LICENCE = "research and personal use only, not commercial (trained on LRS2)"
_AVHUBERT = "https://dl.fbaipublicfiles.com/avhubert/model/"
_AVHUBERT_PAGE = "https://facebookresearch.github.io/av_hubert/"
_AVHUBERT_LICENCE = "AV-HuBERT licence: non-commercial research only, no biometric processing or surveillance"


def _avhubert(name: str, path: str, file_name: str | None = None) -> WeightFile:
    """Two folders hold files named *_vox_iter5.pt: file_name tells the noise-trained ones apart."""
    return WeightFile(
        name=name,
        file_name=file_name or path.rsplit("/", 1)[-1],
        url=_AVHUBERT + path,
        page=_AVHUBERT_PAGE,
        sha256=None,
        licence=_AVHUBERT_LICENCE,
        needed_by="AV-HuBERT features; AVS and the lips' leak",
        importer="syncdiff_data.avhubert:convert_checkpoint",
        imported_file="model.safetensors",
    )


_FILES = (
    WeightFile(
        name="s3fd",
        file_name="s3fd-619a316812.pth",
        url=_FACE_ALIGNMENT + "s3fd-619a316812.pth",
        page=_FACE_ALIGNMENT_PAGE,
        sha256="619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
        licence="terms of the file not stated; face-alignment itself is under BSD-3-Clause",
        needed_by="face backend face-alignment",
        in_torch_hub=True,
    ),
    WeightFile(
        name="fan2d",
        file_name="2DFAN4-11f355bf06.pth.tar",
        url=_FACE_ALIGNMENT + "2DFAN4-11f355bf06.pth.tar",
        page=_FACE_ALIGNMENT_PAGE,
        sha256="11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa",
        licence="terms of the file not stated; trained on 300-W/iBUG data, believed non-commercial",
        needed_by="face backend face-alignment",
        in_torch_hub=True,
    ),
    # Pre-trained on LRS3 alone, on LRS3 and VoxCeleb2, and on both with noise; then those of both sets
    # fine-tuned for lip reading (vsr) and for audio-visual recognition (avsr) on 433 h of LRS3.
    _avhubert("avhubert-base-lrs3", "lrs3/clean-pretrain/base_lrs3_iter5.pt"),
    _avhubert("avhubert-large-lrs3", "lrs3/clean-pretrain/large_lrs3_iter5.pt"),
    _avhubert("avhubert-base", "lrs3_vox/clean-pretrain/base_vox_iter5.pt"),
    _avhubert("avhubert-large", "lrs3_vox/clean-pretrain/large_vox_iter5.pt"),
    _avhubert("avhubert-base-noise", "lrs3_vox/noise-pretrain/base_vox_iter5.pt", "noise_base_vox_iter5.pt"),
    _avhubert(
        "avhubert-large-noise", "lrs3_vox/noise-pretrain/large_vox_iter5.pt", "noise_large_vox_iter5.pt"
    ),
    _avhubert("avhubert-base-vsr", "lrs3_vox/vsr/base_vox_433h.pt"),
    _avhubert("avhubert-large-vsr", "lrs3_vox/vsr/large_vox_433h.pt"),
    _avhubert("avhubert-large-vsr-self", "lrs3_vox/vsr/self_large_vox_433h.pt"),
    _avhubert("avhubert-base-avsr", "lrs3_vox/avsr/base_noise_pt_noise_ft_433h.pt"),
    _avhubert("avhubert-large-avsr", "lrs3_vox/avsr/large_noise_pt_noise_ft_433h.pt"),
    WeightFile(
        name="mean-face",
        file_name="20words_mean_face.npy",
        url="https://github.com/mpc001/Lipreading_using_Temporal_Convolutional_Networks/raw/master/"
        "preprocessing/20words_mean_face.npy",
        page="https://github.com/mpc001/Lipreading_using_Temporal_Convolutional_Networks",
        sha256=None,
        licence="non-commercial research only",
        needed_by="mouth crops exactly as AV-HuBERT cuts them",
    ),
    WeightFile(
        name="syncnet",
        file_name="syncnet_v2.model",
        url=_SYNCNET + "syncnet_v2.model",
        page=_SYNCNET_PAGE,
        sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
        licence=_SYNCNET_LICENCE,
        needed_by="LSE-C, LSE-D and AV offset",
    ),
    WeightFile(
        name="sfd",
        file_name="sfd_face.pth",
        url=_SYNCNET + "sfd_face.pth",
        page=_SYNCNET_PAGE,
        sha256="d54a87c2b7543b64729c9a25eafd188da15fd3f6e02f0ecec76ae1b30d86c491",
        licence=_SYNCNET_LICENCE,
        needed_by="LSE protocols that crop faces (syncnet-track, latentsync, mochabench)",
    ),
    WeightFile(
        name="inception-fid",
        file_name="pt_inception-2015-12-05-6726825d.pth",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        page="https://github.com/mseitzer/pytorch-fid",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        licence="Apache-2.0",
        needed_by="FID",
        in_torch_hub=True,
    ),
    WeightFile(
        name="wav2lip",
        file_name="wav2lip.pth",
        url=None,
        page=_WAV2LIP_PAGE,
        sha256="b78b681b68ad9fe6c6fb1debc6ff43ad05834a8af8a62ffc4167b7b34ef63c37",
        licence=_WAV2LIP_LICENCE,
        needed_by="the published Wav2Lip baseline",
    ),
    WeightFile(
        name="wav2lip-gan",
        file_name="wav2lip_gan.pth",
        url=None,
        page=_WAV2LIP_PAGE,
        sha256="ca9ab7b7b812c0e80a6e70a5977c545a1e8a365a6c49d5e533023c034d7ac3d8",
        licence=_WAV2LIP_LICENCE,
        needed_by="the published Wav2Lip + GAN baseline",
    ),
)

WEIGHTS: dict[str, WeightFile] = {weight.name: weight for weight in _FILES}
