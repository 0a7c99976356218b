"""The real Neuroglancer, from the wheel of its makers, and a headless browser that looks at it."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from volflow.errors import PlanError, StorageError
from volflow.view.server import HOST

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVER = "chromedriver"
PROBED = ("/favicon.ico", "/.zarray", "/.zattrs", "/.zgroup")  # a zarr group has not all of them
DRAWN_WITHIN = 180.0  # seconds; a browser without a graphics card draws slowly

# WebGL2 is drawn by the processor, so that it looks the same on every machine.
_FLAGS = (
    "--headless=new",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",  # containers give little of it
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
    "--no-first-run",
    "--no-default-browser-check",
    "--mute-audio",
    "--hide-scrollbars",
)


@dataclass(frozen=True)
class Shot:
    """A screenshot as a PNG file, and what the browser complained of meanwhile."""

    png: bytes
    complaints: tuple[str, ...]


@contextmanager
def neuroglancer_viewer(state: dict[str, Any], port: int = 0) -> Iterator[Any]:
    """Neuroglancer's own server on this machine alone, with one viewer in that state.

    Parameters
    ----------
    state : dict
        See `volflow.view.neuroglancer.state.viewer_state`.
    port : int
        0: one that is free.

    Yields
    ------
    neuroglancer.Viewer

    Raises
    ------
    PlanError
        If the package is not installed, or the port is taken.
    """
    lacking = missing_package("neuroglancer")
    if lacking:
        raise PlanError(f"the viewer needs {lacking}")
    import neuroglancer

    neuroglancer.set_server_bind_address(HOST, port)
    try:
        viewer = neuroglancer.Viewer()
    except OSError as error:
        raise PlanError(f"port {port} of {HOST} cannot be had: {error.strerror}") from error
    viewer.set_state(state)
    try:
        yield viewer
    finally:
        neuroglancer.stop()


def another_viewer(state: dict[str, Any]) -> Any:
    """One more viewer, on the server of the `neuroglancer_viewer` that is open; it ends with it.

    The server forgets a viewer that nobody holds. Several hundred are made in a tenth of a second.
    """
    import neuroglancer

    viewer = neuroglancer.Viewer()
    viewer.set_state(state)
    return viewer


def missing_browser() -> str:
    """What a screenshot needs and this machine lacks; empty if nothing."""
    lacking = []
    if not _browser():
        lacking.append(f"a browser ({', '.join(BROWSERS[:3])})")
    if not shutil.which(DRIVER):
        lacking.append(DRIVER)
    lacking += [missing_package(name) for name in ("neuroglancer", "selenium")]
    return ", ".join(filter(None, lacking))


def missing_package(name: str) -> str:
    """Why an optional package cannot be had, and how to get it; empty if it is there."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        return f"the package {name} ({error}): pip install '.[view]'"
    return ""


def screenshot(viewer: Any, size: tuple[int, int], timeout: float = DRAWN_WITHIN) -> Shot:
    """Render a viewer in a headless browser, once all that is visible has been loaded.

    Parameters
    ----------
    viewer : neuroglancer.Viewer
    size : (int, int)
        Width and height in pixels.
    timeout : float
        Seconds.

    Raises
    ------
    PlanError
        If this machine lacks a browser.
    StorageError
        If it is not drawn in time.
    """
    lacking = missing_browser()
    if lacking:
        raise PlanError(f"a screenshot needs {lacking}")
    from selenium.common.exceptions import TimeoutException

    with (
        # what the browser's own processes still write while it ends may stay behind
        tempfile.TemporaryDirectory(
            prefix="volflow-browser-", ignore_cleanup_errors=True
        ) as profile,
        browse(size, profile) as driver,
    ):
        driver.set_page_load_timeout(timeout)  # of whatever the page is asked
        # The window's own size would count the bars that a window with a frame has.
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        drawn = threading.Event()
        with contextlib.suppress(TimeoutException):  # the page has not come: nothing is drawn
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(viewer.get_viewer_url())
            viewer.async_screenshot(lambda _: drawn.set())
            drawn.wait(timeout)
        if not drawn.is_set():
            said = "it does not answer"
            with contextlib.suppress(TimeoutException):
                said = "; ".join(_complaints(driver)[-3:]) or "it complained of nothing"
            raise StorageError(f"Neuroglancer has not drawn all after {timeout:.0f} s; {said}")
        return Shot(driver.get_screenshot_as_png(), tuple(_complaints(driver)))


@contextmanager
def browse(size: tuple[int, int], profile: str) -> Iterator[Chrome]:
    """A headless browser whose window has that size in pixels, with an empty folder for its own."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = _browser() or ""
    flags = [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # it refuses to start as root otherwise
    for flag in flags:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Both paths are given, so that selenium does not go and download a browser of its own.
    driver = Chrome(options=options, service=Service(shutil.which(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def _complaints(driver: Chrome) -> list[str]:
    """Errors in the browser's log, but for what is only asked for to see whether it is there."""
    entries = driver.get_log("browser")  # type: ignore[no-untyped-call]
    said = [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
    return [message for message in said if not message.partition(" ")[0].endswith(PROBED)]
