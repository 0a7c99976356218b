"""Scores of segmentations, skeletons and detections, on numpy arrays.

from volflow.metrics import contingency, scores
scores(contingency(truth, segmentation))["vi"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from volflow.lazy_names import lazy_names

if TYPE_CHECKING:
    from volflow.metrics.detections.clefts import Clefts, cleft_scores
    from volflow.metrics.detections.objects import score_objects
    from volflow.metrics.detections.partners import Partners, match_partners
    from volflow.metrics.skeletons.forest import SkeletonForest
    from volflow.metrics.skeletons.scores import SkeletonOptions, skeleton_scores
    from volflow.metrics.voxels.contingency import (
        Contingency,
        adapted_rand,
        contingency,
        scores,
        variation_of_information,
    )

__all__ = [
    "Clefts",
    "Contingency",
    "Partners",
    "SkeletonForest",
    "SkeletonOptions",
    "adapted_rand",
    "cleft_scores",
    "contingency",
    "match_partners",
    "score_objects",
    "scores",
    "skeleton_scores",
    "variation_of_information",
]

_MODULES = {
    "volflow.metrics.detections.clefts": "Clefts cleft_scores",
    "volflow.metrics.detections.objects": "score_objects",
    "volflow.metrics.detections.partners": "Partners match_partners",
    "volflow.metrics.skeletons.forest": "SkeletonForest",
    "volflow.metrics.skeletons.scores": "SkeletonOptions skeleton_scores",
    "volflow.metrics.voxels.contingency": "Contingency adapted_rand contingency scores "
    "variation_of_information",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}

if not TYPE_CHECKING:  # a type checker would accept any name
    __getattr__, __dir__ = lazy_names(__name__, _HOME)
