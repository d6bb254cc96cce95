"""What every command line shares: common flags, errors as sentences, paths that survive a Ray job."""

from __future__ import annotations

import io
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, NoReturn, TypeVar

import tyro
from rich.markup import escape
from tyro.extras import SubcommandApp

from syncdiff_data.ranges import AT_LEAST_1, check_ranges
from syncdiff_data.records import UserError
from syncdiff_data.tables import at_home

Options = TypeVar("Options")


@dataclass(frozen=True)
class RayOptions:
    """Where and how wide a command runs."""

    workers: int | None = None
    """Parallel tasks; unset means as many as the cluster has room for when the run starts."""
    ray_address: str | None = None
    """Address of a running Ray; unset means $RAY_ADDRESS, else a local Ray that this command starts and stops."""
    device: str = "cpu"
    """Torch device of a task: cpu or cuda."""
    gpus_per_task: float | None = None
    """GPU share of a task, for example 0.25 for four tasks on a GPU; unset means 1 with --device cuda, else 0."""

    def __post_init__(self) -> None:
        check_ranges(self, {"workers": AT_LEAST_1})
        if not re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", self.device):
            raise UserError(f"--device {self.device} is no torch device: expected cpu or cuda.")

    @property
    def gpu_share(self) -> float:
        """What a task asks of Ray. UserError where --device and --gpus-per-task contradict each other.

        A task on a GPU always asks for a share: without one Ray would put every task on the first GPU.
        """
        share, on_gpu = self.gpus_per_task, self.device.startswith("cuda")
        if self.device.startswith("cuda:"):
            raise UserError(
                f"--device {self.device} names a GPU, which is Ray's choice: give --device cuda, and "
                "CUDA_VISIBLE_DEVICES to leave GPUs out."
            )
        if share is not None and (share < 0 or (share > 1 and share != int(share))):
            raise UserError(
                f"--gpus-per-task {share:g}: expected a share from 0 to 1, or a whole number of GPUs."
            )
        if on_gpu and share == 0:
            raise UserError(
                "--device cuda needs a GPU share: leave out --gpus-per-task 0, or say for example 0.25."
            )
        if share and not on_gpu:
            raise UserError(
                f"--gpus-per-task {share:g} asks for GPUs that --device {self.device} does not use."
            )
        return share if share is not None else float(on_gpu)


STDOUT = 1
LONGEST_SENTENCE = 4000
"""Characters of an error that are shown."""

WeightFlags = Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=FILE")]


def run(main: Callable[[Options], None], options: type[Options], description: str | None = None) -> NoReturn:
    """Parse the command line into `options`, call `main` and exit as `exit_with_sentence` says."""
    config = (tyro.conf.OmitArgPrefixes,)
    # Options outside their range raise while they are parsed.
    exit_with_sentence(lambda: main(tyro.cli(options, description=description, config=config)))


def run_commands(commands: Mapping[str, Any], description: str | None = None) -> NoReturn:
    """The same for subcommands: name -> function, or name -> another such mapping."""
    exit_with_sentence(lambda: _app(commands).cli(description=description))


def exit_with_sentence(act: Callable[[], object]) -> NoReturn:
    """Do it and exit: status 0; 2 and one sentence for a UserError and a full disk, 3 for UnexpectedFailures; 130 after
    Ctrl-C, 143 after SIGTERM, as schedulers send it, and 129 where the terminal closes, which lose no finished work; 1
    without a word where nobody reads the output any longer."""
    ended_by = signal.SIGINT

    def terminate(number: int, frame: object) -> None:
        nonlocal ended_by
        ended_by = signal.Signals(number)
        raise KeyboardInterrupt  # the one exception that Ray passes on from where it waits

    signal.signal(signal.SIGTERM, terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` has it
        signal.signal(signal.SIGHUP, terminate)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names in a locale that lacks their letters
    try:
        _check_working_directory()
        act()
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None
    except BrokenPipeError:
        if _is_read(STDOUT):  # it is another pipe that broke, such as a worker's
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # for what is not yet written
        raise SystemExit(1) from None
    except OSError as error:
        from syncdiff_data.stage.faults import run_fault  # which imports this module

        fault = run_fault(error)
        if fault is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        raise SystemExit(fault.exit_status) from None
    except KeyboardInterrupt:
        # Once more, while Ray ends: at once, without its stack.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        with suppress(OSError):  # the terminal is gone
            print("stopped; what is finished stays, run the same command again to go on", file=sys.stderr)
        raise SystemExit(128 + ended_by) from None
    raise SystemExit(0)


def printable(text: str) -> str:
    """A sentence as a terminal may show it: names in it are not its commands, and a name of a megabyte is shortened."""
    shown = "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )
    if len(shown) > LONGEST_SENTENCE:
        half = LONGEST_SENTENCE // 2
        shown = f"{shown[:half]} ... {shown[-half:]}"
    return shown


def for_console(text: str) -> str:
    """The same for Rich, to which square brackets are no markup then."""
    return escape(printable(text))


def _is_read(number: int) -> bool:
    """False for an open file that is a pipe nobody reads any longer, as in `... --help | head`."""
    poll = select.poll()
    poll.register(number, 0)
    return not any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _open_closed_streams() -> None:
    """/dev/null for standard streams that are closed (`2>&-`): Ray needs them, and the next files that are opened would
    get their numbers, and with them what libraries print."""
    for name in ("stdin", "stdout", "stderr"):  # numbers 0 to 2: a new file gets the lowest that is free
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w"))


def _check_working_directory() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(
            f"the working directory is gone ({error.strerror}): change to a folder that exists and run it again."
        ) from None


def _app(commands: Mapping[str, Any]) -> SubcommandApp:
    app = SubcommandApp()
    for name, target in commands.items():
        app.command(_app(target) if isinstance(target, Mapping) else target, name=name)
    return app


def inside_ray_job(environment: Mapping[str, str] = os.environ) -> bool:
    """True in a process that `ray job submit` started."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in environment


def user_path(flag: str, value: str | Path) -> str:
    """The absolute form of a path flag; URIs stay as they are.

    Raises UserError for a relative path inside a Ray job, whose working directory is a temporary copy.
    """
    text = str(value)
    if "://" in text:
        return text
    path = at_home(flag, text)
    if not path.is_absolute() and inside_ray_job():
        raise UserError(
            f"{flag} {text} is relative, and a Ray job runs in a temporary copy of the working directory: "
            "give an absolute path that every node sees."
        )
    return str(path.absolute())


def optional_path(flag: str, value: Path | None) -> Path | None:
    """`user_path` of a flag that may be unset."""
    return None if value is None else Path(user_path(flag, value))


def shared_path(flag: str, value: str | Path) -> str:
    """`user_path` of what every node works with. UserError where it is not UTF-8, which Ray and Parquet want."""
    path = user_path(flag, value)
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{flag} {path!r} is not UTF-8: rename the folder.") from error
    return path


def check_writable(flag: str, out: Path) -> None:
    """UserError, before any work, where no file of that name can be written. flag: what it comes from."""
    try:
        with suppress(FileNotFoundError):
            out.lstat()
        folder = next(parent for parent in out.parents if parent.exists())
        with TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        said = getattr(error, "strerror", None) or error
        raise UserError(f"{flag} {str(out)!r} cannot be written ({said}): choose another place.") from error
