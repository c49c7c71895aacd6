"""`heddle tune --remote` and `heddle worker`: whoever dies, and whatever goes away, no trial is lost or counted twice."""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "models"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from models import HEDDLE, heddle  # noqa: E402
from servers import Authority, Postgres, Slurm, free_ports, wait_for  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = ["matmul", "--shape", "m=16,n=32,k=32"]
# Its reference alone takes seconds: time enough to die in.
SLOW = ["matmul", "--shape", "m=512,n=512,k=512"]


class Process:
    """The program in the background, with what it says to stderr in a file."""

    def __init__(self, directory, *arguments, **options):
        self.log = directory / f"log{len(list(directory.glob('log*')))}"
        self.out = self.log.with_suffix(".out")
        self.process = subprocess.Popen([HEDDLE, *map(str, arguments)], stdout=open(self.out, "w"), stderr=open(self.log, "w"),
                                        **options)

    def said(self):
        return self.log.read_text()

    def running(self):
        return self.process.poll() is None

    def end(self, number=signal.SIGTERM, seconds=60):
        if self.running():
            self.process.send_signal(number)
        return self.process.wait(timeout=seconds)

    def wait(self, seconds=180):
        code = self.process.wait(timeout=seconds)
        return code, self.out.read_text()


@pytest.fixture()
def start(tmp_path):
    """Starts programs that do not outlive the test."""
    started = []

    def begin(*arguments, **options):
        started.append(Process(tmp_path, *arguments, **options))
        return started[-1]

    yield begin
    for process in started:
        if process.running():
            process.process.kill()
            process.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not Postgres.programs():
        pytest.skip("no PostgreSQL server is installed (the package postgresql)")
    # A socket's path may not be long.
    with tempfile.TemporaryDirectory(prefix="heddle-pg-") as directory:
        os.chmod(directory, 0o755)
        postgres = Postgres(directory)
        yield postgres
        postgres.stop()


@pytest.fixture()
def postgres(server):
    """The server without anything that an earlier test has left, and with the tables."""
    server.query("drop schema public cascade; create schema public")
    heddle("records", "list", "--records", server.url)
    return server


def tune(what, trials, records, seed=1):
    return ["tune", *what, "--threads", "1", "--trials", trials, "--seed", seed, "--records", records, "--remote", "--no-families",
            "--json"]


def check_whole(postgres, trials, searches=1):
    """Every trial is there once, with the machine that measured it; no job is left."""
    rows = postgres.query("select search, count(*), count(distinct trial), min(trial), max(trial) from records group by search")
    assert len(rows) == searches
    for _, count, distinct, first, last in rows:
        assert (count, distinct, first, last) == (str(trials), str(trials), "0", str(trials - 1))
    assert postgres.query("select count(*) from jobs") == [["0"]]
    assert postgres.query("select count(*) from records where versions not like '%worker%' or machine = ''") == [["0"]]


def test_two_of_four_workers_are_killed_in_a_trial(postgres, start):
    workers = [start("worker", "--records", postgres.url, "--lease", "1s") for _ in range(4)]
    search = start(*tune(SLOW, 8, postgres.url))
    leased = "select lease_owner from jobs where state = 'leased'"
    victims = []
    for _ in range(2):
        owners = wait_for(lambda: [o for o, in postgres.query(leased) if o not in victims], "a leased job")
        victim = next(w for w in workers if f"/{w.process.pid}/" in owners[0])
        victim.end(signal.SIGKILL)
        victims.append(owners[0])
    code, out = search.wait()
    assert code == 0, search.said()
    report = json.loads(out)
    assert [t["number"] for t in report["trials"]] == list(range(8))
    assert sum(t["status"] == "ok" for t in report["trials"]) >= 7
    check_whole(postgres, 8)
    by = {json.loads(versions)["worker"] for versions, in postgres.query("select versions from records")}
    assert not by & set(victims) or len(by) > 1
    for worker in workers:
        if worker.running():
            assert worker.end(signal.SIGTERM) == 0
    # Those that were killed could not sign off.
    assert postgres.query("select count(*) from workers") == [["2"]]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_search_ends_and_goes_on(number, postgres, start):
    worker = start("worker", "--records", postgres.url)
    search = start(*tune(SMALL, 60, postgres.url))
    stored = lambda: int(postgres.query("select count(*) from records")[0][0])  # noqa: E731
    wait_for(lambda: stored() >= 5, "five trials")
    code = search.end(number)
    if number == signal.SIGINT:
        assert code == 130 and "stopped after" in search.said()
    # What the worker had begun, and after a kill all that was queued, it does without the search.
    wait_for(lambda: postgres.query("select count(*) from jobs where state <> 'done'") == [["0"]], "an idle worker")
    before = stored()
    trials = before + 9
    code, out = start(*tune(SMALL, trials, postgres.url)).wait()
    assert code == 0
    assert json.loads(out)["recalled"] == before
    check_whole(postgres, trials)
    assert worker.end(signal.SIGINT) == 0
    assert "told to stop" in worker.said()


def test_worker_that_is_told_to_stop_gives_its_job_back(postgres, start):
    worker = start("worker", "--records", postgres.url)
    search = start(*tune(SLOW, 1, postgres.url))
    jobs = "select state, attempts from jobs"
    wait_for(lambda: postgres.query(jobs) == [["leased", "1"]], "a leased job")
    begun = time.monotonic()
    assert worker.end(signal.SIGTERM) == 0
    assert time.monotonic() - begun < 5
    assert "its job is given back" in worker.said()
    assert postgres.query(jobs) == [["queued", "0"]]
    assert search.end(signal.SIGINT) == 130
    assert postgres.query(jobs) == []  # nobody has to do what nobody has begun


def test_server_that_dies_and_comes_back(postgres, start):
    workers = [start("worker", "--records", postgres.url, "--lease", "3s") for _ in range(2)]
    search = start(*tune(SMALL, 30, postgres.url))
    wait_for(lambda: int(postgres.query("select count(*) from records")[0][0]) >= 3, "three trials")
    postgres.stop("immediate")
    time.sleep(1)
    assert search.running() and all(w.running() for w in workers)
    postgres.start()
    code, out = search.wait()
    assert code == 0, search.said()
    assert len(json.loads(out)["trials"]) == 30
    check_whole(postgres, 30)
    assert [w.end() for w in workers] == [0, 0]


def test_server_that_is_killed_alone_and_together_with_the_search(postgres, start):
    """SIGKILL, to the search and to the worker too: what was answered for is there, and nothing counts twice."""
    stored = lambda: int(postgres.query("select count(*) from records")[0][0])  # noqa: E731
    worker = start("worker", "--records", postgres.url, "--lease", "2s")
    search = start(*tune(SMALL, 60, postgres.url))
    wait_for(lambda: stored() >= 3, "three trials")
    postgres.kill()
    assert search.running() and worker.running()
    postgres.start()
    before = stored()
    assert before >= 3
    wait_for(lambda: stored() >= before + 3, "more trials, by the same search and worker")

    postgres.kill()
    search.end(signal.SIGKILL)
    worker.end(signal.SIGKILL)
    postgres.start()
    before = stored()
    assert before < 60
    worker = start("worker", "--records", postgres.url, "--lease", "2s")
    code, out = start(*tune(SMALL, before + 4, postgres.url)).wait()
    assert code == 0
    report = json.loads(out)
    assert report["recalled"] >= before and len(report["trials"]) == before + 4
    check_whole(postgres, before + 4)
    assert worker.end() == 0


def test_models_kernels_are_tuned_by_a_fleet(postgres, start, tmp_path):
    weights = [numpy_helper.from_array(numpy.linspace(-1, 1, rows * columns, dtype=numpy.float32).reshape(rows, columns), name)
               for name, rows, columns in (("w", 16, 24), ("v", 24, 40))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"], name="first"), helper.make_node("Relu", ["p"], ["q"]),
             helper.make_node("MatMul", ["q", "v"], ["r"], name="second"), helper.make_node("Softmax", ["r"], ["y"], axis=-1)]
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 16])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 40])], weights)
    model = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), model)
    workers = [start("worker", "--records", postgres.url) for _ in range(2)]
    command = ["tune", model, "--threads", "1", "--records", postgres.url, "--remote", "--json", "--trials"]

    # Told to stop in the middle, it goes on from there.
    search = start(*command, 30)
    wait_for(lambda: int(postgres.query("select count(*) from records")[0][0]) >= 5, "five trials")
    assert search.end(signal.SIGINT) == 130
    assert "the same command goes on from there" in search.said()
    before = int(postgres.query("select count(*) from records")[0][0])
    code, out = start(*command, 30).wait()
    assert code == 0
    report = json.loads(out)
    kernels = report["kernels"]
    assert report["trials"] == 30 >= before and not report["stopped"]
    assert len(kernels) >= 2 and all(k["trials"] >= 1 and not k["skipped"] and k["before_ms"] > 0 for k in kernels)
    assert sum(k["trials"] for k in kernels) == 30
    # Every trial once, each with its worker; the winners were measured again.
    rows = postgres.query("select workload, count(*), count(distinct trial), max(trial) from records group by workload, search")
    assert {row[0] for row in rows} == {k["workload"] for k in kernels} and len(rows) == len(kernels)
    assert all(count == distinct == str(int(last) + 1) for _, count, distinct, last in rows)
    assert sum(int(count) for _, count, _, _ in rows) >= 30
    assert postgres.query("select count(*) from records where versions not like '%worker%'") == [["0"]]
    finalists = postgres.query("select count(distinct workload) from records where process_median > 0")
    assert finalists == [[str(len(kernels))]]
    assert all(w.end() == 0 for w in workers)

    compiled = json.loads(heddle("compile", model, "-o", tmp_path / "package", "--threads", "1", "--records", postgres.url, "--json",
                                 "--cache", tmp_path / "cache").stdout)
    sources = [k["schedule"] for k in compiled["targets"][0]["kernels"]]
    assert all("record" in source and "this machine" in source for source in sources), sources


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory):
    """A server that takes TLS alone, its certificate's authority, and another authority that it has nothing to do with."""
    if not Postgres.programs() or not shutil.which("openssl"):
        pytest.skip("no PostgreSQL server or no openssl is installed")
    with tempfile.TemporaryDirectory(prefix="heddle-tls-") as directory:
        os.chmod(directory, 0o755)
        certificates = tmp_path_factory.mktemp("certificates")
        authority = Authority(certificates, "authority")
        postgres = Postgres(directory)
        postgres.query("create role certified superuser login")
        postgres.secure(authority)
        yield postgres, authority, Authority(certificates, "stranger")
        postgres.stop()


def test_tls_by_password_and_by_certificate(secure_server, start, monkeypatch):
    postgres, authority, _ = secure_server
    key, certificate = authority.issue("certified")
    monkeypatch.setenv("PGSSLCERT", str(certificate))
    monkeypatch.setenv("PGSSLKEY", str(key))
    verified = f"sslmode=verify-full&sslrootcert={authority.certificate}"
    address = f"localhost:{postgres.port}/postgres?{verified}"
    worker = start("worker", "--records", f"postgresql://certified@{address}")
    code, out = start(*tune(SMALL, 6, f"postgresql://heddle:secret@{address}")).wait()
    assert code == 0 and len(json.loads(out)["trials"]) == 6
    check_whole(postgres, 6)
    assert {tuple(row) for row in postgres.query("select usename, ssl from pg_stat_ssl join pg_stat_activity using (pid) "
                                                 "where usename = 'certified'")} == {("certified", "t")}
    assert worker.end() == 0


@pytest.mark.parametrize("user, host, settings, message", [
    ("heddle", "localhost", "sslmode=verify-full&sslrootcert={stranger}", "certificate verify failed"),
    ("heddle", "127.0.0.1", "sslmode=verify-full&sslrootcert={authority}", "does not match host name"),
    ("heddle", "localhost", "sslmode=verify-full&sslrootcert=/nowhere/ca.crt", "/nowhere/ca.crt"),
    ("heddle", "localhost", "sslmode=disable", "no encryption"),
    ("certified", "localhost", "sslmode=verify-full&sslrootcert={authority}", "certificate"),
])
def test_tls_that_does_not_hold(secure_server, user, host, settings, message, monkeypatch):
    postgres, authority, stranger = secure_server
    monkeypatch.setenv("PGSSLCERT", "/nowhere/client.crt")
    settings = settings.format(authority=authority.certificate, stranger=stranger.certificate)
    url = f"postgresql://{user}:hidden-secret@{host}:{postgres.port}/postgres?{settings}"
    for command in (["worker", "--records", url], tune(SMALL, 1, url)):
        begun = time.monotonic()
        failed = heddle(*command, check=False)
        assert failed.returncode == 1
        assert message in failed.stderr and "check what TLS needs" in failed.stderr and "hidden-secret" not in failed.stderr
        assert time.monotonic() - begun < 15  # waiting does not make a certificate right


def test_searches_share_a_fleet(postgres, start):
    start("worker", "--records", postgres.url)
    searches = [start(*tune(SMALL, 6, postgres.url, seed)) for seed in (1, 2)]
    assert [s.wait()[0] for s in searches] == [0, 0]
    check_whole(postgres, 6, searches=2)


def test_the_same_search_twice_at_once_counts_once(postgres, start):
    start("worker", "--records", postgres.url)
    searches = [start(*tune(SMALL, 6, postgres.url)) for _ in range(2)]
    assert [s.wait()[0] for s in searches] == [0, 0]
    check_whole(postgres, 6)


def test_server_that_is_away(tmp_path):
    away = "postgresql://me:hidden@127.0.0.1:1/records"
    for command in (["worker", "--records", away], tune(SMALL, 1, away)):
        failed = heddle(*command, check=False)
        assert failed.returncode == 1
        assert "check that the server runs" in failed.stderr and "hidden" not in failed.stderr


def test_without_workers_a_search_says_so_and_obeys(tmp_path, start):
    records = f"sqlite:{tmp_path}/tune.db"
    search = start(*tune(SMALL, 4, records))
    wait_for(lambda: "waits for a first worker: no worker" in search.said(), "the reason")
    assert search.end(signal.SIGINT) == 130
    failed = heddle(*tune(SMALL, 4, records), "--time", "1s", check=False)
    assert failed.returncode == 1 and "no time was left" in failed.stderr

    # A machine whose workers have gone stays known: the search waits for them, and goes on once one comes.
    assert "--idle-exit" in heddle("worker", "--records", records, "--idle-exit", "0.1s").stderr
    search = start(*tune(SMALL, 4, records))
    wait_for(lambda: "waits: no worker of" in search.said(), "the reason")
    worker = start("worker", "--records", records)
    code, out = search.wait()
    assert code == 0 and len(json.loads(out)["trials"]) == 4
    assert worker.end() == 0


def test_workers_of_another_kind_or_version(tmp_path, start):
    records = f"sqlite:{tmp_path}/tune.db"
    own = heddle("worker", "--records", records, "--idle-exit", "0.1s").stderr
    kind = max(re.findall(r"^  (\S+; .*)$", own, re.MULTILINE), key=len)
    target = kind.split(";")[0]
    # A processor that lacks something is another machine.
    lesser = {**os.environ, "HEDDLE_CPU_FEATURES": "sse4_1,sse4_2,asimd"}
    with sqlite3.connect(tmp_path / "tune.db") as database:
        database.execute("insert into jobs (job_key, target, payload, state, lease_owner, lease_deadline, attempts, result) values "
                         "('k', ?, '{}', 'queued', '', 0, 0, '')", [kind.split("; heddle")[0] + "; heddle 9.9"])
    other = start("worker", "--records", records, env=lesser)
    wait_for(lambda: "others do" in other.said(), "the reason")
    assert "1 for " in other.said() and "heddle 9.9" in other.said()
    if f"  {target};" in other.said():
        pytest.skip("this processor has nothing that could be hidden")

    several = heddle(*tune(SMALL, 2, records), check=False)
    assert several.returncode == 2 and "--machine" in several.stderr and target in several.stderr
    search = heddle(*tune(SMALL, 2, records), "--machine", kind, "--time", "4s", check=False)
    assert search.returncode == 1
    assert f"no worker of {kind} was seen" in search.stderr and "only 1 of" in search.stderr
    assert other.end() == 0
    with sqlite3.connect(tmp_path / "tune.db") as database:
        assert database.execute("select count(*) from records").fetchone() == (0,)


def test_newer_schema(tmp_path):
    records = f"sqlite:{tmp_path}/tune.db"
    heddle("worker", "--records", records, "--idle-exit", "0.1s")
    with sqlite3.connect(tmp_path / "tune.db") as database:
        database.execute("update schema_version set version = 1000")
    for command in (["worker", "--records", records], tune(SMALL, 1, records)):
        failed = heddle(*command, check=False)
        assert failed.returncode == 1 and "newer than this program's" in failed.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who may not write")
def test_read_only(tmp_path):
    file = tmp_path / "tune.db"
    heddle("worker", "--records", file, "--idle-exit", "0.1s")
    file.chmod(0o444)
    for directory in (tmp_path, *tmp_path.parents):
        if "pytest" in directory.name:
            directory.chmod(0o755 if directory != tmp_path else 0o777)
    for command in (["worker", "--records", file], tune(SMALL, 1, file)):
        failed = heddle(*command, check=False, user=65534, env={**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)})
        assert failed.returncode == 1 and "read-only" in failed.stderr


def test_full(tmp_path, start):
    """A limit on the size of files stands for a disk that is full."""
    file = tmp_path / "tune.db"
    worker = start("worker", "--records", file)
    wait_for(lambda: "takes jobs" in worker.said(), "a worker")

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    failed = heddle(*tune(SMALL, 60, file), check=False, preexec_fn=limited)
    assert failed.returncode == 1 and str(file) in failed.stderr
    with sqlite3.connect(file) as database:
        before = database.execute("select count(*) from records").fetchone()[0]
    report = json.loads(heddle(*tune(SMALL, before + 3, file)).stdout)
    assert report["recalled"] == before and len(report["trials"]) == before + 3
    with sqlite3.connect(file) as database:
        assert database.execute("select count(*), count(distinct trial) from records").fetchone() == (before + 3, before + 3)
    assert worker.end() == 0


def test_wrong_calls(tmp_path, monkeypatch):
    monkeypatch.delenv("HEDDLE_RECORDS", raising=False)
    assert heddle("worker", check=False).returncode == 2
    assert heddle("worker", "--records", "nothing://here", check=False).returncode == 2
    failed = heddle("tune", *SMALL, "--records", tmp_path / "t.db", "--machine", "x", check=False)
    assert failed.returncode == 2 and "--remote" in failed.stderr


def test_no_heartbeat_after_the_signing_off(postgres, start):
    worker = start("worker", "--records", postgres.url, "--lease", "1s")  # four beats a second
    workers = "select count(*) from workers"
    wait_for(lambda: postgres.query(workers) == [["1"]], "the worker")
    # A signing off that takes long: a beat meanwhile waits for it, and would announce the worker anew.
    postgres.query("create function late() returns trigger language plpgsql as 'begin perform pg_sleep(1); return null; end'; "
                   "create trigger late after delete on workers for each row execute function late()")
    assert worker.end(signal.SIGTERM) == 0
    assert postgres.query(workers) == [["0"]]


def test_slurm_script(postgres, start, tmp_path):
    reason = Slurm.missing()
    if reason:
        pytest.skip(reason)
    (tmp_path / "slurm").mkdir()
    slurm = Slurm(tmp_path / "slurm", free_ports(2))
    try:
        script = ROOT / "docs/fleet/heddle-workers.sbatch"
        sent = slurm.call("sbatch", "--array=1-2", script, HEDDLE=str(HEDDLE), HEDDLE_RECORDS=postgres.url, HEDDLE_IDLE_EXIT="10m")
        job = re.search(r"\d+", sent.stdout)[0]
        wait_for(lambda: postgres.query("select count(*) from workers") == [["2"]], "two workers")
        code, out = start(*tune(SMALL, 8, postgres.url)).wait()
        assert code == 0 and len(json.loads(out)["trials"]) == 8
        check_whole(postgres, 8)
        # As Slurm does before the time is over: the workers sign off and end well.
        slurm.call("scancel", "--batch", "--signal=TERM", job)
        wait_for(lambda: slurm.call("squeue", "-h").stdout == "", "the jobs' end")
        assert postgres.query("select count(*) from workers") == [["0"]]
        logs = [log.read_text() for log in (tmp_path / "slurm").glob("heddle-worker-*.log")]
        assert len(logs) == 2 and all("told to stop" in log for log in logs)
    finally:
        slurm.stop()


def test_slurm_script_says_what_is_missing(tmp_path):
    script = ROOT / "docs/fleet/heddle-workers.sbatch"
    environment = {name: value for name, value in os.environ.items() if name != "HEDDLE_RECORDS"}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and "postgresql://USER@HOST/DATABASE" in done.stderr


def test_kubernetes_manifest():
    import yaml

    (manifest,) = yaml.safe_load_all((ROOT / "docs/fleet/heddle-workers.yaml").read_text())
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "Job") and manifest["metadata"]["name"]
    assert manifest["spec"]["parallelism"] > 1
    pod = manifest["spec"]["template"]["spec"]
    assert pod["restartPolicy"] in ("OnFailure", "Never")  # all that a Job may have
    (container,) = pod["containers"]
    assert container["image"] and container["resources"]["limits"] == container["resources"]["requests"]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert "secretKeyRef" in environment["HEDDLE_RECORDS"]["valueFrom"]
    # The command line is one that the program takes: only the database's address is wrong.
    program, *arguments = container["command"]
    assert program == "heddle" and arguments[0] == "worker"
    done = heddle(*arguments, check=False, env={**os.environ, "HEDDLE_RECORDS": "nothing://here"})
    assert done.returncode == 2 and "nothing://here" in done.stderr
    usage = heddle("worker", "--help").stdout
    assert all(a in usage for a in arguments if a.startswith("--"))
