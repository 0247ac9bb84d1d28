"""Maintenance: compaction by the number of fragments, clean-up under leases, the sweep of what crashes left.

Guarantees: no commit's rows change, only where they lie, so the pointer keeps its commit and moves its sequence; a
version that the pointer names or a living reader leases stays. The caller holds the writers' lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drystone.lake.leases import leased
from drystone.lake.rows import MaintenanceReport

if TYPE_CHECKING:
    from drystone.lake import Lake


def carry_out(lake: Lake, fragments: int, keep_versions: int) -> MaintenanceReport:
    pointer = lake.ledger.catalog.pointer()
    orphans, compacted, moved = 0, {}, {}
    for table, version in pointer.tables.items():
        orphans += lake.tables.settle(table, version)[1]
        before = lake.tables.fragments(table, version)
        if before >= fragments:
            moved[table] = lake.tables.compact(table, version)
            compacted[table] = before - lake.tables.fragments(table, moved[table])
    if moved:
        pointer = lake.ledger.catalog.retable(moved)
    held, fallen = leased(lake.leases)  # after the move: whoever took a lease before it is seen here
    versions = size = 0
    for table, version in pointer.tables.items():
        older = [v for v in lake.tables.versions(table) if v < version]
        keep = {version, *held.get(table, ()), *older[max(0, len(older) - keep_versions) :]}
        gone, freed = lake.tables.clean(table, keep)
        versions, size = versions + gone, size + freed
    return MaintenanceReport(pointer, compacted, orphans, versions, size, fallen + lake.blobs.sweep())
