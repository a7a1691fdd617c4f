// What the records come to, in SQLite: each record's effect and its id in one transaction.

import { DatabaseSync } from 'node:sqlite'
import { type E2bRecord, number, parse, Poison } from './record.ts'

const TABLES = `
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS sandboxes (sandbox_id TEXT PRIMARY KEY, events INTEGER NOT NULL, running_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS gaps (since TEXT NOT NULL, until TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS poison (body BLOB PRIMARY KEY, reason TEXT NOT NULL);
`

/** One process writes to it. */
export class Ledger {
  readonly #db: DatabaseSync

  constructor(path: string) {
    this.#db = new DatabaseSync(path)
    this.#db.exec(TABLES)
  }

  /** Says what became of a message. It is on disk when this returns: then, and not before, acknowledge it. */
  take(body: Uint8Array): string {
    try {
      const record = parse(body)
      const isNew = this.#transaction(() => {
        const seen = this.#db.prepare('INSERT INTO seen (id) VALUES (?) ON CONFLICT DO NOTHING').run(record.id)
        if (seen.changes === 0) return false
        this.#effect(record)
        return true
      })
      return `${isNew ? 'applied' : 'known'} ${record.id}`
    } catch (error) {
      if (!(error instanceof Poison)) throw error
      // Kept and acknowledged: what stands in the way of all behind it helps nobody.
      const keep = this.#db.prepare('INSERT INTO poison (body, reason) VALUES (?, ?) ON CONFLICT DO NOTHING')
      keep.run(body, error.message)
      return `poison: ${error.message}`
    }
  }

  /** Yours goes here. This one adds up, which done twice is wrong. */
  #effect(record: E2bRecord): void {
    if (record.type === 'relay.gap') {
      const span = ['from', 'to', 'reason'].map(name => String(record.event_data?.[name]))
      this.#db.prepare('INSERT INTO gaps (since, until, reason) VALUES (?, ?, ?)').run(...span)
      return
    }
    // A type that is not known here is an event like others.
    const runningMs = record.type === 'sandbox.usage' ? number(record, 'run_time_ms') : 0
    this.#db.prepare(
      'INSERT INTO sandboxes (sandbox_id, events, running_ms) VALUES (?, 1, ?) ON CONFLICT (sandbox_id)' +
      ' DO UPDATE SET events = events + 1, running_ms = running_ms + excluded.running_ms'
    ).run(record.sandbox_id, runningMs)
  }

  #transaction<T>(work: () => T): T {
    this.#db.exec('BEGIN IMMEDIATE')
    try {
      const result = work()
      this.#db.exec('COMMIT')
      return result
    } catch (error) {
      this.#db.exec('ROLLBACK')
      throw error
    }
  }
}
