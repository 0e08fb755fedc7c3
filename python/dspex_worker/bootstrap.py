"""First code of every Python process that the host executes.

Usage: ``python bootstrap.py KIND CONFIG``, where CONFIG is a JSON object. The lifeline is
armed before anything else is imported. Kinds:

``forkserver``
    See :mod:`dspex_worker.forkserver`.
``worker``
    A worker that is executed instead of forked: warms up by itself, then serves.
``module``
    Runs the module ``module`` as ``python -m`` would, with ``args`` as its arguments.
``prove``
    Arms, says so on standard output, and waits to be killed by the lifeline alone.
"""

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from dspex_worker import lifeline  # noqa: E402

LIFELINE = 3
"""Descriptor on which every executed process finds its lifeline."""

COUNT = "DSPEX_DESCRIPTORS"
"""Environment variable that tells how many descriptors are meant for this process."""

EXIT_UNARMED = 76
"""Exit status of ``prove`` and ``forkserver`` when the lifeline cannot be armed."""


def boot() -> int:
    """Arm, then be what the command line says. Returns the exit status."""
    kind = sys.argv[1]
    reason = ""
    try:
        lifeline.enter(LIFELINE)
    except OSError as error:
        reason = str(error)
    _keep(int(os.environ.pop(COUNT)))
    if kind == "prove":
        return _prove(reason)

    import json

    config = json.loads(sys.argv[2])
    config["lifeline"] = LIFELINE
    if kind == "forkserver":
        if reason:  # the host executes workers instead
            sys.stderr.write(f"the lifeline cannot be armed: {reason}\n")
            return EXIT_UNARMED
        from dspex_worker import forkserver

        return forkserver.run(config)
    if reason or config.get("watch"):
        lifeline.watch(LIFELINE)
    else:
        from dspex_worker import offspring

        offspring.Offspring().protect(LIFELINE)
    if kind == "worker":
        return _worker(config)
    if kind == "module":
        return _module(config)
    sys.stderr.write(f"unknown kind {kind!r}\n")
    return 2


def _keep(count: int) -> None:
    """Close what the host left open by mistake; keep the first ``count`` from our children."""
    # Not os.closerange: where the limit is a million, old C libraries try each number.
    for name in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"):
        if int(name) >= count:
            try:
                os.close(int(name))
            except OSError:  # the one that was used for listing
                continue
    for fd in range(LIFELINE, count):
        os.set_inheritable(fd, False)


def _worker(config: "dict[str, object]") -> int:
    from typing import Any, cast

    from dspex_worker import entry

    given = cast("dict[str, Any]", config)
    warm: entry.Warm = entry.load(given["warm"])
    main: entry.Main = entry.load(given["main"])
    entry.prepare()
    warm(given["preload"])
    entry.run(main, given["socket"], given["stacks"], given["worker"], given["options"])


def _module(config: "dict[str, object]") -> int:
    import runpy
    from typing import Any, cast

    given = cast("dict[str, Any]", config)
    sys.argv = [given["module"], *given["args"]]
    runpy.run_module(given["module"], run_name="__main__", alter_sys=True)
    return 0


def _prove(reason: str) -> int:
    if reason:
        sys.stderr.write(reason + "\n")
        return EXIT_UNARMED
    sys.stdout.write("armed\n")
    sys.stdout.flush()
    import signal

    while True:
        signal.pause()


if __name__ == "__main__":
    sys.exit(boot())
