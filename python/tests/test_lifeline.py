"""The lifeline, on real processes: every check waits for an event, never for a time."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from dspex_worker import lifeline

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel cannot do it")

SOURCE = str(Path(lifeline.__file__).parent.parent)
PATIENCE = 30.0
"""Seconds after which a check that hangs is given up."""


class Child:
    """A Python process with a lifeline on the descriptor named LINE in its code."""

    def __init__(self, code: str) -> None:
        read, self._write = os.pipe()
        prologue = f"""
            import json, os, signal, subprocess, sys, time
            sys.path.insert(0, {SOURCE!r})
            from dspex_worker import lifeline
            LINE = {read}
            def tell(value):
                print(json.dumps(value), flush=True)
        """
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(prologue) + textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(read,),
        )
        self.hold = read
        assert self.process.stdout is not None
        self._out: IO[bytes] = self.process.stdout

    def told(self) -> Any:
        return json.loads(self._out.readline())

    def cut(self) -> None:
        """Close the write end, and nothing else."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def close(self) -> None:
        self.cut()
        self.process.kill()
        self.process.wait()
        self._out.close()
        if self.process.stdin is not None:
            self.process.stdin.close()
        os.close(self.hold)


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.close()


def exited(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(PATIENCE * 1000))


def wait_exited(pid: int, act: Any) -> None:
    """Hold the process, do ``act``, and see the process exit."""
    pidfd = os.pidfd_open(pid)
    try:
        act()
        assert exited(pidfd), f"{pid} lives on"
    finally:
        os.close(pidfd)


def test_a_process_that_entered_is_killed_by_the_hang_up(children: list[Child]) -> None:
    child = Child("lifeline.enter(LINE); tell(os.getpgrp()); time.sleep(3600)")
    children.append(child)
    assert child.told() == child.process.pid
    child.cut()
    assert child.process.wait(PATIENCE) == -signal.SIGKILL


def test_a_stopped_process_is_killed(children: list[Child]) -> None:
    child = Child("lifeline.enter(LINE); tell(1); os.kill(0, signal.SIGSTOP)")
    children.append(child)
    child.told()
    os.waitid(os.P_PID, child.process.pid, os.WSTOPPED | os.WNOWAIT)
    child.cut()
    assert child.process.wait(PATIENCE) == -signal.SIGKILL


def test_a_process_whose_host_died_before_it_armed_exits(children: list[Child]) -> None:
    child = Child("tell(1); sys.stdin.read(1); lifeline.enter(LINE); time.sleep(3600)")
    children.append(child)
    child.told()
    child.cut()
    assert child.process.stdin is not None
    child.process.stdin.close()
    assert child.process.wait(PATIENCE) == lifeline.EXIT_HUNG_UP


def test_the_group_of_a_dead_leader_is_killed_while_someone_holds_the_description(
    children: list[Child],
) -> None:
    child = Child(
        """
        lifeline.enter(LINE)
        tell(subprocess.Popen(["sleep", "3600"]).pid)
        os._exit(0)
        """
    )
    children.append(child)
    grandchild = child.told()
    child.process.wait(PATIENCE)
    wait_exited(grandchild, child.cut)


def test_a_reopened_lifeline_is_armed_on_its_own(children: list[Child]) -> None:
    child = Child("again = lifeline.reopen(LINE); lifeline.enter(again); tell(1); time.sleep(3600)")
    children.append(child)
    child.told()
    child.cut()
    assert child.process.wait(PATIENCE) == -signal.SIGKILL


def test_watching_kills_the_group_where_arming_is_impossible(children: list[Child]) -> None:
    child = Child(
        """
        lifeline.lead_group()
        lifeline.watch(LINE)
        tell(subprocess.Popen(["sleep", "3600"]).pid)
        time.sleep(3600)
        """
    )
    children.append(child)
    wait_exited(child.told(), child.cut)
    assert child.process.wait(PATIENCE) == -signal.SIGKILL


def test_arming_says_where_it_is_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("fcntl.F_SETSIG")
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match="cannot choose the signal"):
            lifeline.arm(read)
    finally:
        os.close(read)
        os.close(write)


def test_hung_up_tells_the_state_of_the_pipe() -> None:
    read, write = os.pipe()
    assert not lifeline.hung_up(read)
    os.close(write)
    assert lifeline.hung_up(read)
    os.close(read)


OFFSPRING = {
    "subprocess in the group": """
        def start(): return subprocess.Popen(["sleep", "3600"]).pid
    """,
    "subprocess in a session of its own": """
        def start(): return subprocess.Popen(["sleep", "3600"], start_new_session=True).pid
    """,
    "subprocess with inherited descriptors": """
        def start():
            return subprocess.Popen(
                ["sleep", "3600"], start_new_session=True, close_fds=False
            ).pid
    """,
    "subprocess by positional arguments": """
        def start():
            return subprocess.Popen(
                ["sleep", "3600"], -1, None, None, None, None, os.setsid, True
            ).pid
    """,
    "subprocess with a preexec_fn that leaves": """
        def start(): return subprocess.Popen(["sleep", "3600"], preexec_fn=os.setsid).pid
    """,
    "asyncio": """
        import asyncio
        async def run():
            p = await asyncio.create_subprocess_exec("sleep", "3600", start_new_session=True)
            return p.pid
        def start(): return asyncio.run(run())
    """,
    "os.fork and os.setsid": """
        def start():
            pid = os.fork()
            if pid == 0:
                os.setsid()
                time.sleep(3600)
            return pid
    """,
    "os.fork, os.setsid and exec": """
        def start():
            pid = os.fork()
            if pid == 0:
                os.setsid()
                os.execvp("sleep", ["sleep", "3600"])
            return pid
    """,
    "os.forkpty": """
        def start():
            pid, start.fd = os.forkpty()
            if pid == 0:
                time.sleep(3600)
            return pid
    """,
    "multiprocessing": """
        import multiprocessing
        def leave(ready):
            os.setpgid(0, 0)
            ready.send(1)
            time.sleep(3600)
        def start():
            here, there = multiprocessing.Pipe()
            p = multiprocessing.get_context("fork").Process(target=leave, args=(there,))
            p.start()
            here.recv()
            return p.pid
    """,
    "os.posix_spawn in a session of its own": """
        def start(): return os.posix_spawn("/bin/sleep", ["sleep", "3600"], os.environ, setsid=True)
    """,
    "os.posix_spawnp in a group of its own": """
        def start(): return os.posix_spawnp("sleep", ["sleep", "3600"], os.environ, setpgroup=0)
    """,
}


@pytest.mark.parametrize("how", OFFSPRING)
def test_what_a_worker_starts_dies_with_its_host(children: list[Child], how: str) -> None:
    child = Child(
        "from dspex_worker.offspring import Offspring\n"
        "lifeline.enter(LINE); Offspring().protect(LINE)\n"
        + textwrap.dedent(OFFSPRING[how])
        + "tell(start()); time.sleep(3600)"
    )
    children.append(child)
    wait_exited(child.told(), child.cut)


@pytest.mark.parametrize("how", OFFSPRING)
def test_what_a_worker_starts_dies_with_the_worker(children: list[Child], how: str) -> None:
    child = Child(
        "from dspex_worker.offspring import Offspring\n"
        "lifeline.enter(LINE); Offspring().protect(LINE)\n"
        + textwrap.dedent(OFFSPRING[how])
        + "tell(start()); time.sleep(3600)"
    )
    children.append(child)

    def crash() -> None:
        os.kill(child.process.pid, signal.SIGKILL)
        child.process.wait(PATIENCE)
        child.cut()  # what the host does when a worker has died

    wait_exited(child.told(), crash)


def test_a_child_whose_host_died_while_it_left_the_group_never_runs(
    children: list[Child], tmp_path: Path
) -> None:
    """The host dies between setsid and arming: the child must exit instead of executing."""
    trace = tmp_path / "ran"
    child = Child(
        f"""
        from dspex_worker import offspring
        offspring.Offspring().protect(LINE)   # not armed itself: it must survive the hang-up
        join = offspring._join
        def late(line, preexec):
            os.write(1, b"1\\n")
            poll = __import__("select").poll()
            poll.register(line, 16)
            poll.poll()
            join(line, preexec)
        offspring._join = late
        try:
            p = subprocess.Popen(["touch", {str(trace)!r}], start_new_session=True)
        except BaseException:
            pass
        else:
            p.wait()
        tell(2)
        """
    )
    children.append(child)
    assert child.told() == 1
    child.cut()
    assert child.told() == 2
    assert not trace.exists()


def test_a_failed_start_leaves_no_descriptor(children: list[Child]) -> None:
    child = Child(
        """
        from dspex_worker.offspring import Offspring
        lifeline.enter(LINE); Offspring().protect(LINE)
        def count(): return len(os.listdir("/proc/self/fd"))
        before = count()
        for _ in range(3):
            try:
                subprocess.Popen(["/no/such/program"], start_new_session=True)
            except FileNotFoundError:
                pass
        for _ in range(3):
            subprocess.run(["true"], start_new_session=True, check=True)
        for _ in range(3):
            try:
                os.posix_spawn("/no/such/program", ["x"], os.environ, setsid=True)
            except FileNotFoundError:
                pass
        tell(count() - before)
        """
    )
    children.append(child)
    assert child.told() == 0


def test_bootstrap_proves_the_mechanism() -> None:
    read, write = os.pipe()
    script = str(Path(lifeline.__file__).parent / "bootstrap.py")
    process = subprocess.Popen(
        [sys.executable, "-c", _AS_THREE, str(read), script, "prove", "{}"],
        stdout=subprocess.PIPE,
        pass_fds=(read,),
    )
    assert process.stdout is not None
    with contextlib.closing(process.stdout):
        assert process.stdout.readline() == b"armed\n"
        os.close(read)
        os.close(write)
        assert process.wait(PATIENCE) == -signal.SIGKILL


_AS_THREE = """
import os, sys
os.environ["DSPEX_DESCRIPTORS"] = "4"
os.dup2(int(sys.argv[1]), 3)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
