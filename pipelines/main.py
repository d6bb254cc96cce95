"""The command `syncdiff`: every pipeline and tool as a subcommand, loaded only when it is asked for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version


@dataclass(frozen=True)
class Command:
    """Where a subcommand lives: a module with a function `command`, and what it is for."""

    module: str
    summary: str
    extra: str
    """The extra of the package that holds what the module imports."""


COMMANDS = {
    "preprocess": Command(
        "syncdiff_pipelines.preprocess", "videos to a data set of aligned face clips", "data"
    ),
    "extract-features": Command(
        "syncdiff_pipelines.extract_features",
        "features of a data set's clips, in shards beside its own",
        "data",
    ),
    "train": Command("syncdiff_pipelines.train", "train a model on clips and features", "model"),
    "synthesize": Command(
        "syncdiff_pipelines.synthesize", "dub a video with a sound, or a list of pairs", "model"
    ),
    "benchmark": Command(
        "syncdiff_pipelines.benchmark", "score methods against real video: a leaderboard", "eval"
    ),
    "demo": Command("syncdiff_pipelines.demo", "the whole chain once, on generated talkers", "all"),
    "data": Command(
        "syncdiff_data.__main__", "inspect or validate a data set; get third-party weights", "data"
    ),
    "report": Command("syncdiff_eval.__main__", "inspect or validate a leaderboard's report", "eval"),
}


def usage() -> str:
    """What `syncdiff --help` prints."""
    lines = [f"  {name:18}{command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: syncdiff [--version] COMMAND ...",
            "",
            "Talking-face video to Parquet shards, a compact SyncDiff model, dubs, and lip-sync leaderboards.",
            "",
            *lines,
            "",
            "`syncdiff COMMAND --help` states every flag with its default.",
        ]
    )


def main() -> None:
    """Run the subcommand that the command line names, with the rest of the line as its own."""
    arguments = sys.argv[1:]
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(usage())
    elif name == "--version":
        print(f"syncdiff {version('syncdiff')}")
    elif name in COMMANDS:
        sys.argv = [f"syncdiff {name}", *arguments[1:]]
        run(COMMANDS[name])
    else:
        print(f"error: there is no command {name!r}\n\n{usage()}", file=sys.stderr)
        raise SystemExit(2)


def run(command: Command) -> None:
    """Load the subcommand's module and hand over to it. A dependency that is not installed is one sentence, and so is
    Ctrl-C while it loads."""
    try:
        import_module(command.module).command()
    except ModuleNotFoundError as error:
        if (error.name or "syncdiff").startswith("syncdiff"):
            raise
        print(
            f"error: {error.name} is not installed: pip install 'syncdiff[{command.extra}]' has what this command "
            "needs.",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("stopped before it began", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
