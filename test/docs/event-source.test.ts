import { EventSource } from 'eventsource'
import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { until } from '../helpers/until.ts'

setEnvironment(t, { PORT: '0', REDIS_URL: undefined })

t.test('the app and the client of the page do what the page says', async (t) => {
  const { app } = await importBlock(t, 'docs/event-source.md', 'event-source', 'app') as { app: FastifyInstance }
  t.teardown(() => app.close())
  Object.assign(globalThis, { EventSource })
  t.teardown(() => { Reflect.deleteProperty(globalThis, 'EventSource') })
  const { listen } = await importBlock(t, 'docs/event-source.md', 'event-source-page') as { listen: Function }
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}/connection/uni_sse`
  const got: unknown[] = []
  const gaps: string[] = []
  let refused = 0
  const handlers = {
    onData: (...data: unknown[]) => got.push(data),
    onGap: (channel: string) => gaps.push(channel),
    onRefused: () => { refused++ }
  }
  const stop = listen(url, ['news'], handlers)
  t.teardown(stop)
  await until(() => Array.from(app.realtime.connections).some(({ channels }) => channels.has('news')), 'the stream')
  await app.inject({ method: 'POST', url: '/news', payload: { text: 'hello' } })
  await until(() => got.length > 0, 'the publication')
  for (const connection of app.realtime.connections) connection.close(4000, 'come back')
  await app.realtime.publish('news', { text: 'meanwhile' })
  await until(() => got.length > 1, 'what it has missed')
  t.strictSame([got, gaps, refused], [[['news', { text: 'hello' }], ['news', { text: 'meanwhile' }]], [], 0])
  listen(url, ['chat:lobby'], handlers)
  await until(() => refused > 0, 'the refusal')
})
