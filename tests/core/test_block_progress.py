"""Parts of a block that are done, as the function that computes it reports them."""

from __future__ import annotations

import threading

import numpy as np

from volflow.core.block_progress import listening, report_parts
from volflow.core.geometry import Box, zyx
from volflow.predict.tiling import Tiling, predict_tiles


def test_reports_reach_the_listener_of_their_thread_alone():
    here: list[tuple[int, int]] = []
    report_parts(1, 9)  # without a listener
    with listening(lambda *parts: here.append(parts)):
        report_parts(2, 9)
        other = threading.Thread(target=report_parts, args=(3, 9))
        other.start()
        other.join()
    report_parts(4, 9)
    assert here == [(2, 9)]


def test_a_network_reports_its_tiles():
    bounds = Box((0, 0, 0), (4, 8, 8))
    tiling = Tiling(bounds, tile=zyx((4, 4, 4)), context=zyx((0, 0, 0)), stride=zyx((4, 4, 4)))
    image = np.zeros(bounds.shape, "float32")
    reports: list[tuple[int, int]] = []
    with listening(lambda *parts: reports.append(parts)):
        predict_tiles(
            image, bounds, bounds, tiling, lambda shown: shown[:, None], channels=1, batch=3
        )
    assert reports == [(3, 4), (4, 4)]
