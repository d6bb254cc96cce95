"""Reported kinds of faults in the training loader: the order's fingerprint, ranks, threads before a fork."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from loader_data import make_dataset, numbered_clip

from syncdiff_data.loader.config import LoaderConfig
from syncdiff_data.loader.stream import ClipWindows, into_shared_memory
from syncdiff_data.records import UserError


def loaders(root: Path, world_size: int, **options: Any) -> list[ClipWindows]:
    config = LoaderConfig(window=2, epochs=1, windows_per_visit=1, **options)
    return [ClipWindows(root, None, config, rank, world_size) for rank in range(world_size)]


def test_kind_32_another_layout_of_shards_is_another_order(tmp_path: Path) -> None:
    clips = [numbered_clip(number, 6) for number in range(6)]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    two, _ = make_dataset(tmp_path / "a", [clips[:3], clips[3:]])
    three, _ = make_dataset(tmp_path / "b", [clips[:2], clips[2:4], clips[4:]])
    (first,), (second,) = loaders(Path(two), 1), loaders(Path(three), 1)
    assert first.order_fingerprint != second.order_fingerprint


@pytest.mark.parametrize(("clips", "batch_size", "world_size"), [(7, 2, 2), (7, 2, 3), (8, 2, 2), (5, 1, 2)])
def test_kind_32_ranks_get_equally_many_whole_batches(
    tmp_path: Path, clips: int, batch_size: int, world_size: int
) -> None:
    root, _ = make_dataset(tmp_path, [[numbered_clip(number, 6) for number in range(clips)]])
    counts = [
        [len(batch["clip_id"]) for batch in loader]
        for loader in loaders(Path(root), world_size, batch_size=batch_size)
    ]
    assert counts == [[batch_size] * (clips // (batch_size * world_size))] * world_size
    (alone,) = loaders(Path(root), 1, batch_size=batch_size)
    assert sum(len(batch["clip_id"]) for batch in alone) == clips


def test_kind_36_the_loader_works_after_opencv_used_threads_in_the_parent(tmp_path: Path) -> None:
    """A forked worker would wait for threads of OpenCV's pool that a fork does not copy."""
    root, _ = make_dataset(tmp_path, [[numbered_clip(number, 6) for number in range(4)]])
    script = f"""
import cv2, numpy as np
cv2.setNumThreads(2)
cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (2000, 2000, 3), np.uint8), (31, 31), 5)
from syncdiff_data.loader import ClipWindows, Loader, LoaderConfig
if __name__ == "__main__":
    config = LoaderConfig(window=2, epochs=1, windows_per_visit=1, batch_size=2)
    print(sum(1 for _ in Loader(ClipWindows({root!r}, None, config), workers=2)))
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


def test_a_killed_training_leaves_no_processes(tmp_path: Path) -> None:
    """Workers and their fork server used to wait for each other's end."""
    root, _ = make_dataset(tmp_path, [[numbered_clip(number, 6) for number in range(4)]])
    (tmp_path / "script.py").write_text(f"""
import time
from syncdiff_data.loader import ClipWindows, Loader, LoaderConfig
if __name__ == "__main__":
    config = LoaderConfig(window=2, windows_per_visit=1, batch_size=2)
    for _ in Loader(ClipWindows({root!r}, None, config), workers=2):
        print("a batch", flush=True)
        time.sleep(600)
""")
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True
    ) as training:
        try:
            assert training.stdout
            assert training.stdout.readline() == "a batch\n"
            left = psutil.Process(training.pid).children(recursive=True)
            assert len(left) >= 3, "two workers and their fork server"
        finally:
            training.kill()
    assert not psutil.wait_procs(left, timeout=60)[1]


def test_a_batch_without_room_in_shared_memory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has 64 MB of it by default. In a DataLoader's own hands such a batch is lost."""
    batch = {"frames": torch.zeros(4, 5), "clip_id": ["a"]}
    assert into_shared_memory(batch)["frames"].is_shared()

    def full(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(UserError, match=r"/dev/shm.*No space left.*--shm-size"):
        into_shared_memory({"frames": torch.zeros(4, 5)})
