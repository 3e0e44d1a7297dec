"""Ways to brokers on which all connections are reset every second, from the line `reset` on its standard input to `stay`.

    resets.py LISTEN:TO [LISTEN:TO]...

Each pair is two ports of this machine. Prints `ready`, and after `stay` how many connections it reset; ends with its input.
"""

import asyncio
import socket
import struct
import sys

EVERY = 1.0
# A close discards what is unsent, and says so to the other side by RST.
AT_ONCE = struct.pack("ii", 1, 0)


class Ways:
    def __init__(self):
        self.open = set()
        self.resets = 0

    async def serve(self, reader, writer, port):
        try:
            there, beyond = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        pair = (writer, beyond)
        self.open.add(pair)
        try:
            await asyncio.gather(self.carry(reader, beyond), self.carry(there, writer))
        except OSError:
            pass
        finally:
            self.open.discard(pair)
            for one in pair:
                one.close()

    async def carry(self, reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def reset(self):
        while True:
            await asyncio.sleep(EVERY)
            for pair in list(self.open):
                self.resets += 1
                self.open.discard(pair)
                for one in pair:
                    one.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                    one.transport.abort()


async def main():
    ways, resetting = Ways(), None
    for pair in sys.argv[1:]:
        listen, to = map(int, pair.split(":"))
        await asyncio.start_server(lambda reader, writer, to=to: ways.serve(reader, writer, to), "127.0.0.1", listen)
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        if resetting:
            resetting.cancel()
            resetting = None
        if line.strip() == "reset":
            resetting = asyncio.create_task(ways.reset())
        else:
            print(ways.resets, flush=True)


asyncio.run(main())
