"""Takes e2b-relay's records from a queue of RabbitMQ.

    python amqp_consumer.py URL QUEUE DATABASE
"""

import signal
import sys
from threading import Event

import pika
from ledger import Ledger


def main(url: str, queue: str, database: str) -> None:
    stopping = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    ledger = Ledger(database)
    # A connection that breaks raises, which ends the process: whoever restarts it has it go on where it was.
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=100)  # so many lie here unacknowledged at most
    for method, _, body in channel.consume(queue, inactivity_timeout=0.5):
        if stopping.is_set():
            break
        if method is None:
            continue
        print(ledger.take(body), flush=True)
        channel.basic_ack(method.delivery_tag)
    connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
