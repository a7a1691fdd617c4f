"""`nats sub SUBJECT` for machines without Go, by which NATS' own command line is built: the same words, by NATS' Python
client. The server is the one in NATS_URL.
"""

import asyncio
import os
import sys

import nats


async def main(verb: str, subject: str) -> None:
    assert verb == "sub", verb
    connection = await nats.connect(os.environ["NATS_URL"])
    subscription = await connection.subscribe(subject)
    await connection.flush()
    print(f"Subscribing on {subject}", flush=True)
    number = 0
    async for message in subscription.messages:
        number += 1
        print(f'[#{number}] Received on "{message.subject}"\n{message.data.decode()}\n', flush=True)


asyncio.run(main(*sys.argv[1:]))
