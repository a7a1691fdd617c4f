"""Reads messages as a client of a schema registry does: by the schema whose id stands before each.

The file that is named holds {"registry", "messages"}, each message in hexadecimal; printed is a list of what they hold.
"""

import datetime
import io
import json
import struct
import sys
import urllib.request

import fastavro


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        given = json.load(file)
    schemas = {}
    read = []
    for message in map(bytes.fromhex, given["messages"]):
        magic, identity = struct.unpack(">bI", message[:5])
        assert magic == 0, magic
        if identity not in schemas:
            with urllib.request.urlopen(f"{given['registry']}/schemas/ids/{identity}") as reply:
                schemas[identity] = fastavro.parse_schema(json.loads(json.load(reply)["schema"]))
        datum = io.BytesIO(message[5:])
        read.append(fastavro.schemaless_reader(datum, schemas[identity], None))
        assert not datum.read(), "something stands behind the record"
    json.dump(read, sys.stdout, default=lambda time: time.astimezone(datetime.timezone.utc).isoformat())


main()
