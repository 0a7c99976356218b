"""Runs that paint one volume with a number, for tests of what a run that lost it still writes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from tests.engine.runs import wait_for
from volflow.config.pipeline import VolumeSpec, from_dict
from volflow.core.geometry import Block
from volflow.core.stage import Columns, Layer, Stage
from volflow.engine.job import Plan
from volflow.engine.plan.plan import plan
from volflow.io.run.lock import KEY
from volflow.io.store import Store
from volflow.io.volume import Volume

ROOT = Path(__file__).parents[2]


class Paint(Stage):
    """A volume of one number, and a table of it; waits in each block while there is `held_by`."""

    value: int = 1
    folder: str = ""
    held_by: str = ""

    def identity(self) -> dict[str, Any]:
        return {"value": self.value}

    @property
    def outputs(self) -> dict[str, Layer | Columns]:
        return {"painted": Layer("uint8", 0, "segmentation"), "rows": Columns((("n", "int64"),))}

    def run(self, block: Block) -> dict[str, Any]:
        name = "-".join(map(str, block.index))
        if self.folder:
            Path(self.folder, f"{name}.begins.{os.getpid()}").touch()
        while self.held_by and Path(self.held_by).exists():
            time.sleep(0.01)
        if self.folder:
            Path(self.folder, f"{name}.ends.{os.getpid()}").touch()
        voxels = np.full(block.write.shape, self.value, np.uint8)
        return {"painted": voxels, "rows": {"n": np.array([self.value])}}


def document(run: str, volume: str, value: int, folder: Path | None = None) -> dict[str, Any]:
    """The pipeline of a run that paints a volume; with a folder it holds there, and leaves traces.

    It has eight blocks.
    """
    settings: dict[str, Any] = {"value": value}
    if folder is not None:
        settings |= {"folder": str(folder / "trace"), "held_by": str(folder / "held")}
    return {
        "run": run,
        "bounds": "0:16,0:16,0:16",
        "block": [8, 8, 8],
        "resolution": [10, 10, 10],
        "volumes": {"painted": {"path": volume}},
        "steps": [{"use": "tests.integration.fenced:Paint", "name": "paint", "with": settings}],
    }


def painting(run: str, volume: str, value: int) -> Plan:
    """The plan of a run that paints a volume without waiting."""
    return plan(from_dict(document(run, volume, value)))


def numbers(volume: str) -> list[int]:
    """The numbers in a volume."""
    actual: list[int] = np.unique(Volume.open(VolumeSpec(path=volume), own=True)[...]).tolist()
    return actual


def everything(*addresses: str) -> dict[str, bytes | None]:
    """All objects of runs and volumes but locks and events."""
    stored = {}
    for address in addresses:
        store = Store(address)
        for key in store.list():
            if key != KEY and not key.startswith(("events", "logs", "volflow-keys")):
                stored[f"{address} {key}"] = store.read(key)
    return stored


@contextlib.contextmanager
def held_driver(
    folder: Path, run: str, volume: str, cluster: str
) -> Iterator[subprocess.Popen[str]]:
    """A driver that paints a volume with 1 and whose blocks wait; some of them have started."""
    (folder / "trace").mkdir()
    (folder / "held").touch()
    (folder / "held.yaml").write_text(yaml.safe_dump(document(run, volume, 1, folder)))
    command = [sys.executable, "-m", "volflow", "run", str(folder / "held.yaml")]
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    driver = subprocess.Popen(
        [*command, "--cluster", cluster],
        env={**os.environ, **own},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: traces(folder, "begins") or driver.poll() is not None)
        assert driver.poll() is None, driver.communicate()[1]
        yield driver
    finally:
        (folder / "held").unlink(missing_ok=True)
        driver.kill()  # also one that is stopped
        driver.communicate()


def traces(folder: Path, what: str) -> list[str]:
    """Blocks that have started, or ended, in the processes of a held driver."""
    return sorted(path.name.partition(".")[0] for path in (folder / "trace").glob(f"*.{what}.*"))


def age_lock(run: str) -> None:
    """Have the lock of a run look as that of a machine that has not been heard of for long."""
    store = Store(run)
    holder = store.read_json(KEY)
    store.write_json(KEY, {**holder, "place": "far", "host": "far", "beat": 0, "interval": 0.05})


def pause(driver: subprocess.Popen[str]) -> None:
    """Stop a driver, as a laptop that sleeps; its workers go on."""
    driver.send_signal(signal.SIGSTOP)
    wait_for(lambda: psutil.Process(driver.pid).status() == psutil.STATUS_STOPPED)


@contextlib.contextmanager
def tcp_cluster(folder: Path) -> Iterator[str]:
    """The address of a scheduler with one worker, in processes of their own."""
    place = folder / "scheduler.json"
    common = ["--scheduler-file", str(place), "--no-dashboard"]
    commands = [
        ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common],
        ["dask_worker", "--nthreads", "1", "--death-timeout", "120", *common],
    ]
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    hosts: list[psutil.Popen] = []
    with open(folder / "cluster.log", "wb") as log:
        try:
            for name, *options in commands:
                command = [sys.executable, "-m", f"distributed.cli.{name}", *options]
                environment = {**os.environ, **own}
                hosts.append(psutil.Popen(command, env=environment, stdout=log, stderr=log))
                wait_for(lambda: _address(place))
            yield _address(place)
        finally:
            for host in reversed(hosts):
                with contextlib.suppress(psutil.NoSuchProcess):
                    host.terminate()
            psutil.wait_procs(hosts, timeout=60)


def _address(place: Path) -> str:
    try:
        return str(json.loads(place.read_text())["address"])
    except (OSError, ValueError):
        return ""
