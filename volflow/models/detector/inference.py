"""The detector applied to sections: arrays in, detections out."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch.nn.functional import pad

from volflow.errors import PlanError
from volflow.models.detector.quasidense import QuasiDense


class BoxDetector:
    """A detector with its weights, on a device.

    One section at a time, so that a result does not depend on the others.

    Parameters
    ----------
    network : QuasiDense
        In eval mode.
    device : str
        `cpu` or `cuda`.
    least_score : float
        Minimum score of a detection, 0 to 1.
    duplicate : float
        Intersection over union above which the box of lower score is dropped.
    """

    def __init__(
        self,
        network: QuasiDense,
        device: str = "cpu",
        least_score: float = 0.05,
        duplicate: float = 0.7,
    ) -> None:
        self.network, self.device = network.to(device), device
        self.least_score, self.duplicate = least_score, duplicate

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "cpu") -> BoxDetector:
        """The detector of a checkpoint.

        Raises
        ------
        StorageError
            If the checkpoint is missing or damaged.
        PlanError
            If its network is not a detector.
        """
        from volflow.models.section_checkpoint import load_section_checkpoint

        network, header = load_section_checkpoint(path)
        if not isinstance(network, QuasiDense):
            raise PlanError(
                f"checkpoint {path}: expected the network 'quasidense'; got '{header.network}'"
            )
        return cls(network, device)

    def detect(self, section: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Objects of a section, best first.

        Parameters
        ----------
        section : float32, (Y, X)
            Normalised intensities. Beyond its border it is continued by its outermost pixels.

        Returns
        -------
        boxes : float32, (N, 4)
            y0, x0, y1, x1, half-open, voxels, within the section.
        scores : float32, (N,)
        embeddings : float32, (N, E)
        """
        height, width = section.shape
        multiple = self.network.multiple
        image = torch.from_numpy(np.ascontiguousarray(section))[None].to(self.device)
        image = pad(image[None], (0, -width % multiple, 0, -height % multiple), "replicate")[0]
        boxes, scores, embeddings = self.network.detect(image, self.least_score, self.duplicate)
        limit = boxes.new_tensor([height, width, height, width])
        boxes = torch.minimum(boxes, limit)
        inside = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
        return (
            boxes[inside].cpu().numpy(),
            scores[inside].cpu().numpy(),
            embeddings[inside].cpu().numpy(),
        )
