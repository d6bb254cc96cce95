"""Any generator dubs through one path: SyncDiff by its folder, the published Wav2Lip by its name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import save_tiny_model

from syncdiff_data.demo import talker_clip
from syncdiff_data.features import mel_windows_at
from syncdiff_data.media import Video, write_video
from syncdiff_data.records import UserError
from syncdiff_model.dubbing import Dubber, DubConfig, DubPair
from syncdiff_model.generators import load_generator, model_fingerprint, resolve_model
from syncdiff_model.pipeline import SyncDiffPipeline
from syncdiff_model.rollout import SamplingConfig
from syncdiff_model.wav2lip.faces import generate_faces
from syncdiff_model.wav2lip.generator import Wav2LipGenerator
from syncdiff_model.wav2lip.network import Wav2Lip


def test_a_folder_is_the_model_that_its_index_names(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "run" / "checkpoints" / "step-00000007")
    assert isinstance(load_generator(str(tmp_path / "run"), SamplingConfig(), {}), SyncDiffPipeline)
    assert resolve_model(str(tmp_path / "run")) == str(folder)
    assert len(model_fingerprint(str(folder), {})) == 16
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "Autoencoder"}))
    with pytest.raises(UserError, match="holds Autoencoder, which does not dub"):
        load_generator(str(folder), SamplingConfig(), {})


def test_published_weights_that_are_not_here_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("SYNCDIFF_WEIGHTS", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(UserError, match="wav2lip"):
        load_generator("wav2lip", SamplingConfig(), {})


def test_wav2lip_dubs_through_the_common_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded weights: what is pasted is what the network makes of the crops and of each frame's own mel window."""
    torch.manual_seed(0)
    generator = Wav2LipGenerator(Wav2Lip().eval())
    frames, audio, _ = talker_clip(1, num_frames=12)
    write_video(tmp_path / "talker.mp4", frames, audio)
    calls = []
    advance = generator.advance

    def recorded(states, crops, times, heartbeat=lambda: None):  # type: ignore[no-untyped-def]
        made = advance(states, crops, times, heartbeat)
        calls.append((states[0], crops[0], times[0], made[0]))
        return made

    monkeypatch.setattr(generator, "advance", recorded)
    pair = DubPair(tmp_path / "talker.mp4", tmp_path / "talker.mp4", tmp_path / "dub.mp4")
    assert Dubber(generator, DubConfig()).dub(pair) is None
    ((sound, crops, times, made),) = calls
    assert crops.shape == (12, 96, 96, 3)
    assert np.allclose(times, np.arange(12) / 25)
    assert np.array_equal(made, generate_faces(generator.network, crops, mel_windows_at(sound, times)))
    assert Video(tmp_path / "dub.mp4", fps=None).num_frames == 12
