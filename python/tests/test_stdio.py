from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dspex_worker import stdio

SOURCE = str(Path(stdio.__file__).parent.parent)


def run(code: str) -> tuple[bytes, bytes]:
    """Run code with pipes as standard streams, without flushing anything at its end."""
    program = f"import os, sys\nsys.path.insert(0, {SOURCE!r})\nfrom dspex_worker import stdio\n"
    done = subprocess.run(
        [sys.executable, "-c", program + code + "\nos._exit(0)"], capture_output=True, check=True
    )
    return done.stdout, done.stderr


def test_a_finished_line_is_passed_on_at_once() -> None:
    assert run("stdio.line_buffer(); print('out'); print('err', file=sys.stderr)") == (
        b"out\n",
        b"err\n",
    )


def test_lines_printed_by_c_are_passed_on_at_once() -> None:
    code = "stdio.line_buffer(); import ctypes; ctypes.CDLL(None).printf(b'from C\\n')"
    assert run(code) == (b"from C\n", b"")


def test_an_unfinished_line_is_written_by_flush() -> None:
    code = """
stdio.line_buffer()
import ctypes
print('python', end='')
stdio.flush()
ctypes.CDLL(None).printf(b'c')
stdio.flush()
"""
    assert run(code) == (b"pythonc", b"")


def test_text_that_is_no_unicode_is_escaped() -> None:
    out, _ = run("stdio.line_buffer(); print('gr\\u00fc\\u00df \\ud800')")
    assert out == "grüß \\ud800\n".encode()


def test_flush_survives_closed_and_missing_streams() -> None:
    assert run("sys.stdout.close(); sys.stderr = None; stdio.flush()") == (b"", b"")


def test_redirect_replaces_the_standard_streams() -> None:
    out, out_write = os.pipe()
    err, err_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            stdio.redirect(out_write, err_write)
            os.write(1, b"out")
            os.write(2, b"err")
            null = os.read(0, 1)
            closed = 0
            for fd in (out_write, err_write):
                try:
                    os.fstat(fd)
                except OSError:
                    closed += 1
            os._exit(0 if null == b"" and closed == 2 else 1)
        finally:
            os._exit(2)
    os.close(out_write)
    os.close(err_write)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (os.read(out, 10), os.read(err, 10)) == (b"out", b"err")
    os.close(out)
    os.close(err)
