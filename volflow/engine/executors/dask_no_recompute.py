"""What a worker has finished is not done again because the worker died before it could say so.

A task's result lies on its worker until the driver fetches it. Where the worker dies in between,
Dask would do the task again, all its blocks, though they are marked. It does not where it does not
know how: the task is then told to be lost, and the ledger says what became of its blocks.
"""

from __future__ import annotations

from typing import Any

NAME = "volflow-once"


def forbid_recompute(client: Any) -> None:
    """Have a scheduler that lives in this process forget how a finished task was done.

    Parameters
    ----------
    client : distributed.Client
        Of a cluster that we started. Of somebody else's scheduler nothing is changed.
    """
    scheduler: Any = getattr(getattr(client, "cluster", None), "scheduler", None)
    if not hasattr(scheduler, "add_plugin"):
        return
    from distributed.diagnostics.plugin import SchedulerPlugin

    class Once(SchedulerPlugin):
        def transition(
            self, key: Any, start: str, finish: str, *arguments: Any, **named: Any
        ) -> None:
            if finish == "memory" and key in scheduler.tasks:
                scheduler.tasks[key].run_spec = None

    scheduler.add_plugin(Once(), name=NAME)
