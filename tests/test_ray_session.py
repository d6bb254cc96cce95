"""Ray that cannot be had, nodes that see other things, actors that are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from unittest.mock import Mock

import numpy as np
import pytest
from runs import ROOT, extract, pipeline, preprocess, python
from stub_faces import write_colour

from syncdiff_data.cli import RayOptions, exit_with_sentence
from syncdiff_data.extract import ExtractStage
from syncdiff_data.loader.config import LoaderConfig
from syncdiff_data.loader.index import build_index
from syncdiff_data.reasons import Reason
from syncdiff_data.records import Clip, UserError
from syncdiff_data.shards import Store, load_dataset, read_features, read_rejects
from syncdiff_data.shards.validate import validate
from syncdiff_data.stage import (
    Context,
    Failure,
    Stage,
    UnexpectedFailures,
    probe,
    probe_nodes,
    ray_session,
    run_stage,
)
from syncdiff_data.stage.actor import RunClient
from syncdiff_data.stage.session import SOCKET_BELOW_TEMP, STARTS, _short_temp_folder, _start_ray, _usable

SCRIPT = """
import sys
from syncdiff_data.cli import RayOptions, exit_with_sentence
from syncdiff_data.stage import ray_session
def act():
    with ray_session(RayOptions(workers=1)):
        import ray
        print("answer", ray.get(ray.remote(lambda: 6 * 7).remote()))
exit_with_sentence(act)
"""


# Kind 4: Ray that cannot be had


def test_kind_4_an_address_where_nobody_is() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = python(SCRIPT, RAY_ADDRESS=address)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no Ray answers at {address}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_kind_4_an_address_where_something_else_is(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("syncdiff_data.stage.session.ANSWER_WITHIN_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        pid = os.fork()
        if pid == 0:
            connection, _ = server.accept()
            connection.sendall(answer)
            time.sleep(30)
            os._exit(0)
        try:
            with (
                pytest.raises(UserError, match=rf"{address}.*Start one with"),
                ray_session(RayOptions(ray_address=address)),
            ):
                pass
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def test_kind_4_the_address_of_a_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with (
        pytest.raises(UserError, match=r"address of a dashboard: give it to `ray job submit"),
        ray_session(RayOptions(ray_address="http://127.0.0.1:8265")),
    ):
        pass


def test_kind_4_a_long_temporary_folder_and_no_home(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    done = python(SCRIPT, TMPDIR=str(long), HOME="/proc/nowhere")
    assert done.stdout == "answer 42\n", done.stderr
    assert done.returncode == 0


def test_kind_4_a_temporary_folder_of_our_own_is_short_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 90)))
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with _short_temp_folder() as folder:
        assert folder is not None
        assert len(folder + SOCKET_BELOW_TEMP) <= 107
    assert not Path(folder).exists()
    monkeypatch.setattr("syncdiff_data.stage.session._usable", lambda folder: False)
    with pytest.raises(UserError, match=r"^Ray needs a temporary folder"), _short_temp_folder():
        pass


def test_kind_4_a_temporary_folder_that_is_not_ascii() -> None:
    with tempfile.TemporaryDirectory(prefix="hö", dir="/tmp") as folder:
        assert not _usable(folder)


def test_kind_4_a_removed_working_directory(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n" + SCRIPT
    done = python(script)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the working directory is gone")
    assert len(done.stderr.splitlines()) == 1


def test_kind_4_too_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("resource.getrlimit", lambda kind: (64, 64))
    options = RayOptions(ray_address="local")
    with pytest.raises(UserError, match="may have 64 open files, and Ray needs 256"), ray_session(options):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")
def test_kind_4_a_machine_that_cannot_talk_to_itself() -> None:
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("no network of its own here")
    done = python(SCRIPT, prefix=("unshare", "--net"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: this machine cannot connect to itself at 127.0.0.1")


def test_sigterm_while_ray_starts_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**options: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does first
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ray, "init", init)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as ended:
            exit_with_sentence(_start_ray)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended.value.code == 143


class BusyRay:
    """`ray.init` of a machine that is too busy for the first `late` starts."""

    def __init__(self, late: int):
        self.late, self.starts = late, 0

    def __call__(self, **options: object) -> None:
        self.starts += 1
        if self.starts <= self.late:
            raise Exception("The current node timed out during startup. This could happen because ...")


def test_kind_4_a_busy_machine_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "init", busy := BusyRay(late=STARTS - 1))
    _start_ray()
    assert busy.starts == STARTS
    monkeypatch.setattr(ray, "init", busy := BusyRay(late=STARTS))
    with pytest.raises(UserError, match="less busy machine"):
        _start_ray()
    assert busy.starts == STARTS


RELEASED_LATE = """
import threading
from syncdiff_data.cli import RayOptions, exit_with_sentence
from syncdiff_data.stage import ray_session
def release(refs):
    while refs:
        refs.pop()
def act():
    with ray_session(RayOptions(workers=1)):
        import ray
        refs = [ray.put(number) for number in range(20_000)]
        threading.Thread(target=release, args=(refs,), name="StreamingExecutor-0", daemon=True).start()
    print("ended well")
exit_with_sentence(act)
"""


@pytest.mark.slow
def test_ray_data_that_releases_objects_late_does_not_end_the_process() -> None:
    done = python(RELEASED_LATE)
    assert (done.returncode, done.stdout) == (0, "ended well\n"), done.stderr


# Kind 24: what every node must see


def test_kind_24_a_good_cluster_passes_and_the_probe_leaves_nothing(
    tmp_path: Path, ray_session: None
) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"123")
    probe_nodes(str(tmp_path / "out"), {str(video): 3})
    assert list((tmp_path / "out").iterdir()) == []


def test_kind_24_sources_that_a_node_does_not_see(tmp_path: Path, ray_session: None) -> None:
    out, video = str(tmp_path / "out"), tmp_path / "a.mp4"
    with pytest.raises(UserError, match=r"^node .* cannot read .*a\.mp4 \(No such file"):
        probe_nodes(out, {str(video): 3})
    video.write_bytes(b"1")
    with pytest.raises(UserError, match=r"^node .* sees .*a\.mp4 with 1 bytes instead of 3"):
        probe_nodes(out, {str(video): 3})


def test_kind_24_an_output_that_cannot_be_written(tmp_path: Path, ray_session: None) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"/file/out.* cannot be used \(Not a directory\)"):
        probe_nodes(str(tmp_path / "file" / "out"), {})


def test_a_node_that_is_lost_during_the_check_is_left_out(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    here = ray.nodes()
    lost = {"NodeID": "ab" * 28, "Alive": True, "Resources": {"CPU": 1}, "NodeManagerHostname": "lost"}
    monkeypatch.setattr("ray.nodes", Mock(side_effect=[[*here, lost], here]))
    probe_nodes(str(tmp_path), {})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("ray.nodes", lambda: [*here, lost])
    with pytest.raises(UserError, match=r"^node lost was lost during the check"):
        probe_nodes(str(tmp_path), {})


def test_kind_24_folders_of_one_name_on_two_machines(tmp_path: Path) -> None:
    """The node's half against an output that the driver did not write, and the driver's against an empty one."""
    here, there = tmp_path / "here", tmp_path / "there"
    Store(here).write_text("probe-t.tmp", "t")
    there.mkdir()
    answer = probe._probe(str(there), "probe-t.tmp", "t", "n1", {})
    assert "does not see in" in str(answer.problem)
    assert probe._probe(str(here), "probe-t.tmp", "t", "n1", {}).problem is None
    assert probe._unshared(Store(here), "t", "n1") is None
    assert "this command does not see it" in str(probe._unshared(Store(there), "t", "n1"))


def test_kind_24_other_libraries_are_named() -> None:
    here = probe.libraries()
    assert probe._other_libraries(here, here) is None
    there = dict(here) | {"av": "1.0"}
    assert f"(av 1.0 there, {here['av']} here)" in str(probe._other_libraries(there, here))


# Kind 42: progress cannot fail a run


@dataclass(frozen=True)
class Murderous(Stage[int, int]):
    """Kills the run's actor in its third plan, for good or so that Ray starts it again."""

    actor: RunClient
    for_good: bool

    title = "murder"
    unit = "plans"
    plans_per_block = 1

    def item_name(self, plan: int) -> str:
        return str(plan)

    def process(self, plan: int, context: Context) -> int:
        import ray

        if plan == 2:
            ray.kill(self.actor.actor, no_restart=self.for_good)
        context.report({"plans": 1})
        return plan

    def failed(self, plan: int, failure: Failure) -> int:
        raise AssertionError(failure.detail)


@pytest.mark.parametrize("for_good", [True, False])
def test_kind_42_a_killed_progress_actor_costs_nothing(
    for_good: bool, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunClient.start()
    monkeypatch.setattr(RunClient, "start", classmethod(lambda cls: run))
    assert run_stage(Murderous(run, for_good), range(8), RayOptions(workers=2)) == list(range(8))


@dataclass(frozen=True)
class TakesTheActorAlong(Murderous):
    """What Ray does where an item fills the memory of the driver's node: it ends worker and actor at once."""

    def process(self, plan: int, context: Context) -> int:
        import ray

        if plan == 2:
            os.kill(ray.get(self.actor.actor.__ray_call__.remote(lambda _: os.getpid())), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        return plan

    def failed(self, plan: int, failure: Failure) -> int:
        assert failure.reason == Reason.WORKER_CRASHED
        return -plan


def test_kind_31_crash_counts_outlive_their_actor(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunClient.start()
    monkeypatch.setattr(RunClient, "start", classmethod(lambda cls: run))
    results = run_stage(TakesTheActorAlong(run, True), range(4), RayOptions(workers=1))
    assert results == [0, 1, -2, 3]


# Kind 40, 35: the second stage has the same engine


class StubEncoder:
    """Two numbers a frame. The clip of 13 frames, alone or in a group, goes wrong as `what` says."""

    columns: ClassVar = {"logfbank": 2}

    def __init__(self, what: str):
        self.what = what

    def encode(self, clips: Sequence[Clip]) -> list[dict[str, np.ndarray]]:
        odd = any(clip.num_frames == 13 for clip in clips)
        if odd and self.what == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if odd and self.what == "bug":
            raise ZeroDivisionError("a bug in this encoder")
        return [{"logfbank": self._vectors(clip.num_frames)} for clip in clips]

    def _vectors(self, count: int) -> np.ndarray:
        value = 70_000 if count == 13 and self.what == "overflow" else 1
        return np.full((count, 2), value, np.float32)


class CrashingExtract(ExtractStage):
    what = "crash"

    @cached_property
    def _encoder(self) -> StubEncoder:  # type: ignore[override]
        return StubEncoder(self.what)


class OverflowingExtract(CrashingExtract):
    what = "overflow"


class BuggyExtract(CrashingExtract):
    what = "bug"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """One shard of three clips, of which the middle one has 13 frames."""
    folder = tmp_path_factory.mktemp("three")
    for name, frames in {"a": 12, "b": 13, "c": 14}.items():
        write_colour(folder / "videos" / f"{name}.mp4", "face", frames)
    preprocess(folder / "videos", folder / "clips", shard_size=3)
    return folder / "clips"


@pytest.mark.parametrize(
    ("kind", "stage", "reason"),
    [
        pytest.param("40", CrashingExtract, "worker_crashed", marks=pytest.mark.slow),
        ("35", OverflowingExtract, "feature_overflow"),
        ("14", BuggyExtract, "unexpected_error"),
    ],
)
def test_kinds_40_35_14_one_clip_does_not_end_the_extraction(
    kind: str,
    stage: type[ExtractStage],
    reason: str,
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "features"
    monkeypatch.setattr(pipeline("extract_features"), "ExtractStage", stage)
    for _ in range(2):  # the second run finds it all done
        with pytest.raises(UnexpectedFailures) if reason == "unexpected_error" else nullcontext():
            extract(clips, out)
    assert [len(features["logfbank"]) for _, features in read_features(out)] == [12, 0, 14]
    (reject,) = read_rejects(out)
    assert (reject.source, reject.stage, reject.reason) == ("b.mp4", "encoder", reason)
    description = load_dataset(Store(out), "features")
    assert description.counts["rejects_by_reason"] == {reason: 1}
    assert validate(out, clips) == []
    index = build_index(Store(clips), Store(out), LoaderConfig(window=1))
    assert index.num_frames.tolist() == [12, 14], "the loader leaves the clip out"


# The GPU path, on a machine without one

GPU_SCRIPT = """
import os, signal, sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
import ray
from syncdiff_data.cli import RayOptions
from syncdiff_data.stage import Stage, run_stage, ray_session

@dataclass(frozen=True)
class Devices(Stage):
    notes: str
    title = "devices"
    plans_per_block = 1
    def item_name(self, plan): return str(plan)
    def setup(self): Path(self.notes, f"setup-{os.getpid()}").touch()
    def process(self, plan, context):
        if plan == 1: os.kill(os.getpid(), signal.SIGKILL)
        return os.environ.get("CUDA_VISIBLE_DEVICES"), os.getpid()
    def failed(self, plan, failure): return str(failure.reason), 0

ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
with ray_session(RayOptions()):
    gpu = run_stage(Devices(sys.argv[1]), range(6), RayOptions(device="cuda", gpus_per_task=0.5))
    print([device for device, _ in gpu])
    print(len({pid for _, pid in gpu if pid}) <= 4)
    print([device for device, _ in run_stage(Devices(sys.argv[2]), [0, 2], RayOptions())])
"""


@pytest.mark.slow
def test_kind_33_actors_share_the_gpu_and_tasks_see_none(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("gpu", "cpu")]
    for folder in folders:
        folder.mkdir()
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    done = subprocess.run(
        [sys.executable, "-c", GPU_SCRIPT, *map(str, folders)],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "['0', 'worker_crashed', '0', '0', '0', '0']",
        "True",
        "['', '']",
    ], done.stderr[-3000:]
