"""`python -m ppodd` is `ppodd`."""

import sys

from ppodd.cli.main import main

sys.exit(main())
