"""`python -m asyncruns`: the same as the command `asyncruns`."""

import sys

from asyncruns.cli import main

sys.exit(main())
