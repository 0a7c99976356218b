"""Volumes of a run by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from volflow.io.volume import Volume


class RunVolumes(Mapping[str, Volume]):
    """Volumes of a run by name, opened for reading when they are first needed.

    Volumes that the run wrote and those that its pipeline reads; at the finest scale.

        volumes["segmentation"][100:164, 0:512, 0:512]    # an array, by absolute voxel z, y, x

    Parameters
    ----------
    run : str
        Folder or address of the run.
    """

    def __init__(self, run: str) -> None:
        self.run = run

    @cached_property
    def _opened(self) -> tuple[dict[str, Volume], tuple[str, ...]]:
        """Volumes by name, and why others cannot be opened."""
        from volflow.view.layers import run_layers

        layers = run_layers(self.run)
        return {layer.name: Volume.open(layer.spec) for layer in layers.layers}, layers.notes

    def __getitem__(self, name: str) -> Volume:
        volumes, notes = self._opened
        if name in volumes:
            return volumes[name]
        reason = next((note for note in notes if note.startswith(f"{name}: ")), "")
        known = ", ".join(volumes) or "none"
        raise KeyError(reason or f"run {self.run} has no volume '{name}' (volumes: {known})")

    def __iter__(self) -> Iterator[str]:
        return iter(self._opened[0])

    def __len__(self) -> int:
        return len(self._opened[0])

    def __repr__(self) -> str:
        lines = (f"  {name}: {volume!r}" for name, volume in self.items())
        return "\n".join([f"<RunVolumes {self.run}", *lines]) + ">"
