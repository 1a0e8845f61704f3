"""How much memory a proxy takes for idle clients, and for a result or a COPY of gigabytes."""
import time

from client import Client


def idle(bed, proxy, count):
    """Bytes of RSS for each client that is connected, and after one query of each."""
    before = proxy.process.rss()
    clients = []
    began = time.monotonic()
    try:
        for _ in range(count):
            clients.append(Client(proxy.address, bed.user, bed.password, bed.database))
        took = time.monotonic() - began
        connected = proxy.process.rss()
        for client in clients:
            client.query("SELECT 1")
        asked = proxy.process.rss()
    finally:
        for client in clients:
            client.close()
    kilobytes = [(rss - before) / count / 1000 for rss in (connected, asked)]
    return (f"| {proxy.name} | {count} in {took:.1f} s | {before / 1e6:.1f} MB | "
            f"{kilobytes[0]:.1f} kB | {kilobytes[1]:.1f} kB |")


def large(bed, proxy, size):
    """The growth of RSS while `size` bytes of rows go out and come in."""
    lines = []
    client = Client(proxy.address, bed.user, bed.password, bed.database, timeout=600)
    rows = size // 1000
    client.query("DROP TABLE IF EXISTS bench_large")
    # Unlogged: two gigabytes of WAL on each replica would measure the disk.
    client.query("CREATE UNLOGGED TABLE bench_large (line text)")
    chunk = (b"x" * 999 + b"\n") * 64
    for what, work in (
        ("result", lambda watch: client.discard(
            f"SELECT repeat('x', 990), generate_series(1, {rows})", watch)),
        ("COPY in", lambda watch: client.copy_in(
            "COPY bench_large FROM STDIN", chunk, size // len(chunk), watch)),
    ):
        peak = _Peak(proxy)
        began = time.monotonic()
        count = work(peak.look)
        took = time.monotonic() - began
        lines.append(f"| {proxy.name} | {what} | {count / 1e9:.2f} GB | "
                     f"{count / took / 1e6:.0f} MB/s | {peak.growth() / 1e6:.1f} MB |")
    client.query("DROP TABLE bench_large")
    client.close()
    return lines


class _Peak:
    """The most memory that was seen, against what it was at first."""

    def __init__(self, proxy):
        self.process = proxy.process
        self.first = self.most = self.process.rss() if self.process else 0

    def look(self):
        if self.process:
            self.most = max(self.most, self.process.rss())

    def growth(self):
        self.look()
        return self.most - self.first
