"""What may come in and what may go out.

Guarantees: nothing is admitted for somebody whom the policy denies; what was typed has a label; nothing
is released on rights, labels or documents of a moment ago: all of them are looked at once more, and if any
evidence may no longer be seen, the whole answer is withdrawn. Both steps leave a note, also when they say no.
"""

from drystone.guard.gate import Gate

__all__ = ["Gate"]
