"""All kinds of files, by name."""

from __future__ import annotations

from tests.fuzz.chunked_volumes import CHUNKED_VOLUMES
from tests.fuzz.image_files import IMAGE_FILES
from tests.fuzz.runs import RUNS
from tests.fuzz.texts import TEXTS

KINDS = {kind.name: kind for kind in (*IMAGE_FILES, *CHUNKED_VOLUMES, *TEXTS, *RUNS)}
