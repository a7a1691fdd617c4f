"""Adds up how long each sandbox ran, from lifecycle records alone: one per line on standard input, in any order.

    python running_time.py < events.ndjson
"""

import json
import sys
from dataclasses import dataclass
from datetime import datetime

from record import Record, parse


@dataclass(slots=True)
class Execution:
    """One running stretch."""

    sandbox_id: str
    started: str | None = None
    ended: str | None = None
    told_ms: int | None = None

    def running_ms(self) -> int | None:
        """`None` while nobody has told when it began, or that it ended."""
        if self.told_ms is not None:
            return self.told_ms
        if self.started is None or self.ended is None:
            return None
        return max(0, round((time(self.ended) - time(self.started)) * 1000))


def time(text: str) -> float:
    """Unix seconds; the fraction has up to nine digits, of which six are read."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}+00:00").timestamp()


def note(executions: dict[str, Execution], record: Record) -> None:
    """Only the first of two that tell the same counts, so that a record that comes again changes nothing."""
    data = record.event_data
    key = record.execution_id
    if key is None:
        return
    one = executions.setdefault(key, Execution(record.sandbox_id))
    told = data.get("execution") or {}
    match record.type:
        case "sandbox.lifecycle.created" | "sandbox.lifecycle.resumed":
            one.started = one.started or record.timestamp
        case "sandbox.lifecycle.paused" | "sandbox.lifecycle.killed":
            one.started = told.get("started_at") or one.started
            one.ended = record.timestamp
            one.told_ms = told.get("execution_time")
        # No event told its end; with `reconcile: {emit: true}` the provider's list did, and this is when it was seen.
        case "sandbox.reconciled" if data.get("state") in ("gone", "paused"):
            one.ended = one.ended or record.timestamp


def main() -> None:
    executions: dict[str, Execution] = {}
    for line in sys.stdin.buffer:
        note(executions, parse(line))
    sandboxes: dict[str, dict[str, int]] = {}
    for one in executions.values():
        figures = sandboxes.setdefault(one.sandbox_id, {"running_ms": 0, "stretches": 0, "open": 0})
        running_ms = one.running_ms()
        figures["stretches"] += 1
        figures["open"] += running_ms is None
        figures["running_ms"] += running_ms or 0
    json.dump(sandboxes, sys.stdout, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
