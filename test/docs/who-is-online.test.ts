import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

setEnvironment(t, { PORT: '0', REDIS_URL: undefined })

async function start (t: Test, block: Promise<Record<string, unknown>>) {
  const { app } = await block as { app: FastifyInstance }
  t.teardown(() => app.close())
  const { port } = app.server.address() as AddressInfo
  return { app, open: (user: string) => connect(t, `ws://127.0.0.1:${port}/ws`, { headers: { 'x-user': user } }) }
}

t.test('the example of the handlers runs', async (t) => {
  const { app, open } = await start(t, importBlock(t, 'docs/who-is-online.md', 'who-comes-and-goes', 'app'))
  const told: string[] = []
  app.log.info = ((text: unknown) => { if (typeof text === 'string') told.push(text) }) as never
  await open('ada')
  await until(() => told.length >= 2, 'both are told')
  t.match(told.toSorted(), ['ada is online', /^somebody listens to feed:prices/])
})

t.test('a push notification goes to who is offline, a message to everybody', async (t) => {
  const { app, open } = await start(t, importBlock(t, 'docs/who-is-online.md', 'push-when-offline', 'app'))
  const send = async (text: string) => (await app.inject({ method: 'POST', url: '/messages/ada', payload: { text } })).json()
  t.strictSame(await send('one'), { pushed: true })
  const ada = await open('ada')
  await until(() => app.realtime.isOnline('ada'), 'she is online')
  await until(async () => (await app.realtime.channels()).length === 1, 'and in her inbox')
  t.strictSame(await send('two'), { pushed: false })
  t.strictSame(JSON.parse(String(await ada.next())), { text: 'two' })
})
