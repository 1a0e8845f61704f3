"""A throw-away primary with replicas, and the proxies in front of it, each on a free port.

Everything lives in one folder below /tmp and ends with this program. Nothing is installed.
"""
import glob
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from client import Client, Lost, PgError

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PASSWORD = "bench"


class Missing(Exception):
    """Something that a measurement needs is not here."""


def pg_bin():
    """The folder with initdb, postgres, pgbench and pg_basebackup."""
    named = os.environ.get("PGHERD_PG_BIN")
    newest = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=_major, reverse=True)
    on_path = shutil.which("postgres")
    for folder in [named] if named else [on_path and os.path.dirname(on_path), *newest]:
        if folder and all(os.access(f"{folder}/{name}", os.X_OK)
                          for name in ("initdb", "postgres", "pgbench", "pg_basebackup")):
            return folder
    raise Missing("no PostgreSQL server with pgbench was found; set PGHERD_PG_BIN")


def pgherd_bin():
    """The router, built when it is not there."""
    named = os.environ.get("PGHERD_BIN")
    path = Path(named) if named else REPOSITORY / "target/release/pgherd"
    if not path.exists() and not named:
        subprocess.run(["cargo", "build", "--release", "--locked"], cwd=REPOSITORY, check=True)
    if not path.exists():
        raise Missing(f"{path} does not exist")
    return str(path)


def pgbouncer_version():
    """(major, minor) of the PgBouncer on PATH, or None."""
    if not shutil.which("pgbouncer"):
        return None
    said = subprocess.run(["pgbouncer", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def _major(folder):
    found = re.search(r"(\d+)/bin$", folder)
    return int(found[1]) if found else 0


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def unprivileged():
    """What makes a child run as `postgres` when we are root, which PostgreSQL and PgBouncer
    refuse to be."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("postgres")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def wait_for(what, seconds, check):
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise Missing(f"{what} did not happen within {seconds} s")
        time.sleep(0.05)


def answers(address, user, password, database):
    try:
        client = Client(address, user, password, database, timeout=5)
        client.query("SELECT 1")
        client.close()
        return True
    except (Lost, PgError, OSError):
        return False


class Process:
    """A child of ours, ended by its id."""

    def __init__(self, command, log, **options):
        with open(log, "ab") as output:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                          stderr=output, **options)
        self.pid, self.log = self.child.pid, log

    def stop(self, how=signal.SIGINT):
        if self.child.poll() is None:
            self.child.send_signal(how)
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def cpu_seconds(self):
        """User and system time of all threads."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self):
        """Resident bytes."""
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Node:
    """One PostgreSQL server."""

    def __init__(self, bed, name):
        self.bed, self.name = bed, name
        self.data = f"{bed.folder}/{name}"
        self.address = ("127.0.0.1", free_port())
        self.process = None

    def start(self):
        command = [f"{self.bed.bin}/postgres", "-D", self.data, "-p", str(self.address[1]),
                   "-c", f"cluster_name={self.name}"]
        self.process = Process(command, f"{self.bed.folder}/{self.name}.log", **unprivileged())
        wait_for(f"the start of {self.name}", 60,
                 lambda: answers(self.address, "postgres", PASSWORD, "postgres"))

    def query(self, text, database="postgres"):
        client = Client(self.address, "postgres", PASSWORD, database)
        try:
            return client.query(text)
        finally:
            client.close()

    def kill(self):
        """kill -9 of the server and of all its backends."""
        # Stopped first: a postmaster that sees a backend die would start the others anew.
        os.kill(self.process.pid, signal.SIGSTOP)
        for pid in [*_children(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.child.wait()


class Bed:
    """A primary and its replicas, with a database `bench` and a user `app`."""

    def __init__(self, replicas=2, synchronous=False):
        self.bin = pg_bin()
        self.folder = tempfile.mkdtemp(prefix="pgherd-bench-", dir="/tmp")
        if os.geteuid() == 0:
            os.chown(self.folder, unprivileged()["user"], unprivileged()["group"])
        self.nodes = [Node(self, f"pg{number}") for number in range(1, replicas + 2)]
        self.user, self.password, self.database = "app", PASSWORD, "bench"
        self.monitor = ("pgherd", PASSWORD)
        try:
            self._create(synchronous)
        except BaseException:
            self.stop()
            raise

    @property
    def addresses(self):
        return [node.address for node in self.nodes]

    def _create(self, synchronous):
        primary, *replicas = self.nodes
        secret = self.write("password", PASSWORD)
        self._run("initdb", "-D", primary.data, "-U", "postgres", "-A", "scram-sha-256",
                  f"--pwfile={secret}", "--no-sync", "-E", "UTF8", "--locale=C")
        with open(f"{primary.data}/postgresql.conf", "a") as conf:
            conf.write(CONF)
            if synchronous:
                conf.write("synchronous_standby_names = 'ANY 1 (*)'\n")
        with open(f"{primary.data}/pg_hba.conf", "w") as hba:
            hba.write("host all,replication all 127.0.0.1/32 scram-sha-256\n")
        primary.start()
        # Nobody could confirm a commit yet.
        off = "SET synchronous_commit = local; "
        setup = subprocess.run([pgherd_bin(), "setup-sql", "--failover"], check=True, text=True,
                               capture_output=True).stdout
        setup = "\n".join(line for line in setup.splitlines() if not line.startswith("\\"))
        primary.query(off + setup)
        for text in (f"ALTER ROLE pgherd PASSWORD '{PASSWORD}'",
                     f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'",
                     f"CREATE ROLE streamer LOGIN REPLICATION PASSWORD '{PASSWORD}'"):
            primary.query(off + text)
        # CREATE DATABASE cannot share its text with a SET.
        client = Client(primary.address, "postgres", PASSWORD, "postgres")
        client.query("SET synchronous_commit = local")
        client.query("CREATE DATABASE bench OWNER app")
        client.close()
        for replica in replicas:
            host, port = primary.address
            self._run("pg_basebackup", "-D", replica.data, "-R", "-X", "stream", "-c", "fast",
                      "--no-sync", "-d",
                      f"host={host} port={port} user=streamer password={PASSWORD} "
                      f"application_name={replica.name}")
            replica.start()
        self.settle()

    def settle(self):
        """Waits until all replicas have replayed what the primary has."""
        primary, *replicas = self.nodes
        at = primary.query("SELECT pg_current_wal_flush_lsn()")[0][0]
        for replica in replicas:
            wait_for(f"the catch-up of {replica.name}", 120, lambda node=replica: node.query(
                f"SELECT pg_last_wal_replay_lsn() >= '{at}'::pg_lsn")[0][0] == "t")

    def verifier(self):
        """What a userlist holds of `app`: the stored verifier, as a lookup would find it."""
        return self.nodes[0].query(
            "SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")[0][0]

    def write(self, name, text):
        path = f"{self.folder}/{name}"
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o600)
        if os.geteuid() == 0:
            os.chown(path, unprivileged()["user"], unprivileged()["group"])
        return path

    def _run(self, program, *arguments):
        done = subprocess.run([f"{self.bin}/{program}", *arguments], text=True,
                              capture_output=True, cwd=self.folder, **unprivileged())
        if done.returncode:
            raise Missing(f"{program} failed:\n{done.stderr}")

    def stop(self):
        for node in reversed(self.nodes):
            if node.process:
                node.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Existing:
    """A cluster that somebody else runs: BENCH_HOSTS and its companions."""

    def __init__(self, hosts):
        self.bin = pg_bin()
        self.folder = tempfile.mkdtemp(prefix="pgherd-bench-", dir="/tmp")
        os.chmod(self.folder, 0o755)
        self.addresses = [(host, int(port)) for host, port in
                          (item.rsplit(":", 1) for item in hosts.split(","))]
        get = os.environ.get
        self.user, self.password = get("BENCH_USER", "app"), get("BENCH_PASSWORD", "app")
        self.database = get("BENCH_DB", "bench")
        self.monitor = (get("BENCH_MONITOR_USER", "pgherd"),
                        get("BENCH_MONITOR_PASSWORD", self.password))

    def verifier(self):
        return self.password

    def settle(self):
        """Nothing to wait for: the data has been there."""

    write = Bed.write

    def stop(self):
        shutil.rmtree(self.folder, ignore_errors=True)


class Proxy:
    """Something between the clients and the cluster; `direct` is nothing."""

    def __init__(self, name, address, process=None):
        self.name, self.address, self.process = name, address, process

    def stop(self):
        if self.process:
            self.process.stop(signal.SIGINT)


def start_pgherd(bed, extra=""):
    port = free_port()
    hosts = ", ".join(f'"pg{n}={host}:{upstream}"'
                      for n, (host, upstream) in enumerate(bed.addresses, 1))
    users = bed.write("pgherd-users.txt", f'"{bed.user}" "{bed.verifier()}"\n')
    config = bed.write("pgherd.toml", PGHERD.format(
        port=port, http=free_port(), user=bed.monitor[0], password=bed.monitor[1], users=users,
        hosts=hosts, pool=POOL, extra=extra))
    process = Process([pgherd_bin(), "run", "-c", config], f"{bed.folder}/pgherd.log")
    return _started(bed, Proxy("pgherd", ("127.0.0.1", port), process))


def start_pgbouncer(bed):
    version, port = pgbouncer_version(), free_port()
    if not version:
        raise Missing("pgbouncer is not on PATH")
    host, upstream = bed.addresses[0]
    users = bed.write("pgbouncer-users.txt", f'"{bed.user}" "{bed.verifier()}"\n')
    prepared = "max_prepared_statements = 500\n" if version >= (1, 21) else ""
    config = bed.write("pgbouncer.ini", PGBOUNCER.format(
        database=bed.database, host=host, upstream=upstream, port=port, users=users, pool=POOL,
        prepared=prepared))
    process = Process(["pgbouncer", "-q", config], f"{bed.folder}/pgbouncer.log", **unprivileged())
    return _started(bed, Proxy("pgbouncer", ("127.0.0.1", port), process))


def _started(bed, proxy):
    try:
        wait_for(f"the start of {proxy.name}", 30, lambda: answers(
            proxy.address, bed.user, bed.password, bed.database))
    except Missing:
        proxy.stop()
        with open(proxy.process.log, errors="replace") as log:
            raise Missing(f"{proxy.name} does not answer:\n{log.read()[-2000:]}") from None
    return proxy


def _children(parent):
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as stat:
                if int(stat.read().rsplit(")", 1)[1].split()[1]) == parent:
                    found.append(int(path.split("/")[2]))
        except (OSError, IndexError):
            pass
    return found


# The same for each proxy: server connections of one user to one server.
POOL = 20

CONF = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 256MB
wal_keep_size = 512MB
max_wal_size = 4GB
autovacuum = off
"""

PGHERD = """\
[listen]
postgres = "127.0.0.1:{port}"
http = "127.0.0.1:{http}"
[monitor]
user = "{user}"
password = "{password}"
[auth]
method = "file"
file = "{users}"
[cluster.main]
hosts = [{hosts}]
[cluster.main.pool]
size = {pool}
max_clients = 10000
{extra}"""

PGBOUNCER = """\
[databases]
{database} = host={host} port={upstream}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 10000
{prepared}"""
