"""Stop with a clear sentence where Python is too old to build the rest."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Drystone needs Python 3.11 or newer; this is %d.%d. Name another one: make setup PYTHON=python3.12"
        % sys.version_info[:2]
    )
