"""Checks of the interpreter, the packages and the files of volflow."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator

from volflow.cli.checks.finding import REINSTALL, Finding


def check_python() -> Iterator[Finding]:
    """The version of the interpreter."""
    from packaging.specifiers import SpecifierSet

    versions = SpecifierSet(importlib.metadata.metadata("volflow")["Requires-Python"] or "")
    text = f"{platform.python_version()} at {sys.executable}"
    if not versions.contains(platform.python_version(), prereleases=True):
        yield Finding("python", "broken", text, f"volflow needs Python {versions}")
    else:
        yield Finding("python", "ok", text)


def check_packages() -> Iterator[Finding]:
    """Installed versions against the required ones."""
    from packaging.requirements import Requirement

    problems, versions = [], []
    for text in importlib.metadata.requires("volflow") or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{requirement.name} is missing (expected {requirement.specifier})")
            continue
        versions.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement.name} {version} (expected {requirement.specifier})")
    for text in problems:
        yield Finding("packages", "broken", text, REINSTALL)
    if not problems:
        yield Finding("packages", "ok", ", ".join(versions))


def check_zfpy() -> Iterator[Finding]:
    """A package whose mere presence breaks others."""
    try:
        version = importlib.metadata.version("zfpy")
    except importlib.metadata.PackageNotFoundError:
        return
    text = f"zfpy {version} is installed; 1.0.1.post0 makes `import numcodecs` and zarr crash"
    remedy = "pip uninstall zfpy (a dependency of cloud-volume[all_codecs])"
    yield Finding("zfpy", "broken", text, remedy)


def check_files() -> Iterator[Finding]:
    """The bundled pipelines and cluster profiles."""
    from volflow.config.bundled import bundled

    for folder in ("pipelines", "deploy"):
        names = ", ".join(bundled(folder))
        if names:
            yield Finding(folder, "ok", names)
        else:
            yield Finding(folder, "broken", "none found", REINSTALL)


def check_stages() -> Iterator[Finding]:
    """The installed stages, each imported."""
    from volflow.core.stage import find_stage, installed_stages

    names = []
    for name in sorted(installed_stages()):
        try:
            find_stage(name)
        except Exception as error:
            yield Finding("stages", "broken", f"{name}: {error}", REINSTALL)
        else:
            names.append(name)
    if names:
        yield Finding("stages", "ok", ", ".join(names))
    else:
        yield Finding("stages", "broken", "no stage is installed", REINSTALL)


def check_view() -> Iterator[Finding]:
    """Neuroglancer for `view`, and a browser for its screenshots."""
    from volflow.view.neuroglancer.viewer import missing_browser, missing_package

    missing = missing_package("neuroglancer")
    if missing:
        yield Finding("view", "warning", f"`volflow view` needs {missing}")
        return
    missing = missing_browser()
    if missing:
        remedy = "install a browser and its driver (Debian: apt install chromium chromium-driver)"
        text = f"Neuroglancer is installed; `volflow view --screenshot` needs {missing}"
        yield Finding("view", "warning", text, "" if "pip" in missing else remedy)
        return
    yield Finding("view", "ok", "Neuroglancer, and a browser for screenshots")
