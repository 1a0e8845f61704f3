"""pgbench against the primary itself and against each proxy, in turns."""
import os
import re
import resource
import statistics
import subprocess

SELECT, BOTH = ["-S"], []

# name: arguments of pgbench
TESTS = {
    "select simple 8": [*SELECT, "-M", "simple", "-c", "8"],
    "select simple 64": [*SELECT, "-M", "simple", "-c", "64"],
    "select extended 8": [*SELECT, "-M", "extended", "-c", "8"],
    "select extended 64": [*SELECT, "-M", "extended", "-c", "64"],
    "select prepared 8": [*SELECT, "-M", "prepared", "-c", "8"],
    "select prepared 64": [*SELECT, "-M", "prepared", "-c", "64"],
    "tpcb 8": [*BOTH, "-M", "simple", "-c", "8"],
    "connect 8": [*SELECT, "-M", "simple", "-c", "8", "-C"],
}


class Run:
    """What one run of pgbench brought."""

    def __init__(self, tps, transactions, proxy_us, rss, latency_ms, errors):
        self.tps, self.transactions, self.proxy_us = tps, transactions, proxy_us
        self.rss, self.latency_ms, self.errors = rss, latency_ms, errors


def pgbench(bed, proxy, arguments, seconds):
    clients = int(arguments[arguments.index("-c") + 1])
    command = [f"{bed.bin}/pgbench", "-h", proxy.address[0], "-p", str(proxy.address[1]),
               "-U", bed.user, "-n", "-T", str(seconds), "-j", str(min(clients, os.cpu_count())),
               *arguments, bed.database]
    before = proxy.process.cpu_seconds() if proxy.process else 0.0
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 4 + 60,
                          env=dict(os.environ, PGPASSWORD=bed.password, LC_ALL="C"))
    spent = proxy.process.cpu_seconds() - before if proxy.process else 0.0

    def number(pattern):
        found = re.search(pattern, done.stdout)
        return float(found[1]) if found else 0.0

    transactions = int(number(r"transactions actually processed: (\d+)"))
    errors = int(number(r"number of failed transactions: (\d+)"))
    errors += len(re.findall(r"(?:error|ERROR|FATAL):", done.stderr))
    if done.returncode and not errors:
        errors = 1
    return Run(tps=number(r"tps = ([\d.]+)"), transactions=transactions,
               proxy_us=spent / transactions * 1e6 if proxy.process and transactions else None,
               rss=proxy.process.rss() if proxy.process else None,
               latency_ms=number(r"latency average = ([\d.]+)"), errors=errors)


def measure(bed, proxies, tests, rounds, seconds, skip, say):
    """All runs: {(test, proxy): [Run]}. `skip(test, proxy)` leaves one out."""
    runs = {}
    for proxy in proxies:
        pgbench(bed, proxy, TESTS["select simple 8"], 1)
    for turn in range(rounds):
        for test in tests:
            # Another one begins in each round: whoever comes first finds another cache.
            order = proxies[turn % len(proxies):] + proxies[:turn % len(proxies)]
            for proxy in order:
                if skip(test, proxy.name):
                    continue
                run = pgbench(bed, proxy, TESTS[test], seconds)
                runs.setdefault((test, proxy.name), []).append(run)
                say(f"round {turn + 1} {test:18} {proxy.name:10} {run.tps:9.0f} tps"
                    f" {run.latency_ms:8.3f} ms {run.proxy_us or 0:6.1f} us"
                    f" {run.errors} errors")
    return runs


def table(runs, tests, names):
    """The medians as a table of Markdown."""
    lines = ["| test | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for test in tests:
        cells = [_cell(runs.get((test, name)), runs.get((test, "direct"))) for name in names]
        lines.append(f"| {test} | " + " | ".join(cells) + " |")
    return lines


def _cell(runs, direct):
    if not runs:
        return "-"
    words = [f"{_median(run.tps for run in runs):.0f} tps"]
    if direct and direct is not runs:
        ratios = [run.tps / base.tps for run, base in zip(runs, direct) if base.tps]
        if ratios:
            words.append(f"**{_median(ratios):.2f}**")
    spent = [run.proxy_us for run in runs if run.proxy_us is not None]
    if spent:
        words.append(f"{_median(spent):.1f} us")
    errors = sum(run.errors for run in runs)
    if errors:
        words.append(f"{errors} ERRORS")
    return ", ".join(words)


def resident(runs, names):
    lines = []
    for name in names:
        sizes = [run.rss for (_, who), all_runs in runs.items() if who == name
                 for run in all_runs if run.rss]
        if sizes:
            lines.append(f"- {name}: {max(sizes) / 1e6:.1f} MB")
    return lines


def _median(values):
    return statistics.median(list(values))


def raise_file_limit():
    """A thousand clients are a thousand files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
