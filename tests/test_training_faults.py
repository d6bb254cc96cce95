"""Training beside another command, on a full disk, and after kills: what it leaves and what it says."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from syncdiff_data.cli import exit_with_sentence
from syncdiff_data.loader import ClipWindows, Loader, LoaderConfig
from syncdiff_data.loader.stream import is_lost_worker
from syncdiff_data.records import UserError
from syncdiff_model.checkpoint import list_checkpoints, prune, replace_folder, save_parts, tidy
from syncdiff_model.distributed import Peers
from syncdiff_model.event_log import EVENTS, open_event_log
from syncdiff_model.presets import Settings
from syncdiff_model.runs import RunOptions, TrainingData, open_run, train_autoencoder

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path) -> None:
    settings = Settings()
    options = RunOptions(tmp_path, resume=True)
    with (
        open_run(options, "autoencoder", settings, settings.train_autoencoder),
        pytest.raises(UserError, match="is being written by another command"),
    ):
        train_autoencoder(TrainingData(tmp_path), settings, options)


def test_a_killed_run_leaves_what_the_next_one_puts_right(tmp_path: Path) -> None:
    """Half written, half removed, and between the two renames that replace a folder."""
    for name in ("best.previous.tmp", "checkpoints/step-00000002", "checkpoints/step-00000001.77.tmp"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "best.previous.tmp" / "weights").write_text("the best so far")
    (tmp_path / "run.json.host-77.tmp").touch()
    tidy(tmp_path)
    assert (tmp_path / "best" / "weights").read_text() == "the best so far"
    assert {path.name for path in tmp_path.iterdir()} == {"best", "checkpoints"}
    assert list_checkpoints(tmp_path) == list((tmp_path / "checkpoints").iterdir())


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        (tmp_path / "checkpoints" / f"step-{step:08d}" / "part").mkdir(parents=True)
    prune(tmp_path, 2)
    assert [path.name[-1] for path in (tmp_path / "checkpoints").iterdir()] in (["2", "3"], ["3", "2"])


def save_state(folder: Path) -> None:
    (folder / "state.pt").symlink_to("/dev/full")
    with (folder / "state.pt").open("wb") as file:
        torch.save({"weights": torch.zeros(100_000)}, file)


class Part:
    def save_pretrained(self, folder: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("fill", [save_state, lambda folder: save_parts(folder, "Model", {"part": Part()})])
def test_a_full_disk_is_a_sentence_whatever_torch_raises(fill: Any, tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    with pytest.raises(UserError, match="best could not be written: No space left on device"):
        replace_folder(tmp_path / "best", fill)
    assert list(tmp_path.iterdir()) == [tmp_path / "best"]


def test_what_is_no_fault_of_the_disk_is_raised_as_it_is(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise RuntimeError("a fault of our own")

    with pytest.raises(RuntimeError, match="of our own"):
        replace_folder(tmp_path / "best", fill)


def test_a_log_on_a_full_disk_is_a_sentence_without_a_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(*_: Any) -> None:
        raise FULL

    def log_a_loss() -> None:
        with open_event_log(tmp_path, 0) as log:
            monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", write)
            log.add_scalar("loss", 1.0, 1)
            log.flush()

    with pytest.raises(UserError, match="tensorboard could not be written: No space left"):
        log_a_loss()
    assert "Traceback" not in capsys.readouterr().err


def test_a_resumed_log_keeps_the_step_of_its_checkpoint_and_hides_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of one process and one second, TensorBoard sorts its files by this number as text: 10 before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    for step, losses in ((0, {1: 1.0, 2: 2.0, 3: 3.0}), (2, {3: 30.0, 4: 40.0})):
        with open_event_log(tmp_path, step) as log:
            for number, loss in losses.items():
                log.add_scalar("loss", loss, number)
    events = EventAccumulator(str(tmp_path / EVENTS))
    events.Reload()
    assert {event.step: event.value for event in events.Scalars("loss")} == {1: 1.0, 2: 2.0, 3: 30.0, 4: 40.0}


def test_a_full_disk_outside_of_stages_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> None:
        raise FULL

    with pytest.raises(SystemExit) as ended:
        exit_with_sentence(act)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: No space left on device")


def test_a_process_that_reads_batches_and_is_killed_is_known_as_lost(dataset: tuple[str, str]) -> None:
    loader = Loader(ClipWindows(*dataset, LoaderConfig(batch_size=2, window=2, context=3)), workers=1)
    batches = iter(loader)
    next(batches)
    (reader,) = _readers(os.getpid())

    def kill_and_go_on() -> None:
        os.kill(reader, signal.SIGKILL)
        for _ in range(100):
            next(batches)

    with pytest.raises(RuntimeError) as raised:
        kill_and_go_on()
    assert is_lost_worker(raised.value)
    assert not is_lost_worker(RuntimeError("Caught RuntimeError in DataLoader worker process 0."))


def _readers(pid: int) -> Iterator[int]:
    """Children of the fork server of this process."""
    for child in _children(pid):
        if b"forkserver" in Path(f"/proc/{child}/cmdline").read_bytes():
            yield from _children(child)


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in tasks for child in file.read_text().split()]


class TwoHeads(torch.nn.Module):
    """One of them takes no part in the loss, as the map of the audio network."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x).sum()


def test_workers_train_networks_of_which_a_part_is_not_used(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/peers", rank=0, world_size=1)
    try:
        shared = Peers(0, 2).wrap(TwoHeads())
        for _ in range(2):
            shared(torch.ones(1, 1)).backward()
    finally:
        torch.distributed.destroy_process_group()
