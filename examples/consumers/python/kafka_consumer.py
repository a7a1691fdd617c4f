"""Takes e2b-relay's records from Kafka.

    python kafka_consumer.py BROKERS TOPIC GROUP DATABASE
"""

import signal
import sys
from threading import Event

from confluent_kafka import Consumer, KafkaException
from ledger import Ledger


def main(brokers: str, topic: str, group: str, database: str) -> None:
    stopping = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    ledger = Ledger(database)
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            "auto.offset.reset": "earliest",  # where a group begins that has no offset yet
            "enable.auto.commit": False,  # the offset moves by hand, after the effect
            "session.timeout.ms": 6000,  # so long after a kill another one takes over
            "isolation.level": "read_committed",  # what a sink with `exactly_once` has taken back is not seen
        }
    )
    consumer.subscribe([topic])
    try:
        while not stopping.is_set():
            message = consumer.poll(0.5)
            if message is None:
                continue
            if error := message.error():
                raise KafkaException(error)
            print(ledger.take(message.value() or b""), flush=True)
            consumer.commit(message=message, asynchronous=False)
    finally:
        consumer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
