"""The places where blocks of a case run: the driver, its own workers, or a cluster that stays.

A scheduler with two workers and a Slurm are started once, when a case first needs them, and used by
all later cases; what a case has killed is started again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.integration import slurm_site
from tests.soak.drivers import environment
from tests.soak.processes import gone, orphans, processes, send

WORKERS = 2
GOING = 90.0  # seconds in which all processes of a run have to end
READY = 120.0  # seconds in which a scheduler has to have its workers


class Scheduler:
    """A Dask scheduler with workers, for many runs."""

    def __init__(self, folder: Path, token: str) -> None:
        self.folder, self.token = folder, token
        self.address = ""
        self.hosts: list[psutil.Popen] = []
        self.more: dict[str, str] = {}
        """Environment variables of the workers."""

    def ready(self) -> str:
        """The address, once the scheduler runs with all of its workers."""
        send(processes(self.token), signal.SIGCONT)
        if not self.hosts or any(host.poll() is not None for host in self.hosts):
            self.close()
            self._start()
        return self.address

    def leftovers(self) -> list[str]:
        """Children that run blocks although their worker has ended."""
        return [str(each) for each in gone(lambda: orphans(self.token), GOING)]

    def close(self) -> None:
        """End the scheduler and its workers."""
        send(processes(self.token), signal.SIGCONT)
        for host in reversed(self.hosts):
            with contextlib.suppress(psutil.NoSuchProcess):
                host.terminate()
        psutil.wait_procs(self.hosts, timeout=20)
        send(gone(lambda: processes(self.token), 20), signal.SIGKILL)
        self.hosts = []

    def _start(self) -> None:
        place = self.folder / "scheduler.json"
        place.unlink(missing_ok=True)
        common = ["--scheduler-file", str(place), "--no-dashboard"]
        commands = [["dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common]]
        scratch = ["--local-directory", str(self.folder)]
        worker = ["dask_worker", "--nthreads", "1", "--death-timeout", "120", *scratch, *common]
        commands += [worker] * WORKERS
        own = environment(VOLFLOW_SOAK=self.token, TMPDIR=str(self.folder), **self.more)
        with (self.folder / "scheduler.log").open("ab") as log:
            for name, *options in commands:
                command = [sys.executable, "-m", f"distributed.cli.{name}", *options]
                host = psutil.Popen(command, cwd=self.folder, env=own, stdout=log, stderr=log)
                self.hosts.append(host)
                while not (address := _address(place)):
                    time.sleep(0.05)
        self.address = address
        self._await_workers()

    def _await_workers(self) -> None:
        from distributed import Client

        with Client(self.address) as client:
            client.wait_for_workers(WORKERS, timeout=READY)


def _address(place: Path) -> str:
    """The address in a scheduler's file; empty while it is not written."""
    try:
        return str(json.loads(place.read_text())["address"])
    except (OSError, ValueError):
        return ""


class SlurmSite:
    """A Slurm on this machine, for many runs."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.configuration = ""

    def ready(self) -> str:
        """The path of its configuration."""
        if not self.configuration:
            self.configuration = str(self._stack.enter_context(slurm_site.running()))
            os.environ["SLURM_CONF"] = self.configuration
        return self.configuration

    def profile(self, folder: Path) -> str:
        """The file of a profile of the site, for the runs in a folder."""
        slurm_site.profile(folder, cpu={"memory": "500 MB", "workers": 1})
        return str(folder / "site.yaml")

    def leftovers(self) -> list[str]:
        """Jobs that are queued or at work although no driver is."""
        deadline = time.monotonic() + GOING
        while left := self._jobs():
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return left

    def _jobs(self) -> list[str]:
        done = subprocess.run(
            ["squeue", "-h", "--format=%A %j"], capture_output=True, text=True, check=False
        )
        return [line for line in done.stdout.splitlines() if "volflow-" in line]
