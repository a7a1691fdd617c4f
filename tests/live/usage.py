"""Recomputes each `sandbox.usage` record from what the provider says: its killed events and its list of samples.

    usage.py RECORDS API KEY

RECORDS is a file sink's. Knows nothing of the relay but the record's form. Only sandboxes with one execution, killed:
where two executions share one of the provider's 5 s steps, nobody can say from outside whose sample it is.
"""

import json
import math
import sys
import urllib.request
from datetime import datetime
from fractions import Fraction

path, api, key = sys.argv[1:]
with open(path, encoding="utf-8") as file:
    records = [json.loads(line) for line in file]

told = {}
for record in records:
    told.setdefault(record["sandbox_id"], []).append(record)


def seconds(text):
    # Nine digits are more than this Python may read.
    return math.floor(datetime.fromisoformat(text[:19] + "+00:00").timestamp())


def samples(sandbox, start, end):
    url = f"{api}/sandboxes/{sandbox}/metrics?start={start}&end={end}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-API-Key": key})) as reply:
        return json.load(reply)


def rounded(values):
    return math.floor(Fraction(sum(values), len(values)) + Fraction(1, 2)) if values else None


def expected(killed):
    execution = killed["event_data"]["execution"]
    run_time = execution["execution_time"] / 1000
    start, end = execution["started_at"], killed["timestamp"]
    taken = samples(killed["sandbox_id"], seconds(start), seconds(end))
    cpu = [one["cpuUsedPct"] for one in taken]
    memory = [one["memUsed"] for one in taken]
    disk = [one["diskUsed"] for one in taken if one["diskTotal"] > 0]
    return {
        "execution_started_at": start,
        "execution_ended_at": end,
        "run_time_ms": execution["execution_time"],
        "vcpu_count": execution["vcpu_count"],
        "memory_mb": execution["memory_mb"],
        "vcpu_seconds": execution["vcpu_count"] * run_time,
        "memory_gib_seconds": execution["memory_mb"] / 1024 * run_time,
        "end_reason": "killed",
        "basis": "execution",
        "samples": len(taken),
        "cpu_used_pct_max": max(cpu, default=None),
        "cpu_used_pct_mean": math.fsum(cpu) / len(cpu) if cpu else None,
        "mem_used_max": max(memory, default=None),
        "mem_used_mean": rounded(memory),
        "disk_used_max": max(disk, default=None),
        "disk_used_mean": rounded(disk),
    }


def same(a, b):
    if isinstance(a, float) or isinstance(b, float):
        return a is not None and b is not None and math.isclose(a, b, rel_tol=1e-9)
    return a == b


wrong, checked, whole = [], 0, 0
for sandbox, lines in told.items():
    kinds = [line["type"].rsplit(".", 1)[-1] for line in lines]
    if "killed" not in kinds or "paused" in kinds or "resumed" in kinds:
        continue
    usages = [line["event_data"] for line in lines if line["type"] == "sandbox.usage"]
    should = expected(next(line for line in lines if line["type"].endswith(".killed")))
    checked += 1
    whole += should["samples"] > 8
    if len(usages) != 1 or set(usages[0]) != set(should):
        wrong.append({"sandbox": sandbox, "usages": usages})
        continue
    wrong += [
        {"sandbox": sandbox, "field": field, "is": usages[0][field], "should be": should[field]}
        for field in should
        if not same(usages[0][field], should[field])
    ]
print(json.dumps({"checked": checked, "whole": whole, "wrong": wrong}))
