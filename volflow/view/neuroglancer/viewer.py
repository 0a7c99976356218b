"""Neuroglancer itself, as installed from its wheel, and screenshots by a headless browser."""

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
PROBED = ("/favicon.ico", "/.zarray", "/.zattrs", "/.zgroup")  # requested, but not always stored
TIMEOUT = 180.0  # seconds; a browser without a graphics card draws slowly

# The CPU draws WebGL2, so that pictures look the same on every machine.
_FLAGS = (
    "--headless=new",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",  # containers have little shared memory
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
class Screenshot:
    """A screenshot as a PNG file, and the errors that the browser logged meanwhile."""

    png: bytes
    errors: tuple[str, ...]


@contextmanager
def neuroglancer_viewer(state: dict[str, Any], port: int = 0) -> Iterator[Any]:
    """Start Neuroglancer's own server on 127.0.0.1, with one viewer in the given state.

    Parameters
    ----------
    state : dict
        See `volflow.view.neuroglancer.state.viewer_state`.
    port : int
        0 for any free port.

    Yields
    ------
    neuroglancer.Viewer

    Raises
    ------
    PlanError
        If the package is not installed, or the port is in use.
    """
    missing = missing_package("neuroglancer")
    if missing:
        raise PlanError(f"the viewer needs {missing}")
    import neuroglancer

    neuroglancer.set_server_bind_address(HOST, port)
    try:
        viewer = neuroglancer.Viewer()
    except OSError as error:
        raise PlanError(
            f"port {port} of {HOST}: {error.strerror}; choose another --port"
        ) from error
    viewer.set_state(state)
    try:
        yield viewer
    finally:
        neuroglancer.stop()


def another_viewer(state: dict[str, Any]) -> Any:
    """One more viewer, on the server of the open `neuroglancer_viewer`, and ending with it.

    Keep a reference: the server drops viewers that are garbage-collected. Creating several
    hundred takes a tenth of a second.
    """
    import neuroglancer

    viewer = neuroglancer.Viewer()
    viewer.set_state(state)
    return viewer


def missing_browser() -> str:
    """Programs and packages that a screenshot needs and this machine lacks; empty if none."""
    missing = []
    if not _browser():
        missing.append(f"a browser ({', '.join(BROWSERS[:3])})")
    if not shutil.which(DRIVER):
        missing.append(DRIVER)
    missing += [missing_package(name) for name in ("neuroglancer", "selenium")]
    return ", ".join(filter(None, missing))


def missing_package(name: str) -> str:
    """The reason why an optional package cannot be imported, and the remedy; empty if it can."""
    try:
        importlib.import_module(name)
    except ImportError as error:
        return f"the package {name} ({error}): pip install '.[view]'"
    return ""


def screenshot(viewer: Any, size: tuple[int, int], timeout: float = TIMEOUT) -> Screenshot:
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
        If the viewer is not drawn within the timeout.
    """
    missing = missing_browser()
    if missing:
        raise PlanError(f"a screenshot needs {missing}")
    from selenium.common.exceptions import TimeoutException

    with (
        # The browser's processes may still write while they end, so cleaning up may fail.
        tempfile.TemporaryDirectory(
            prefix="volflow-browser-", ignore_cleanup_errors=True
        ) as profile,
        browse(size, profile) as driver,
    ):
        driver.set_page_load_timeout(timeout)  # for every request to the page
        # The size of the window alone would include the bars of a window that has a frame.
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        drawn = threading.Event()
        with contextlib.suppress(TimeoutException):  # no page, so nothing is drawn
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(viewer.get_viewer_url())
            viewer.async_screenshot(lambda _: drawn.set())
            drawn.wait(timeout)
        if not drawn.is_set():
            reason = "the browser does not answer"
            with contextlib.suppress(TimeoutException):
                reason = "; ".join(_browser_errors(driver)[-3:]) or "the browser logged no error"
            raise StorageError(
                f"Neuroglancer: not all layers were drawn within {timeout:.0f} s; {reason}"
            )
        return Screenshot(driver.get_screenshot_as_png(), tuple(_browser_errors(driver)))


@contextmanager
def browse(size: tuple[int, int], profile: str) -> Iterator[Chrome]:
    """Start a headless browser.

    Parameters
    ----------
    size : (int, int)
        Of the window, in pixels.
    profile : str
        An empty folder for the browser's own files.
    """
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = _browser() or ""
    flags = [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium refuses to start as root otherwise
    for flag in flags:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Both paths are given, so that selenium does not download a browser of its own.
    driver = Chrome(options=options, service=Service(shutil.which(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


def _browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def _browser_errors(driver: Chrome) -> list[str]:
    """Errors in the browser's log, except for files that are only probed for (`PROBED`)."""
    entries = driver.get_log("browser")  # type: ignore[no-untyped-call]
    messages = [entry["message"] for entry in entries if entry["level"] == "SEVERE"]
    return [message for message in messages if not message.partition(" ")[0].endswith(PROBED)]
