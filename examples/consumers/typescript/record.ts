// A record of e2b-relay: its type, and the one place where what came is looked at.

/** As config/record.schema.json has it. More may stand in it: what is not known here is left alone. */
export interface E2bRecord {
  id: string
  /** Not a union: types that are not known here come. */
  type: string
  version?: string | null
  timestamp: string
  event_category?: string | null
  event_label?: string | null
  event_data?: EventData | null
  sandbox_id: string
  sandbox_execution_id?: string | null
  sandbox_template_id?: string | null
  sandbox_build_id?: string | null
  sandbox_team_id?: string | null
  relay: Relay
}

export interface EventData {
  sandbox_metadata?: { [name: string]: unknown } | null
  set_timeout?: string | number | null
  kill_reason?: string | null
  execution?: Execution | null
  [name: string]: unknown
}

export interface Execution {
  started_at?: string | null
  vcpu_count?: number | null
  memory_mb?: number | null
  execution_time?: number | null
}

export interface Relay {
  schema: 1
  source: string
  origin: 'webhook' | 'backfill' | 'metrics' | 'reconcile' | 'relay'
  sequence: number
  instance: string
  received_at: string
  webhook_id?: string
  delivery_id?: string
  received?: unknown
}

/** No record, however often it is read again. */
export class Poison extends Error {}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Looks at what these consumers use, and at nothing else. */
export function parse(body: Uint8Array): E2bRecord {
  let fields: unknown
  try {
    fields = JSON.parse(utf8.decode(body))
  } catch (error) {
    throw new Poison(`no JSON: ${error instanceof Error ? error.message : error}`)
  }
  if (!isObject(fields) || !isObject(fields['relay'])) {
    throw new Poison('no record: it has no `relay`')
  }
  // It rises when a field is removed or means something else.
  if (fields['relay']['schema'] !== 1) {
    throw new Poison(`relay.schema is ${fields['relay']['schema']}, and this program knows 1`)
  }
  for (const name of ['id', 'type', 'timestamp', 'sandbox_id']) {
    if (typeof fields[name] !== 'string') {
      throw new Poison(`\`${name}\` is no text`)
    }
  }
  if (!isObject(fields['event_data'] ?? {})) {
    throw new Poison('`event_data` is no object')
  }
  return fields as unknown as E2bRecord
}

/** A whole number in `event_data`. */
export function number(record: E2bRecord, name: string): number {
  const value = record.event_data?.[name]
  if (!Number.isSafeInteger(value)) {
    throw new Poison(`event_data.${name} of ${record.type} is no whole number`)
  }
  return value as number
}

function isObject(value: unknown): value is { [name: string]: unknown } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
