# SPDX-License-Identifier: Apache-2.0
"""Drives the two applications, waits for what they must have reported, and compares.

`drive` sends the requests and polls the backend's live books until all is there or the deadline is over;
it only waits, so a deadline that passes fails nothing by itself. `compare` judges, on the books that the
backend printed at its very end: what comes late or twice is in them.
"""

import argparse
import hashlib
import json
import re
import ssl
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

PYTHON, NODE = "interop-python", "interop-node"


def expected_operations(service, requests):
    """What a backend must see of `requests` requests, by span type and operation name."""
    method = "GET:" if service == NODE else ""  # Node's agent puts it in front of the names of entries
    operations = Counter({"Local compute": requests})
    for number in range(1, requests + 1):
        operations[f"Entry {method}/work/{number}"] = 1
        operations[f"Exit /leaf/{number}"] = 1
        operations[f"Entry {method}/leaf/{number}"] = 1
    return operations


def handled(service_books):
    """Number of a request -> how often the log line about it came."""
    lines = Counter()
    for text, times in service_books["log_lines"].items():
        if match := re.search(r"handled (\d+)$", text):
            lines[int(match[1])] += times
    return lines


def missing(books, requests):
    """Everything still to come, in words; empty when all is there."""
    out = []
    for service in (PYTHON, NODE):
        seen = books["services"].get(service)
        if seen is None:
            out.append(f"{service}: all")
            continue
        lacking = (expected_operations(service, requests) - Counter(seen["operations"])).total()
        if lacking:
            out.append(f"{service}: {lacking} spans")
        wanted = ["heartbeats", "properties"]
        if service == PYTHON:
            wanted += ["meters", "ProfileTaskCommandQuery"]
            if len(handled(seen)) < requests:
                out.append(f"{service}: {requests - len(handled(seen))} log lines")
        out += [f"{service}: {kind}" for kind in wanted if not seen["counts"].get(kind)]
    return out


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


def drive(options):
    urls = [
        f"http://127.0.0.1:{port}/work/{number}"
        for number in range(options.first, options.requests + 1)
        for port in (options.python_port, options.node_port)
    ]
    begun = time.monotonic()

    def paced(numbered):
        number, url = numbered
        pause = begun + options.over * number / len(urls) - time.monotonic()
        time.sleep(max(pause, 0))  # the pace is the point
        return get(url)

    with ThreadPoolExecutor(max_workers=8) as pool:
        if any(body != b"ok" for body in pool.map(paced, enumerate(urls))):
            sys.exit("an application failed to answer")
    if options.over:
        # The way is still cut: nothing of this can be there yet.
        time.sleep(max(begun + options.over - time.monotonic(), 0))
        return
    end = time.monotonic() + options.deadline
    while left := missing(json.loads(get(options.report)), options.requests):
        if time.monotonic() > end:
            print(f"still missing after {options.deadline} s: {', '.join(left)}", file=sys.stderr)
            return
        time.sleep(0.2)  # between two looks


def printed(path, key):
    """The last JSON line with that key; an agent may log to its application's stdout too."""
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file if line.startswith("{") and f'"{key}"' in line]
    return json.loads(lines[-1]) if lines else {}


def first_certificate(path):
    with open(path, encoding="ascii") as file:
        pem = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", file.read(), re.DOTALL)[0]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def failed_calls(paths):
    """What gRPC clients say when a call fails, in the agents' own logs."""
    words = re.compile("UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|CANCELLED|PERMISSION_DENIED|INTERNAL:|StatusCode")
    found = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            found += [line.strip()[:200] for line in file if words.search(line)]
    return found


def compare(options):
    books = printed(options.books, "services")
    if not books:
        sys.exit("the backend ended without giving its books")
    results = []

    def check(what, ok, fact):
        results.append(ok)
        print(f"{'ok  ' if ok else 'FAIL'}  {what:<62} {fact}")

    for name in options.checks:
        with open(name, encoding="utf-8") as file:
            for what, ok, fact in json.load(file):
                check(what, ok, " ".join(fact.split())[:200])
    for service, app in ((PYTHON, options.python_app), (NODE, options.node_app)):
        seen = books["services"].get(service)
        if seen is None:
            check(f"{service}: reported anything at all", False, "nothing came")
            continue
        counts, operations = Counter(seen["counts"]), Counter(seen["operations"])
        expected = expected_operations(service, options.requests)
        lost, extra = expected - operations, operations - expected
        check(
            f"{service}: every span that was made came, and no other",
            not lost and not extra,
            f"{counts['spans']} of {expected.total()} spans in {seen['segments']} segments"
            + "".join(f"; {name} {sorted(some)[:5]}" for name, some in (("lost", lost), ("extra", extra)) if some),
        )
        made = printed(app, "spans").get("spans")
        kinds = Counter()
        for operation, times in operations.items():
            kinds[operation.split()[0]] += times
        check(f"{service}: as many as the application counted", dict(kinds) == made, f"{made}, here {dict(kinds)}")
        check(f"{service}: no span twice", not counts["duplicate_spans"], f"{counts['duplicate_spans']} duplicates")
        check(f"{service}: heartbeats came", counts["heartbeats"] > 0, counts["heartbeats"])
        check(f"{service}: instance properties came", counts["properties"] > 0, counts["properties"])
        # One agent has a token and the other none: the relay must neither lose nor lend it.
        tokens = seen["metadata"]["authentication"]
        own = options.token if service == PYTHON else "none"
        shown = {("own" if value == own else "other"): calls for value, calls in tokens.items()}
        check(f"{service}: its own authentication on every call", set(tokens) == {own}, f"calls {shown}")
        if service == PYTHON:
            lines = handled(seen)
            check(
                f"{service}: every log line came once",
                lines == Counter(range(1, options.requests + 1)),
                f"{lines.total()} of {options.requests} lines",
            )
            check(f"{service}: meters came", counts["meters"] > 0, counts["meters"])
            queries = counts["ProfileTaskCommandQuery"]
            check(f"{service}: profile task queries came", queries > 0, queries)

    complaints = failed_calls(options.agent_logs)
    check("no call of an agent failed", not complaints, complaints[:3] or f"the backend was away for {options.outage} s")
    if options.outage:
        with open(options.relay_log, encoding="utf-8") as file:
            log = file.read()
        away = [line for line in log.splitlines() if "the backend is away" in line]
        back = re.findall(r"the backend is back: .*", log)
        check("the outage was said once, and its end", len(away) == len(back) == 1, "; ".join(back))
    others = {s: b["counts"]["spans"] for s, b in books["services"].items() if b["counts"].get("spans")}
    others = {s: n for s, n in others.items() if s not in (PYTHON, NODE)}
    check("no span under another service's name", not others, others or "")
    dangling = books["dangling_references"]
    check("every reference between segments leads to a span", not dangling, f"{dangling} dangling")
    check("no call broke the protocol", not books["errors"], books["errors"][:3] or "")
    certificates = set(books["client_certificates"])
    expected_certificate = {first_certificate(options.client_certificate)} if options.client_certificate else {"none"}
    check(
        "every call came with the relay's own certificate",
        certificates == expected_certificate,
        f"{[c[:16] for c in certificates]}",
    )
    check("the relay ended by itself with 0", options.relay_exit == 0, f"exit {options.relay_exit}")

    print("\ncalls at the backend:")
    for path, number in sorted(books["calls"].items()):
        print(f"{number:6}  {path}")
    print(f"\n{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(not all(results))


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    driver = commands.add_parser("drive")
    driver.add_argument("--report", required=True)
    driver.add_argument("--python-port", type=int, required=True)
    driver.add_argument("--node-port", type=int, required=True)
    driver.add_argument("--first", type=int, default=1, help="number of the first request")
    driver.add_argument("--over", type=float, default=0, help="spread over so many seconds, without a wait at the end")
    driver.add_argument("--deadline", type=float, default=60)
    comparer = commands.add_parser("compare")
    comparer.add_argument("--books", required=True, help="what server.py printed")
    comparer.add_argument("--python-app", required=True, help="what app_python.py printed")
    comparer.add_argument("--node-app", required=True, help="what app_node.js printed")
    comparer.add_argument("--client-certificate", help="without it no certificate is expected")
    comparer.add_argument("--checks", nargs="+", required=True, help="what duties.py and faults.py printed")
    comparer.add_argument("--token", required=True)
    comparer.add_argument("--outage", type=int, default=0, help="for how long the way to the backend was cut")
    comparer.add_argument("--relay-log")
    comparer.add_argument("--agent-logs", nargs="*", default=[])
    comparer.add_argument("--relay-exit", type=int, required=True)
    for command in (driver, comparer):
        command.add_argument("--requests", type=int, required=True)
    options = parser.parse_args()
    {"drive": drive, "compare": compare}[options.command](options)


if __name__ == "__main__":
    main()
