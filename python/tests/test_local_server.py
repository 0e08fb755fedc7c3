from __future__ import annotations

import json
import pathlib
import socket
import sys
import threading
import types
from typing import Any

import pytest

from dspex_worker import local_server
from dspex_worker.local_server import Options, SetupError

GIVEN = {
    "key": "k", "name": "tiny", "threads": 2, "context": 4096, "parallel": 2, "connections": 8,
}  # fmt: skip


class Attributes:
    """Takes any attribute, as llama.cpp's parameters do."""

    def __getattr__(self, name: str) -> Any:
        value = Attributes()
        setattr(self, name, value)
        return value


def package(folder: pathlib.Path, name: str, *files: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("raise AssertionError('imported')\n")
    for file in files:
        (folder / name / file).write_bytes(b"GGUF")


def library(monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    module = types.ModuleType("fake_llama")
    module.__dict__.update(CommonParams=Attributes, Server=server)
    monkeypatch.setitem(sys.modules, "fake_llama", module)
    monkeypatch.setattr(local_server, "LIBRARY", "fake_llama")


def converse(line: bytes, start: Any) -> tuple[dict[str, Any], int]:
    """Send the options, read the answer, hang up. Returns the answer and the exit status."""
    ours, theirs = socket.socketpair()
    status: list[int] = []
    thread = threading.Thread(target=lambda: status.append(local_server.serve(theirs, start)))
    thread.start()
    with ours, ours.makefile("rwb") as stream:
        stream.write(line)
        stream.flush()
        answer = json.loads(stream.readline())
    thread.join(10)
    assert not thread.is_alive()
    return answer, status[0]


def test_weights_are_found_without_importing_their_package(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "some_weights", "b.gguf", "a.gguf", "readme.md")
    monkeypatch.syspath_prepend(tmp_path)
    assert local_server.find_weights("some_weights") == tmp_path / "some_weights" / "a.gguf"
    assert "some_weights" not in sys.modules


def test_missing_weights_are_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "no_weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SetupError, match="no_weights holds no"):
        local_server.find_weights("no_weights")
    with pytest.raises(SetupError, match="never_installed is not installed"):
        local_server.find_weights("never_installed")


def test_only_loopback_is_served_with_a_key_and_a_port_of_the_kernels(
    tmp_path: pathlib.Path,
) -> None:
    params: Any = Attributes()
    local_server.configure(params, Options(**GIVEN), tmp_path / "x.gguf")  # type: ignore[arg-type]
    assert (params.hostnames, params.port, params.api_keys) == (["127.0.0.1"], 0, ["k"])
    assert (params.n_ctx, params.n_parallel) == (8192, 2)
    assert (params.ui, params.endpoint_slots, params.endpoint_props) == (False, False, False)


def test_a_server_answers_with_its_address_and_ends_with_the_socket(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "x.gguf"
    weights.write_bytes(b"GGUF")
    alive: list[str] = []

    class Server:
        listening_address = "http://127.0.0.1:1"

        def __init__(self, params: Any) -> None:
            alive.append(params.model.path)

        def __del__(self) -> None:
            alive.clear()

    library(monkeypatch, Server)
    line = json.dumps({**GIVEN, "weights": str(weights)}).encode() + b"\n"
    answer, status = converse(line, local_server.start)
    assert answer["address"] == "http://127.0.0.1:1"
    assert answer["weights"] == str(weights)
    assert answer["load_seconds"] >= 0
    assert (status, alive) == (0, [])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"nonsense\n", "not a JSON object of key, name"),
        (b"[]\n", "not a JSON object"),
        (b'{"key": "k", "colour": "blue"}\n', "colour"),
        (json.dumps({**GIVEN, "weights": "/nowhere.gguf"}).encode() + b"\n", "no file /nowhere"),
    ],
)
def test_what_cannot_be_served_is_explained(line: bytes, says: str) -> None:
    answer, status = converse(line, local_server.start)
    assert says in answer["error"]
    assert status == 1


def test_a_missing_or_refusing_library_is_explained(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "x.gguf"
    weights.write_bytes(b"no model")
    options = Options(**GIVEN, weights=str(weights))  # type: ignore[arg-type]

    def refuse(params: Any) -> None:
        raise RuntimeError(f"cannot load {params.model.path}")

    library(monkeypatch, refuse)
    with pytest.raises(SetupError, match=r"cannot serve .*: cannot load"):
        local_server.start(options)
    monkeypatch.setattr(local_server, "LIBRARY", "never_installed")
    with pytest.raises(SetupError, match=r"llama\.cpp cannot be loaded"):
        local_server.start(options)


def test_a_host_that_says_nothing_is_left() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    assert local_server.serve(theirs) == 0
