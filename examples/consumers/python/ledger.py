"""What the records come to, in SQLite: each record's effect and its id in one transaction."""

import sqlite3

from record import Poison, Record, parse

TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS sandboxes (sandbox_id TEXT PRIMARY KEY, events INTEGER NOT NULL, running_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS gaps (since TEXT NOT NULL, until TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS poison (body BLOB PRIMARY KEY, reason TEXT NOT NULL);
"""


class Ledger:
    """One process writes to it."""

    def __init__(self, path: str) -> None:
        self.db = sqlite3.connect(path)
        self.db.executescript(TABLES)

    def take(self, body: bytes) -> str:
        """Says what became of a message. It is on disk when this returns: then, and not before, acknowledge it."""
        try:
            record = parse(body)
            # One transaction: committed at its end, rolled back if anything is raised within.
            with self.db:
                new = self.db.execute("INSERT INTO seen (id) VALUES (?) ON CONFLICT DO NOTHING", (record.id,))
                if new.rowcount == 0:
                    return f"known {record.id}"
                self.effect(record)
            return f"applied {record.id}"
        except Poison as poison:
            # Kept and acknowledged: what stands in the way of all behind it helps nobody.
            with self.db:
                row = (body, str(poison))
                self.db.execute("INSERT INTO poison (body, reason) VALUES (?, ?) ON CONFLICT DO NOTHING", row)
            return f"poison: {poison}"

    def effect(self, record: Record) -> None:
        """Yours goes here. This one adds up, which done twice is wrong."""
        if record.type == "relay.gap":
            span = tuple(record.event_data.get(name) for name in ("from", "to", "reason"))
            self.db.execute("INSERT INTO gaps (since, until, reason) VALUES (?, ?, ?)", span)
            return
        # A type that is not known here is an event like others.
        running_ms = record.number("run_time_ms") if record.type == "sandbox.usage" else 0
        self.db.execute(
            "INSERT INTO sandboxes (sandbox_id, events, running_ms) VALUES (?, 1, ?) ON CONFLICT (sandbox_id)"
            " DO UPDATE SET events = events + 1, running_ms = running_ms + excluded.running_ms",
            (record.sandbox_id, running_ms),
        )
