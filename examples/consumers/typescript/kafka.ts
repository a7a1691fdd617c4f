// Takes e2b-relay's records from Kafka.
//
//     node kafka.ts BROKERS TOPIC GROUP DATABASE

import { Consumer, FetchIsolationLevels } from '@platformatic/kafka'
import { Ledger } from './ledger.ts'

const [brokers = '', topic = '', groupId = '', database = ''] = process.argv.slice(2)
const ledger = new Ledger(database)
const consumer = new Consumer({
  clientId: 'records',
  groupId,
  bootstrapBrokers: brokers.split(','),
  sessionTimeout: 6_000, // ms; so long after a kill another one takes over
  autocommit: false, // the offset moves by hand, after the effect
  isolationLevel: FetchIsolationLevels.READ_COMMITTED // what a sink with `exactly_once` has taken back is not seen
})
// Where the group was; a group that has no offset yet begins with what is there.
const messages = await consumer.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest' })
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => messages.close())
for await (const message of messages) {
  console.log(ledger.take(message.value ?? new Uint8Array()))
  await message.commit()
}
await consumer.close()
