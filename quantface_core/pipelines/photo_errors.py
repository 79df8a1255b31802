"""Why one of many photos failed, in a line for the user."""

from __future__ import annotations

from ..errors import QuantFaceError, one_line
from ..runtime.memory import explain_out_of_memory, is_out_of_memory
from .jobs import Job


def explain(job: Job, error: Exception) -> str:
    """One line with the photo's name, or its result's where that is what failed."""
    if isinstance(error, QuantFaceError):
        text = str(error)
    elif is_out_of_memory(error):
        text = explain_out_of_memory(error)
    else:
        text = f"{type(error).__name__}: {one_line(error)}"
    return text if text.startswith((str(job.source), str(job.target))) else f"{job.source}: {text}"
