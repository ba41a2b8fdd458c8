# SPDX-License-Identifier: Apache-2.0
"""A crowd of clients at one relay: idle ones that have greeted, slow ones that never finish what they begin,
and one that works all the time and must not notice them. Prints the memory that the relay takes."""

import argparse
import asyncio
import re
import subprocess
import sys
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, DATA, PING = 4, 1, 0, 6
PATH = b"/skywalking.v3.ManagementService/keepAlive"


def frame(kind, flags, stream, data=b""):
    return len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + data


def literal(name, value):
    """A header field without indexing (RFC 7541 section 6.2.2)."""
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


HEAD = b"".join(
    literal(name, value)
    for name, value in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", PATH), (b":authority", b"relay"),
        (b"content-type", b"application/grpc"), (b"te", b"trailers"),
    )
)


class Client:
    """Just enough of HTTP/2 for calls without content."""

    async def connect(self, port):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.stream = -1
        self.writer.write(PREFACE + frame(SETTINGS, 0, 0))
        while (await self.read())[0] != SETTINGS:
            pass
        self.writer.write(frame(SETTINGS, 1, 0))
        return self

    async def read(self):
        head = await self.reader.readexactly(9)
        data = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        if head[3] == PING and not head[4] & 1:
            self.writer.write(frame(PING, 1, 0, data))
        return head[3], head[4], int.from_bytes(head[5:], "big"), data

    def rest(self):
        """Answers pings from now on, as every client does; without that the relay takes it for gone."""
        self.resting = asyncio.create_task(self.answer())

    async def answer(self):
        while True:
            await self.read()

    async def wake(self):
        self.resting.cancel()
        await asyncio.gather(self.resting, return_exceptions=True)
        return await self.call()

    async def call(self):
        """One keepAlive; true if it was answered with status 0."""
        self.stream += 2
        self.writer.write(frame(HEADERS, 4, self.stream, HEAD) + frame(DATA, 1, self.stream, bytes(5)))
        data = b""
        while True:
            kind, flags, stream, more = await self.read()
            if stream == self.stream and kind in (HEADERS, DATA):
                data += more if kind == DATA else b""
                if flags & 1:
                    return data == bytes(5)


def memory(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])


def listening(process):
    for line in process.stdout:
        if line.startswith("listening on "):
            return int(line.rsplit(":", 1)[1])
    sys.exit("it did not start")


async def crowd(count, port, greet):
    clients = []
    for begin in range(0, count, 200):
        clients += await asyncio.gather(*(greet(port, n) for n in range(begin, min(begin + 200, count))))
    return clients


async def idle(port, _):
    client = await Client().connect(port)
    if not await client.call():
        sys.exit("an idle client's only call failed")
    client.rest()
    return client


async def slow(port, number):
    """A third each: half a greeting, a call without an end, a message that never comes whole."""
    if number % 3 == 0:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PREFACE[:11])
        return writer
    client = await Client().connect(port)
    client.writer.write(frame(HEADERS, 4, 1, HEAD))
    if number % 3 == 2:
        client.writer.write(frame(DATA, 0, 1, b"\0" + (50 << 20).to_bytes(4, "big") + bytes(10_000)))
    return client


async def work(client, stop):
    longest, calls = 0.0, 0
    while not stop.is_set():
        begun = time.monotonic()
        if not await client.call():
            sys.exit("a call failed that had nothing to do with the crowd")
        longest, calls = max(longest, time.monotonic() - begun), calls + 1
        await asyncio.sleep(0.01)
    return calls, longest


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--skytls", required=True)
    parser.add_argument("--idle", type=int, required=True)
    parser.add_argument("--slow", type=int, required=True)
    options = parser.parse_args()
    start = lambda *arguments: subprocess.Popen(
        [options.skytls, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    backend = start("collector", "--listen", "127.0.0.1:0")
    relay = start(
        "run", "--set", "relay.listen=127.0.0.1:0",
        "--set", f"collector.backend_service=127.0.0.1:{listening(backend)}",
    )
    port = listening(relay)
    try:
        worker = await Client().connect(port)
        if not await worker.call():
            sys.exit("the relay does not serve")
        empty = memory(relay)
        stop = asyncio.Event()
        working = asyncio.create_task(work(worker, stop))
        idlers = await crowd(options.idle, port, idle)
        with_idle = memory(relay)
        slow_ones = await crowd(options.slow, port, slow)
        with_slow = memory(relay)
        # Past the deadline for greetings.
        await asyncio.sleep(12)
        stop.set()
        calls, longest = await working
        again = await asyncio.gather(*(client.wake() for client in idlers[:: max(1, len(idlers) // 100)]))
        each = (with_idle - empty) / max(1, options.idle)
        print(f"memory: {empty / 1024:.1f} MiB alone")
        print(f"        {with_idle / 1024:.1f} MiB with {options.idle} idle clients, {each:.1f} KiB each")
        print(f"        {with_slow / 1024:.1f} MiB with {options.slow} slow ones more")
        print(f"meanwhile: {calls} calls of another client, all answered, the longest after {longest * 1000:.0f} ms")
        print(f"afterwards: {sum(again)} of {len(again)} idle clients asked were served; {len(slow_ones)} slow ones held on")
        for client in idlers:
            client.resting.cancel()
        await asyncio.gather(*(client.resting for client in idlers), return_exceptions=True)
        ok = all(again) and each <= 64 and longest < 2
        print("1 passed, 0 failed" if ok else "0 passed, 1 failed")
        return 0 if ok else 1
    finally:
        for process in (relay, backend):
            process.terminate()
            process.communicate(timeout=60)


sys.exit(asyncio.run(main()))
