"""PostgreSQL and Slurm of a test's own, in temporary directories."""
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time


def wait_for(condition, what, seconds=60):
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)
    return value


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Authority:
    """A certificate authority of a test's own."""

    def __init__(self, directory, name):
        self.directory = pathlib.Path(directory)
        self.key, self.certificate = self.directory / f"{name}.key", self.directory / f"{name}.crt"
        self._openssl("req", "-x509", *self._new_key(self.key), "-out", self.certificate, "-days", "2", "-subj", f"/CN={name}")

    @staticmethod
    def _new_key(file):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", file]

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)

    def issue(self, subject, alternative=None):
        """Files of a key and of a certificate for a server's name or a user's."""
        key, request, certificate = (self.directory / f"{subject}.{suffix}" for suffix in ("key", "csr", "crt"))
        self._openssl("req", *self._new_key(key), "-out", request, "-subj", f"/CN={subject}")
        extensions = self.directory / f"{subject}.ext"
        extensions.write_text(f"subjectAltName=DNS:{alternative or subject}\n")
        self._openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", "2",
                      "-extfile", extensions, "-out", certificate)
        key.chmod(0o600)
        return key, certificate


class Postgres:
    """A fresh cluster, reached over a Unix socket with a password; nothing listens on a port, unless secure() says so."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.settings = "-c listen_addresses="
        self.port = None
        self.user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        self.log = open(self.directory / "log", "ab")
        (self.directory / "password").write_text("secret\n")
        if self.user:  # the server refuses to be root's
            for path in (self.directory, self.directory / "password", self.directory / "log"):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        self.data = self.directory / "data"
        self._run("initdb", "--pgdata", self.data, "--username", "heddle", "--auth", "scram-sha-256", "--pwfile",
                  self.directory / "password", "--encoding", "UTF8", "--no-sync").check_returncode()
        self.start()

    @staticmethod
    def programs():
        return max((p for p in pathlib.Path("/usr/lib/postgresql").glob("*/bin") if (p / "postgres").exists()), default=None)

    @property
    def url(self):
        port = f"&port={self.port}" if self.port else ""
        return f"postgresql://heddle:secret@/postgres?host={self.directory}{port}"

    def _run(self, *command):
        rights = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        return subprocess.run([str(self.programs() / command[0]), *map(str, command[1:])], stdout=self.log, stderr=self.log,
                              cwd="/", timeout=120, **rights)

    def start(self):
        self._run("pg_ctl", "start", "-w", "-D", self.data, "-o",
                  f"-k {self.directory} {self.settings} -c fsync=off -c max_connections=50").check_returncode()

    def secure(self, authority):
        """Restarts with a port of localhost that takes TLS alone: `heddle` by password, `certified` by certificate."""
        self.stop("fast")
        own = []
        for file in (*authority.issue("server", "localhost"), authority.certificate):
            own.append(self.directory / file.name)
            shutil.copy(file, own[-1])
            own[-1].chmod(0o600)
            if self.user:
                os.chown(own[-1], self.user.pw_uid, self.user.pw_gid)
        (self.data / "pg_hba.conf").write_text("local all all scram-sha-256\nhostssl all heddle all scram-sha-256\n"
                                               "hostssl all certified all cert\n")
        self.port = free_ports(1)[0]
        self.settings = (f"-c listen_addresses=localhost -p {self.port} -c ssl=on -c ssl_key_file={own[0]} -c ssl_cert_file={own[1]} "
                         f"-c ssl_ca_file={own[2]}")
        self.start()

    def kill(self):
        """As a machine's end would be: no process of it has a chance to tidy up."""
        postmaster = int((self.data / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        # Its processes notice and end; a new one refuses to start beside them.
        wait_for(lambda: not self._processes(), "the server's end")
        # Where nobody reaps orphans, as in many containers, the lock files would take the dead for alive.
        for lock in (self.data / "postmaster.pid", *self.directory.glob(".s.PGSQL.*.lock")):
            lock.unlink(missing_ok=True)

    def _processes(self):
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").resolve() == self.data:
                    found.append(process.name)
            except OSError:
                pass
        return found

    def stop(self, mode="immediate"):
        self._run("pg_ctl", "stop", "-w", "-D", self.data, "-m", mode)

    def query(self, sql):
        done = subprocess.run([self.programs() / "psql", "-X", "-A", "-t", "-F", "\t", "-c", sql, self.url], capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]


class Slurm:
    """One node: controller, daemon and their authentication, on ports and with files of its own."""

    PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "sinfo", "squeue", "scancel")

    @staticmethod
    def missing():
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        absent = [p for p in Slurm.PROGRAMS if not shutil.which(p, path=path)]
        if absent:
            return f"{', '.join(absent)} of the packages slurm-wlm and munge is not installed"
        if os.geteuid() != 0:
            return "slurmd has to be root to start jobs"
        return None

    def __init__(self, directory, ports):
        self.directory = pathlib.Path(directory)
        self.processes = []
        host = os.uname().nodename.split(".")[0]
        # Munge refuses directories that others may write to, /tmp among them if it is not sticky.
        self.munge = self.directory / "munge"
        self.munge.mkdir(mode=0o711)
        key = self.munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for name in ("state", "spool", "log"):
            (self.directory / name).mkdir()
        socket = self.munge / "socket"
        self.conf = self.directory / "slurm.conf"
        self.conf.write_text(f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={socket}
CredType=cred/munge
StateSaveLocation={self.directory}/state
SlurmdSpoolDir={self.directory}/spool
SlurmctldPidFile={self.directory}/slurmctld.pid
SlurmdPidFile={self.directory}/slurmd.pid
SlurmctldLogFile={self.directory}/log/slurmctld
SlurmdLogFile={self.directory}/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
ReturnToService=2
KillWait=10
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
""")
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        self._start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket}",
                    f"--pid-file={self.munge}/pid", f"--log-file={self.munge}/log", f"--seed-file={self.munge}/seed")
        wait_for(socket.exists, "munged's socket")
        self._start("slurmctld", "-D", "-f", self.conf)
        self._start("slurmd", "-D", "-f", self.conf, "-N", host)
        wait_for(lambda: self.call("sinfo", "-h", "-o", "%T", check=False).stdout.strip() == "idle",
                 f"an idle node (see {self.directory}/log)")

    def _start(self, program, *arguments):
        log = open(self.directory / f"{program}.out", "wb")
        self.processes.append(subprocess.Popen([program, *map(str, arguments)], env=self.environment, stdout=log, stderr=log))

    def call(self, *command, check=True, **environment):
        return subprocess.run(list(map(str, command)), env={**self.environment, **environment}, capture_output=True, text=True,
                              check=check, timeout=60, cwd=self.directory)

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
