"""Takes one message from an address of RabbitMQ by AMQP 1.0, into which it turns what came by 0.9.1, and prints what is in
it.

Runs under Debian's own Python, for which there is the package python3-qpid-proton.
"""

import json
import sys

from proton.utils import BlockingConnection


def text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


url, address = sys.argv[1:]
connection = BlockingConnection(url, timeout=30)
receiver = connection.create_receiver(address)
message = receiver.receive(timeout=30)
receiver.accept()
body = message.body
print(
    json.dumps(
        {
            "headers": {text(name): text(value) for name, value in (message.properties or {}).items()},
            "content_type": text(message.content_type),
            "body": bytes(body).decode() if not isinstance(body, str) else body,
        }
    )
)
connection.close()
