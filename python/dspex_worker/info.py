"""What a worker can say about itself."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

import dspy
import greenlet


def collect(programs: int, calls: int) -> dict[str, Any]:
    """Return the facts of ``worker.info``.

    Args:
        programs: how many programs are stored.
        calls: how many calls are under way, the one that asks included.
    """
    return {
        "pid": os.getpid(),
        **memory(),
        "greenlets": sum(type(thing) is greenlet.greenlet for thing in gc.get_objects()),
        "threads": threading.active_count(),
        "programs": programs,
        "calls": calls,
        "python": sys.version.split()[0],
        "dspy": dspy.__version__,
        "fds": _descriptors(),
    }


def memory() -> dict[str, int]:
    """Return resident, proportional and privately dirtied memory, in KiB.

    Where the kernel tells none of this (not Linux), the peak of the resident memory stands for all.
    """
    wanted = {"Rss:": "rss_kb", "Pss:": "pss_kb", "Private_Dirty:": "private_dirty_kb"}
    found: dict[str, int] = {}
    try:
        for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
            words = line.split()
            if words[0] in wanted:
                found[wanted[words[0]]] = int(words[1])
    except OSError:
        unit = 1024 if sys.platform == "darwin" else 1
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
        return dict.fromkeys(wanted.values(), peak)
    return found


def _descriptors() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # without the one that lists
        except OSError:
            continue
    return -1
