"""Stages with lengths in nanometres: the voxel size, and its check against that of the run."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from volflow.core.geometry import Resolution
from volflow.core.stage import OfRun, Stage

Side = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class VoxelSized(Stage):
    """A stage that measures in nanometres."""

    resolution: Annotated[tuple[Side, Side, Side] | None, Field(validate_default=True), OfRun()] = (
        None
    )
    """Voxel size z y x in nanometres; default: that of the run."""

    @property
    def voxel_nm(self) -> Resolution:
        """The voxel size z y x in nanometres.

        Raises
        ------
        ValueError
            If the stage has none: it was created outside a run.
        """
        if self.resolution is None:
            raise ValueError("resolution: expected the voxel size [z, y, x] in nm; got none")
        return self.resolution

    def resolution_problems(self, of_run: Resolution) -> list[str]:
        """The problem of a voxel size that is not that of the run; empty if there is none."""
        if np.allclose(self.voxel_nm, of_run, rtol=1e-3, atol=0):
            return []
        return [
            f"resolution: expected that of the run, {list(of_run)} nm (z, y, x); "
            f"got {list(self.voxel_nm)}"
        ]
