import sys

from drystone.cli import main

sys.exit(main())
