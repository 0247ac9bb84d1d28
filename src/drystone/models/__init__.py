"""Calling models. A prompt reaches only an endpoint that its label may flow to; every route is on record.

``Models`` routes and calls; ``weights`` finds model files by name and checks their digests; ``local`` runs one
in a child process; ``remote`` calls an OpenAI-compatible endpoint; ``results`` keeps what model checks measured.
"""

from drystone.models.routing import Models

__all__ = ["Models"]
