# SPDX-License-Identifier: Apache-2.0
"""The way between the relay and the backend, which can be cut: SIGUSR1 resets all connections and refuses
new ones, SIGUSR2 lets them through again at the same port."""

import argparse
import asyncio
import contextlib
import json
import signal


async def copy(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=int, required=True, help="port of the backend")
    backend = parser.parse_args().to
    writers = set()

    async def carry(reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", backend)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        writers.update(pair)
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
        writers.difference_update(pair)

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port}), flush=True)

    orders = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for order in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        loop.add_signal_handler(order, orders.put_nowait, order)
    while (order := await orders.get()) != signal.SIGTERM:
        server.close()
        for writer in writers:
            writer.transport.abort()
        cut = order == signal.SIGUSR1
        if not cut:
            server = await asyncio.start_server(carry, "127.0.0.1", port)
        print(json.dumps({"cut": cut}), flush=True)


asyncio.run(main())
