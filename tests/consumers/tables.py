"""What an example's database holds, as JSON.

    tables.py DATABASE
"""

import json
import sqlite3
import sys

database = sqlite3.connect(sys.argv[1])


def rows(query):
    return database.execute(query).fetchall()


print(
    json.dumps(
        {
            "seen": [name for (name,) in rows("SELECT id FROM seen")],
            "sandboxes": {name: figures for name, *figures in rows("SELECT sandbox_id, events, running_ms FROM sandboxes")},
            "gaps": rows("SELECT since, until, reason FROM gaps"),
            "poison": sorted([bytes(body).decode(), reason] for body, reason in rows("SELECT body, reason FROM poison")),
        }
    )
)
