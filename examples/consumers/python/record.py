"""A record of e2b-relay: the one place where what came is looked at. Its shape is config/record.schema.json."""

import json
from dataclasses import dataclass
from typing import Any


class Poison(Exception):
    """No record, however often it is read again."""


@dataclass(frozen=True, slots=True)
class Record:
    """What these consumers use. There is more in it, and more may come: what is not known here is left alone."""

    id: str
    type: str
    timestamp: str
    sandbox_id: str
    execution_id: str | None
    event_data: dict[str, Any]

    def number(self, name: str) -> int:
        """A whole number in `event_data`."""
        value = self.event_data.get(name)
        if type(value) is not int:
            raise Poison(f"event_data.{name} of {self.type} is no whole number")
        return value


def parse(body: bytes) -> Record:
    """Looks at what is used, and at nothing else."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Poison(f"no JSON: {error}") from None
    relay = fields.get("relay") if isinstance(fields, dict) else None
    if not isinstance(relay, dict):
        raise Poison("no record: it has no `relay`")
    # It rises when a field is removed or means something else.
    if relay.get("schema") != 1:
        raise Poison(f"relay.schema is {relay.get('schema')}, and this program knows 1")
    for name in ("id", "type", "timestamp", "sandbox_id"):
        if not isinstance(fields.get(name), str):
            raise Poison(f"`{name}` is no text")
    data = fields.get("event_data")
    return Record(
        id=fields["id"],
        type=fields["type"],
        timestamp=fields["timestamp"],
        sandbox_id=fields["sandbox_id"],
        execution_id=fields.get("sandbox_execution_id"),
        event_data=data if isinstance(data, dict) else {},
    )
