"""Peers as those who measure see them: each a child process that keeps one session and times it when asked."""
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time

import ml_dtypes
import numpy

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1]))
from measuring import ROOT  # noqa: E402

PYTHON = ROOT / ".venv-peers/bin/python"
WORKER = pathlib.Path(__file__).with_name("worker.py")
GRAPH_PEERS = ["onnxruntime", "openvino", "ncnn"]      # they take ONNX models
KERNEL_PEERS = [*GRAPH_PEERS, "onednn", "openblas"]    # and these, single operators:
OPERATORS = {"onednn": ["conv", "matmul"], "openblas": ["matmul"]}

# What each computes in: onnxruntime has bf16 nowhere on processors, ncnn only stores it and has quantised models of its own alone.
TYPES = {"onnxruntime": ["f32", "int8"], "openvino": ["f32", "bf16", "int8"], "ncnn": ["f32"], "onednn": ["f32", "bf16", "int8"], "openblas": ["f32"]}
PEERS_OF = {precision: [peer for peer in GRAPH_PEERS if precision in TYPES[peer]] for precision in ("f32", "bf16")}  # models

# Of a result, relative to the largest: what is further off computes something else.
TOLERANCE = {"f32": 1e-2, "bf16": 0.1}  # of a model
# Of one operator. f32: Winograd's forms. bf16: sums are f32, so only the result is rounded, by 2^-8 of itself. int8: what lies
# half-way between two steps may become either, a step being a 255th of the largest.
KERNEL_TOLERANCE = {"f32": 1e-2, "bf16": 1.01 / 2 ** 8, "int8": 1.01 / 255}


class PeerError(RuntimeError):
    """A peer cannot do what was asked; the message is the reason that results give."""


def require_peers():
    if not PYTHON.exists():
        sys.exit(f"{PYTHON.parents[1]} is missing: ./dev peers installs the peers")


class Peer:
    def __init__(self, name, threads, cpus=(), precision="f32"):
        self.name, self.threads, self.cpus, self.precision = name, threads, list(cpus), precision
        self._process, self.version = None, ""

    def load(self, subject, timeout=120):
        """subject: {"models": [paths, the first that loads is taken], "inputs": an .npz or None for random ones, "outputs": an
        .npz to write}, and {"kernel": [op, shape, attributes]} for peers that take no models. Raises PeerError."""
        if self._process is None:
            self._start()
        self._ask({"load": subject}, timeout)

    def turn(self, seconds, timeout=120):
        """Seconds of each of one or more executions, over at least so long."""
        return self._ask({"turn": seconds}, timeout + seconds)["samples"]

    def close(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._log.close()
            self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _start(self):
        environment = dict(os.environ, OMP_NUM_THREADS=str(self.threads), OPENBLAS_NUM_THREADS=str(self.threads))
        # Overrides that some systems set for older builds of OpenBLAS would slow this one.
        for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
            environment.pop(name, None)
        self._log = tempfile.TemporaryFile("w+", errors="replace")
        cpus = ",".join(map(str, self.cpus))
        self._process = subprocess.Popen([PYTHON, WORKER, self.name, str(self.threads), cpus, self.precision], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self._log, env=environment)
        self.version = self._ask(None, 60)["version"]

    def _ask(self, request, timeout):
        try:
            if request is not None:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
            line = self._line(time.monotonic() + timeout)
        except BrokenPipeError:
            line = b""
        if not line:
            raise PeerError(self._epitaph(timeout))
        answer = json.loads(line)
        if "fails" in answer:
            raise PeerError(answer["fails"])
        return answer

    def _line(self, deadline):
        """The answer, or nothing if the child ends or the time does."""
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
            part = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            if not part:
                return b""
            line += part
        return line

    def _epitaph(self, timeout):
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            code = None
        self._log.seek(0)
        said = " ".join(self._log.read()[-400:].split())
        self.close()
        if code is None:
            return f"no answer within {timeout:.0f} s"
        how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        return f"{how}: {said}" if said else how


def load_arrays(path):
    """Of an .npz, whose format has no bf16: it comes back as two bytes."""
    return {name: array.view(ml_dtypes.bfloat16) if array.dtype == "V2" else array for name, array in numpy.load(path).items()}


def off_by(path, wanted):
    """The largest difference of outputs in an .npz from the wanted arrays, relative to the largest of these. Peers without a
    batch dimension leave it out. Raises PeerError where outputs do not fit."""
    got = load_arrays(path)
    worst = 0.0
    for name, want in wanted.items():
        array = got.get(name, numpy.zeros(0))
        if array.size != want.size:
            raise PeerError(f"its output {name} has {array.size} elements, not {want.size}")
        difference = abs(array.reshape(-1).astype(float) - want.reshape(-1).astype(float)).max() / max(abs(want).max(), 1e-30)
        worst = max(worst, float(difference)) if difference == difference else float("inf")
    return worst


def load_peers(peers, subject, scratch, timeout, wanted=None):
    """Those that loaded it, with how far off their outputs are from the wanted ones, which are the first's unless given,
    {name: {"fails": reason}} of the others, and the wanted outputs."""
    ready, fails = {}, {}
    for peer in peers:
        outputs = scratch / f"{peer.name}.npz"
        try:
            peer.load({**subject, "outputs": str(outputs)}, timeout)
            wanted = wanted or load_arrays(outputs)
            ready[peer] = off_by(outputs, wanted)
        except PeerError as error:
            fails[peer.name] = {"fails": str(error)}
    return ready, fails, wanted
