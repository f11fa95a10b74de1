import t from 'tap'
import { apiCalls } from '../../../lib/http/api/calls.ts'
import type { ApiContext } from '../../../lib/http/api/calls.ts'
import { ChannelNamespaces } from '../../../lib/model/channel-rules.ts'
import { startCore } from '../../helpers/core.ts'

t.test('a broadcast of much data to many channels does not fill the memory on its way to Redis', async (t) => {
  let bytes = 0
  let most = 0
  const { core, backend } = await startCore(t, { redis: false }, broker => ({
    up: true,
    start: listener => broker.start(listener),
    async publish (channel, publication, settings) {
      const { length } = publication.payload
      bytes += length
      most = Math.max(most, bytes)
      await new Promise(resolve => { setImmediate(resolve) }) // as long as Redis takes
      bytes -= length
      return broker.publish(channel, publication, settings)
    },
    subscribe: (...args) => broker.subscribe(...args),
    unsubscribe: channel => broker.unsubscribe(channel),
    history: (...args) => broker.history(...args),
    removeHistory: channel => broker.removeHistory(channel),
    close: () => broker.close()
  }))
  const context: ApiContext = {
    namespaces: new ChannelNamespaces(new Map()),
    publisher: core.publisher,
    broker: backend.broker,
    presence: backend.presence,
    control: core.control,
    survey: core.survey,
    attempt: (_method, run) => run()
  }
  const channels = Array.from({ length: 1_000 }, (_, i) => `channel-${i}`)
  const { responses } = await apiCalls.broadcast!(context, { channels, data: 'x'.repeat(100_000) }) as { responses: object[] }
  t.equal(responses.length, 1_000)
  t.ok(most <= 8_388_608, `${most} bytes at once`)
  t.strictSame(await apiCalls.broadcast!(context, { channels: ['one'], data: 'x'.repeat(10_000_000) }), { responses: [{ result: {} }] })
})
