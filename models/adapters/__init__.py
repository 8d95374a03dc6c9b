"""Adapters as files: PEFT's format plus a manifest, published so that a crash leaves no half.

``AdapterStore`` publishes, fetches, checks, imports, exports and removes them, in a folder of this
machine or in an object store. What it says of files without touching them is in ``manifest``,
``checks`` and ``plain``. No torch here.
"""

from models.adapters.checks import AdapterRequirements
from models.adapters.exporting import FORMS, Form
from models.adapters.importing import CheckedAdapter
from models.adapters.manifest import (
    CONFIG_FILE,
    MANIFEST_FILE,
    STATE_FILE,
    WEIGHTS_FILE,
    Manifest,
    Origin,
)
from models.adapters.store import AdapterStore, PendingImport

__all__ = [
    "CONFIG_FILE",
    "FORMS",
    "MANIFEST_FILE",
    "STATE_FILE",
    "WEIGHTS_FILE",
    "AdapterRequirements",
    "AdapterStore",
    "CheckedAdapter",
    "Form",
    "Manifest",
    "Origin",
    "PendingImport",
]
