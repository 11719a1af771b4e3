"""The command line: it formats what the library gives and decides nothing."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 1 failed, 2 wrong usage or settings, 130 interrupted, 143 terminated.

    Args:
        argv: The words after the program's name. None: those of this process.
    """
    try:
        from asyncruns.cli._app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("cyclopts", "rich"):
            raise
        print("asyncruns: the command line needs two more packages: pip install 'asyncruns[cli]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return run(sys.argv[1:] if argv is None else argv)
