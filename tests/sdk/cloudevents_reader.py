"""Reads messages as their consumers would with the official CloudEvents SDK.

The file that is named holds a list of {"binding", "headers", "content_type", "body"}; printed is a list of {"attributes",
"data"}.
"""

import json
import sys

from cloudevents.core.bindings import amqp, http, kafka
from cloudevents.core.formats.json import JSONFormat


def read(message):
    headers, content_type = message["headers"], message["content_type"]
    body = message["body"].encode()
    match message["binding"]:
        case "kafka":
            values = {name: value.encode() for name, value in (headers | {"content-type": content_type}).items()}
            return kafka.from_kafka(kafka.KafkaMessage(values, None, body), JSONFormat())
        case "amqp":
            return amqp.from_amqp(amqp.AMQPMessage({"content-type": content_type}, headers, body), JSONFormat())
        # NATS has the header names and the encoding of HTTP; a file has neither and is read by its format alone.
        case "nats":
            return http.from_http(http.HTTPMessage(headers | {"content-type": content_type}, body), JSONFormat())
        case "file":
            return JSONFormat().read(None, body)


def plain(event):
    attributes = {name: str(value) for name, value in event.get_attributes().items()}
    return {"attributes": attributes, "data": event.get_data()}


with open(sys.argv[1], encoding="utf-8") as messages:
    json.dump([plain(read(message)) for message in json.load(messages)], sys.stdout)
