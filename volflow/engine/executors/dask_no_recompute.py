"""Keep Dask from recomputing finished blocks whose worker died before their result was fetched.

A task's result stays on its worker until the driver fetches it. If the worker dies before that,
Dask would run the task again, with all its blocks, although they are marked as done. A task whose
definition the scheduler has forgotten cannot be run again: Dask reports it as lost instead, and
the driver reads from the ledger which of its blocks are done.
"""

from __future__ import annotations

from typing import Any

NAME = "volflow-no-recompute"


def forbid_recompute(client: Any) -> None:
    """Make a scheduler in this process forget the definition of each finished task.

    Parameters
    ----------
    client : distributed.Client
        Of a cluster that volflow started. A scheduler in another process is left as it is.
    """
    scheduler: Any = getattr(getattr(client, "cluster", None), "scheduler", None)
    if not hasattr(scheduler, "add_plugin"):
        return
    from distributed.diagnostics.plugin import SchedulerPlugin

    class ForgetFinishedTasks(SchedulerPlugin):
        def transition(
            self, key: Any, start: str, finish: str, *arguments: Any, **named: Any
        ) -> None:
            if finish == "memory" and key in scheduler.tasks:
                scheduler.tasks[key].run_spec = None

    scheduler.add_plugin(ForgetFinishedTasks(), name=NAME)
