"""What a user of the official SDK does with an account, here a simulated one; prints what came of it as one JSON object.

The address and the key come from the environment, as the SDK reads them.
"""

import json

from e2b import Sandbox, SandboxQuery, SandboxState
from e2b.exceptions import AuthenticationException, SandboxNotFoundException


def pages(**query):
    paginator = Sandbox.list(limit=100, **query)
    while paginator.has_next:
        yield paginator.next_items()


def listed(*states):
    return [box for page in pages(query=SandboxQuery(state=list(states))) for box in page]


def info(box):
    return {
        "id": box.sandbox_id,
        "template": box.template_id,
        "state": box.state.value,
        "metadata": box.metadata,
        "started_at": box.started_at.timestamp(),
        "end_at": box.end_at.timestamp(),
        "cpu_count": box.cpu_count,
        "memory_mb": box.memory_mb,
    }


def metrics(sandbox_id):
    return [
        [int(m.timestamp.timestamp()), m.cpu_count, m.cpu_used_pct, m.mem_used, m.mem_total, m.mem_cache, m.disk_used, m.disk_total]
        for m in Sandbox.get_metrics(sandbox_id)
    ]


def fails(wanted, call):
    try:
        call()
    except wanted:
        return True
    return False


all_pages = list(pages())
running, paused = listed(SandboxState.RUNNING), listed(SandboxState.PAUSED)
# The oldest have the most samples.
to_pause, to_kill, stays = running[-1].sandbox_id, running[-2].sandbox_id, paused[-1].sandbox_id
before = {box: metrics(box) for box in (to_pause, to_kill, stays)}
infos = {box: info(Sandbox.get_info(box)) for box in (to_pause, to_kill, stays)}
print(
    json.dumps(
        {
            "pages": [len(page) for page in all_pages],
            "all": [info(box) for page in all_pages for box in page],
            "running": [box.sandbox_id for box in running],
            "paused": [box.sandbox_id for box in paused],
            "infos": infos,
            "metrics": before,
            "paused_now": [to_pause, Sandbox.pause(to_pause), Sandbox.pause(to_pause)],
            "killed_now": [to_kill, Sandbox.kill(to_kill), Sandbox.kill(to_kill)],
            "state_then": Sandbox.get_info(to_pause).state.value,
            "gone": fails(SandboxNotFoundException, lambda: Sandbox.get_info(to_kill)),
            "wrong_key": fails(AuthenticationException, lambda: Sandbox.list(api_key="e2b_" + 40 * "0").next_items()),
        }
    )
)
