// Takes e2b-relay's records from a queue of RabbitMQ.
//
//     node amqp.ts URL QUEUE DATABASE

import { connect } from 'amqplib'
import { Ledger } from './ledger.ts'

const [url = '', queue = '', database = ''] = process.argv.slice(2)
const ledger = new Ledger(database)
const connection = await connect(url)
// Whoever restarts it has it go on where it was.
connection.on('error', fail)
const channel = await connection.createChannel()
channel.on('error', fail)
await channel.prefetch(100) // so many lie here unacknowledged at most
const { consumerTag } = await channel.consume(queue, message => {
  if (message === null) return fail('the queue is gone')
  console.log(ledger.take(message.content))
  channel.ack(message)
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, end)

async function end(): Promise<void> {
  await channel.cancel(consumerTag)
  await channel.close()
  await connection.close()
}

function fail(why: unknown): never {
  console.error(why)
  process.exit(1)
}
