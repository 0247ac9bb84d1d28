"""Public fakes, and a conformance suite for every port. Import it in the tests of what you plug in.

>>> from drystone.testing import HashEmbedder, check_embedder
>>> check_embedder(HashEmbedder())
"""

from drystone.testing.embedders import HashEmbedder, check_embedder
from drystone.testing.guards import check_guard
from drystone.testing.keystores import check_keystore
from drystone.testing.models import EchoModel, check_model
from drystone.testing.parsers import check_parser
from drystone.testing.sources import check_source

__all__ = [
    "EchoModel", "HashEmbedder", "check_embedder", "check_guard", "check_keystore", "check_model", "check_parser",
    "check_source",
]  # fmt: skip
