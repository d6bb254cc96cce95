"""AV-HuBERT's upper blocks trained with the model: the paper's best setting, on seeded weights."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_model_training import SETTINGS, TRAIN, WINDOW, Batches, batch

from syncdiff_data.avhubert.config import EncoderConfig
from syncdiff_data.avhubert.encoder import AVHubertEncoder
from syncdiff_model.audio import AVHubertTop, span_of_windows, windows_of_span
from syncdiff_model.autoencoder import build_autoencoder
from syncdiff_model.checkpoint import load_syncdiff
from syncdiff_model.rollout import refine
from syncdiff_model.tasks.audio import Origin
from syncdiff_model.tasks.syncdiff import TOP_RATE, SyncDiffTask
from syncdiff_model.training import Trainer

SHAPE = EncoderConfig(layers=4, width=16, ffn=32, heads=2, pos_kernel=4, pos_groups=2)
STORED, REACH, CONTEXT = 2, 2, 3
TOP = replace(SETTINGS.conditioning, pose="none", avhubert_top=True, reach=REACH, context=CONTEXT)


def encoder() -> AVHubertEncoder:
    torch.manual_seed(0)
    return AVHubertEncoder(SHAPE).eval()


class Hidden(Batches):
    """Batches whose features are hidden states of block STORED, K + 2 reach frames around each frame."""

    def __iter__(self):  # type: ignore[no-untyped-def]
        return (hidden_batch(made) for made in super().__iter__())


def hidden_batch(made: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(1)
    span = torch.randn(2, WINDOW + CONTEXT + 2 * REACH - 1, SHAPE.width)
    return made | {"features": windows_of_span(span, CONTEXT + 2 * REACH)}


def task(trained: bool) -> SyncDiffTask:
    settings = replace(SETTINGS, conditioning=TOP if trained else replace(TOP, avhubert_top=False, reach=0))
    few = (
        [hidden_batch(batch(1))]
        if trained
        else [batch(1) | {"features": torch.randn(2, WINDOW, CONTEXT, SHAPE.width)}]
    )
    origin = Origin({"encoder": "avhubert", "checkpoint": "avhubert-base"}, f"layer{STORED}", {})
    torch.manual_seed(0)
    autoencoder = build_autoencoder(settings.autoencoder)
    return SyncDiffTask.fresh(settings, autoencoder, origin, few, avhubert=encoder() if trained else None)


def test_the_upper_blocks_equal_the_whole_encoder() -> None:
    whole = encoder()
    top = AVHubertTop(asdict(SHAPE), STORED)
    top.copy_from(whole)
    hidden = torch.randn(2, 7, SHAPE.width)
    inside = torch.ones(2, 7, dtype=torch.bool)
    inside[1, 5:] = False
    theirs = whole.resume_from(STORED, hidden, ~inside)
    assert torch.allclose(top(hidden, inside)[inside], theirs[inside], atol=1e-5)


def test_windows_and_spans_are_inverse() -> None:
    span = torch.randn(2, 9, 4)
    assert torch.equal(span_of_windows(windows_of_span(span, 5)), span)


def test_training_the_upper_blocks_reaches_them_all_at_a_tenth_of_the_rate(tmp_path: Path) -> None:
    made = task(trained=True)
    groups = made.parameter_groups("all")
    assert [rate for _, rate in groups] == [1.0, TOP_RATE]
    top = made.model.conditioner.top
    assert top is not None
    before = {name: value.clone() for name, value in top.state_dict().items()}
    trainer = Trainer(made, Hidden(same=True), replace(TRAIN, steps=40), tmp_path)  # type: ignore[arg-type]
    losses = trainer.run()
    assert sum(losses[-10:]) / 10 < losses[0] / 2
    first = top.blocks[0].self_attn.q_proj.weight
    assert first.grad is not None
    assert first.grad.abs().sum() > 0, "gradients reach the first block above the stored layer"
    assert all(
        not torch.equal(value, before[name])
        for name, value in top.state_dict().items()
        if "k_proj.bias" not in name
    )
    model = load_syncdiff(tmp_path)
    assert model.conditioner.config.avhubert == asdict(SHAPE)
    refined = refine(model, torch.randn(20, SHAPE.width).numpy())
    assert refined.shape == (20, SHAPE.width)


def test_frozen_hidden_states_are_features_like_any_others(tmp_path: Path) -> None:
    made = task(trained=False)
    assert made.model.conditioner.top is None
    assert len(made.parameter_groups("all")) == 1

    class Frozen(Batches):
        def __iter__(self):  # type: ignore[no-untyped-def]
            draw = torch.Generator().manual_seed(3)
            features = torch.randn(2, WINDOW, CONTEXT, SHAPE.width, generator=draw)
            return (made | {"features": features} for made in super().__iter__())

    losses = Trainer(made, Frozen(same=True), replace(TRAIN, steps=40), tmp_path).run()  # type: ignore[arg-type]
    assert sum(losses[-10:]) / 10 < losses[0] / 2


def test_long_sounds_are_refined_in_pieces_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    from syncdiff_model import rollout

    model = task(trained=True).model
    model.conditioner.eval()
    features = torch.randn(30, SHAPE.width).numpy()
    monkeypatch.setattr(rollout, "REFINED_AT_ONCE", 10)
    pieces = refine(model, features)
    assert pieces.shape == (30, SHAPE.width)
    inside = torch.ones(1, 10 + REACH, dtype=torch.bool)
    first = model.conditioner.refine(torch.from_numpy(features[None, : 10 + REACH]), inside)[0, :10]
    assert torch.allclose(pieces[:10], first, atol=1e-5)
