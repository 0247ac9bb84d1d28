"""Permission-first search: who may see what is decided before anything is compared.

Guarantees: no actor, no results; results and scores equal those of a store without the documents that the actor may
not see; ``Hits.exact`` is True only for a ranking that no approximation can have changed.
"""

from drystone.retrieve.search import Retriever

__all__ = ["Retriever"]
