"""Marks and sizes of tests with a real browser."""

from __future__ import annotations

import pytest

from volflow.view.neuroglancer.viewer import missing_browser

IN_A_BROWSER = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(missing_browser()), reason=f"needs {missing_browser()}"),
    # tornado's loop, in neuroglancer's server, closes its sockets when it is collected
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""Marks of a module whose tests start a browser; without one they are skipped."""

SIZE = (900, 700)
"""Width and height of the window, pixels."""
