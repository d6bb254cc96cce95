"""One engine for resumable work on Ray: preprocess, extract, synthesize lists and benchmark are stages of it.

A stage is a subclass of `Stage[Plan, Result]`: `setup()` loads models once per worker process, `process(plan,
context)` does the work of one plan. `run_stage(stage, plans, options)` returns one result per plan, in their order.

- The stage travels once to each worker process, so what all plans share belongs into it; a plan carries its own few
  lines. Many plans make one Ray task (`plans_per_block`).
- `process` must be idempotent: Ray runs the block of a lost worker again, without limit. It looks for its finished
  output first.
- An item is what can fail by itself: the whole plan where `item_name(plan)` names it, else each source inside a
  shard that `process` gives to `context.item(name, produce)`. While an item is processed, its worker must call
  `context.heartbeat()`; a worker that sends none for `heartbeat_timeout` seconds is ended, which counts as a crash.
- An item that crashes its worker three times in a row is not tried again: `Failure` with worker_crashed.
- What the disk or the mount does (EIO, ESTALE, ENOENT, EMFILE, ...) is retried three times, then `Failure` with
  read_error and `transient` true: it is no property of the file. Ten items in a row that end so end the run.
- Any other exception of an item is `Failure` with unexpected_error and the stack in its detail; the run goes on.
- A UserError, a full disk, and whatever goes wrong outside of items are faults of the run: they end it with one
  sentence. Finished output is kept.
"""

from syncdiff_data.stage.base import Resources, Stage
from syncdiff_data.stage.context import Context
from syncdiff_data.stage.engine import run_stage
from syncdiff_data.stage.faults import is_transient
from syncdiff_data.stage.lock import exclusive
from syncdiff_data.stage.outcome import Failure, UnexpectedFailures, raise_unexpected, refuse_if_unread
from syncdiff_data.stage.probe import probe_nodes
from syncdiff_data.stage.session import ray_session
from syncdiff_data.stage.worker import limit_threads

__all__ = [
    "Context",
    "Failure",
    "Resources",
    "Stage",
    "UnexpectedFailures",
    "exclusive",
    "is_transient",
    "limit_threads",
    "probe_nodes",
    "raise_unexpected",
    "ray_session",
    "refuse_if_unread",
    "run_stage",
]
