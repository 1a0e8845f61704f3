"""kill -9 of the primary while clients write, on a fresh cluster each time: how long writes stood
still, what the clients were told, and whether an acknowledged commit is missing."""
import itertools
import statistics
import threading
import time

from client import Client, Lost, PgError
from cluster import Bed, start_pgherd, wait_for

WRITERS = 8


class Writer(threading.Thread):
    """Inserts one row after the other, each a transaction, and remembers what it was told."""

    def __init__(self, bed, router, numbers):
        super().__init__(daemon=True)
        self.bed, self.router, self.numbers = bed, router, numbers
        self.stopping = threading.Event()
        self.acknowledged, self.times, self.told = [], [], []

    def run(self):
        client = None
        while not self.stopping.is_set():
            number = next(self.numbers)
            try:
                client = client or Client(self.router.address, self.bed.user, self.bed.password,
                                          self.bed.database, timeout=60)
                client.query(f"INSERT INTO written VALUES ({number})")
                self.acknowledged.append(number)
                self.times.append(time.monotonic())
            except PgError as error:
                self.told.append(error.sqlstate)
                if str(error).startswith("FATAL"):
                    client = _dropped(client)
            except (Lost, OSError):
                self.told.append("lost")
                client = _dropped(client)
        _dropped(client)


def _dropped(client):
    if client:
        client.close()
    time.sleep(0.02)


class Kill:
    """What came of one kill."""

    def __init__(self, gap, acknowledged, missing, told):
        self.gap, self.acknowledged, self.missing, self.told = gap, acknowledged, missing, told


def kill_once(synchronous):
    bed = Bed(synchronous=synchronous)
    router = None
    try:
        state = f"{bed.folder}/state"
        router = start_pgherd(bed, FAILOVER.format(state=state))
        app = Client(router.address, bed.user, bed.password, bed.database)
        app.query("CREATE TABLE written (number bigint PRIMARY KEY)")
        app.close()
        bed.settle()
        return _kill_under_writers(bed, router)
    finally:
        if router:
            router.stop()
        bed.stop()


def _kill_under_writers(bed, router):
    # `next` of a counter is one step of the interpreter: no number is given out twice.
    numbers = itertools.count(1)
    writers = [Writer(bed, router, numbers) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    time.sleep(2)
    killed = time.monotonic()
    bed.nodes[0].kill()
    try:
        wait_for("a write after the kill", 60, lambda: any(
            writer.times and writer.times[-1] > killed + 0.1 for writer in writers))
        time.sleep(1)
    finally:
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join(90)
    times = sorted(moment for writer in writers for moment in writer.times)
    gap = max(after - before for before, after in zip(times, times[1:]))
    acknowledged = {number for writer in writers for number in writer.acknowledged}
    found = _rows_of_the_new_primary(bed)
    told = {}
    for writer in writers:
        for word in writer.told:
            told[word] = told.get(word, 0) + 1
    return Kill(gap, len(acknowledged), len(acknowledged - found), told)


def _rows_of_the_new_primary(bed):
    """Read from the server itself: the router is what is being judged."""
    primaries = [node for node in bed.nodes[1:]
                 if node.query("SELECT pg_is_in_recovery()")[0][0] == "f"]
    if len(primaries) != 1:
        raise AssertionError(f"{len(primaries)} primaries after the kill")
    rows = primaries[0].query("SELECT number FROM written", bed.database)
    return {int(row[0]) for row in rows}


def report(kills, synchronous):
    gaps = [kill.gap for kill in kills]
    told = {}
    for kill in kills:
        for word, count in kill.told.items():
            told[word] = told.get(word, 0) + count
    answers = ", ".join(f"{word}: {count}" for word, count in sorted(told.items())) or "nothing"
    return [
        f"{len(kills)} kills, {WRITERS} writers, replication "
        + ("synchronous (`ANY 1 (*)`)" if synchronous else "asynchronous"),
        "",
        f"- longest time without a commit: median {statistics.median(gaps):.2f} s, "
        f"largest {max(gaps):.2f} s",
        f"- commits acknowledged: {sum(kill.acknowledged for kill in kills)}, "
        f"of these missing afterwards: {sum(kill.missing for kill in kills)}",
        f"- errors that clients saw (SQLSTATE, or `lost` for a closed connection): {answers}",
    ]


# What was not received is gone either way; the question here is how much of it was acknowledged.
FAILOVER = """
[cluster.main.failover]
mode = "auto"
max_lost_bytes = "any"
[state]
dir = "{state}"
"""
