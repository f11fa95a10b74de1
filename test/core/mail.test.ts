import t from 'tap'
import { MemoryBroker } from '../../lib/backends/memory/broker.ts'
import { Mail } from '../../lib/core/mail.ts'
import type { InstanceRegistry } from '../../lib/core/instance-registry.ts'
import { encodePayload, newPublication } from '../../lib/model/publication.ts'
import type { Publication } from '../../lib/model/publication.ts'
import type { Observer } from '../../lib/observability/observer.ts'
import { Deadlines } from '../../lib/util/deadlines.ts'

t.test('no more letters wait than may, also where many come while the instances are listed', async (t) => {
  const broker = new MemoryBroker()
  const letters: Publication[] = []
  await broker.subscribe('\u0000mail:there', false, { deliver: letter => { letters.push(letter) } })
  const registry = { list: async () => [{ instance: 'there' }] } as unknown as InstanceRegistry
  const mail = new Mail<string, string>('here', broker, registry, {} as Observer, new Deadlines(), () => '')
  const sent = Promise.all(Array.from({ length: 1_003 }, () => mail.send('there', 'a letter')))
  await new Promise(setImmediate)
  for (const { payload } of letters) {
    const { id } = JSON.parse(payload.toString())
    mail.deliver(newPublication('there', encodePayload({ id, reply: 'read' })))
  }
  const replies = await sent
  t.equal(replies.filter(reply => reply === 'read').length, 1_000)
  t.equal(replies.filter(reply => reply === 'silent').length, 3)
})
