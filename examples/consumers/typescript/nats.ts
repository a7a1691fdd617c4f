// Takes e2b-relay's records from a stream of JetStream.
//
//     node nats.ts URL STREAM DURABLE DATABASE

import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import { Ledger } from './ledger.ts'

const [url = '', stream = '', durable = '', database = ''] = process.argv.slice(2)
const ledger = new Ledger(database)
const { host, username, password } = new URL(url)
const login = username ? { user: decodeURIComponent(username), pass: decodeURIComponent(password) } : {}
const connection = await connect({ servers: host, ...login })
const manager = await jetstreamManager(connection)
await manager.consumers.add(stream, {
  durable_name: durable,
  deliver_policy: DeliverPolicy.All,
  ack_policy: AckPolicy.Explicit,
  ack_wait: 5_000_000_000, // ns, longer than an effect ever takes; then the message comes again
  max_ack_pending: 1 // the next comes after the acknowledgement: in order, over a crash too
})
const consumer = await jetstream(connection).consumers.get(stream, durable)
const messages = await consumer.consume({ max_messages: 1 })
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => messages.stop())
for await (const message of messages) {
  console.log(ledger.take(message.data))
  await message.ackAck()
}
await connection.close()
