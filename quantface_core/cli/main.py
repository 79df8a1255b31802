"""The `quantface` command: parse, dispatch, and turn refusals into one line and an exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import QuantFaceError, UsageError
from ..runtime.memory import explain_out_of_memory, is_out_of_memory
from ..runtime.threads import spin_briefly
from . import allocate, build, calibrate, demo, detect, distill, evaluate, fetch, info, models, publish, restore
from .broken_import import explain_broken_import
from .message import allow_any_name, drop_unread_output, flush_output, open_missing_error, tell
from .termination import interrupted_by_termination

FAILED, MISUSED = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, FAILED (1) or MISUSED (2).

    `arguments` None = the process's own: it is then for this command alone, and leaves out what that does not need.
    """
    spin_briefly()  # before torch loads
    open_missing_error()
    if arguments is None:
        allow_any_name()
    parser = argparse.ArgumentParser(prog="quantface", description="Restore faces with quantized one-step diffusion.")
    parser.set_defaults(own_process=arguments is None)
    parser.add_argument("--version", action="version", version=f"quantface {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    known = (restore, detect, build, calibrate, allocate, distill, evaluate, info, models, fetch, publish, demo)
    for command in known:
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        with interrupted_by_termination():
            status = int(options.run(options))
            flush_output()
            return status
    except UsageError as error:
        tell(f"quantface: {error}")
        return MISUSED
    except QuantFaceError as error:
        tell(f"quantface: {error}")
        return FAILED
    except OSError as error:  # of a name, before anything was read or written
        if isinstance(error, BrokenPipeError) and drop_unread_output():
            return FAILED
        place = f"{error.filename}: " if error.filename else ""
        tell(f"quantface: {place}{error.strerror or error}")
        return FAILED
    except Exception as error:  # of any class: torch is not imported for its own, nor have Apple's GPUs and CPUs one
        if broken := explain_broken_import(error):
            tell(f"quantface: {broken}")
            return FAILED
        if not is_out_of_memory(error):
            raise
        smaller = ", or a smaller --batch-size" if hasattr(options, "batch_size") else ""
        tell(f"quantface: {explain_out_of_memory(error)}{smaller}")
        return FAILED
    except KeyboardInterrupt:
        tell("quantface: interrupted; what is finished is kept, nothing half-written is left")
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
