"""``python -m drystone`` is the command ``drystone``."""

import sys

from drystone.cli import main

sys.exit(main())
