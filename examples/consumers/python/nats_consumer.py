"""Takes e2b-relay's records from a stream of JetStream.

    python nats_consumer.py URL STREAM DURABLE DATABASE
"""

import asyncio
import signal
import sys

import nats
from ledger import Ledger
from nats.errors import TimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy


async def main(url: str, stream: str, durable: str, database: str) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    ledger = Ledger(database)
    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    config = ConsumerConfig(
        durable_name=durable,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=5,  # seconds, longer than an effect ever takes; then the message comes again
        max_ack_pending=1,  # the next comes after the acknowledgement: in order, over a crash too
    )
    await jetstream.add_consumer(stream, config)
    messages = await jetstream.pull_subscribe_bind(durable, stream)
    while not stopping.is_set():
        try:
            [message] = await messages.fetch(1, timeout=0.5)
        except TimeoutError:
            continue
        print(ledger.take(message.data), flush=True)
        await message.ack_sync()
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
