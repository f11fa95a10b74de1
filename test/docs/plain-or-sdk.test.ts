import { once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import WebSocket, { WebSocketServer } from 'ws'
import { startApp } from '../helpers/app.ts'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

setEnvironment(t, { PORT: '0', REDIS_URL: undefined })

t.test('a plain client subscribes to what is open to it, and garbage is answered', async (t) => {
  const { app } = await importBlock(t, 'docs/plain-or-sdk.md', 'safe-plain', 'app') as { app: FastifyInstance }
  t.teardown(() => app.close())
  const { port } = app.server.address() as AddressInfo
  const client = await connect(t, `ws://127.0.0.1:${port}/ws`)
  const ask = async (message: string) => {
    client.send(message)
    return JSON.parse(String(await client.next()))
  }
  t.strictSame(await ask('{"type":"subscribe","channel":"news"}'), { type: 'subscribed', channel: 'news' })
  t.strictSame(await ask('{"type":"subscribe","channel":"orders:7"}'), { type: 'refused', channel: 'orders:7' })
  for (const garbage of ['', 'no JSON', 'null', '7', '[]', '{"type":"subscribe","channel":{"a":1}}']) {
    t.match(await ask(garbage), { type: 'refused' }, garbage)
  }
  await fetch(`http://127.0.0.1:${port}/news`, { method: 'POST' })
  t.strictSame(JSON.parse(String(await client.next())), { channel: 'news', text: 'Good morning' })
})

/** The client of the page, with all that it tells. */
async function client (t: import('tap').Test, url: string) {
  const { WebSocket: before } = globalThis
  Object.assign(globalThis, { WebSocket }) // browsers have it, and Node from 22 on
  t.teardown(() => Object.assign(globalThis, { WebSocket: before }))
  const { connect } = await importBlock(t, 'docs/plain-or-sdk.md', 'reconnecting-client') as { connect: Function }
  const states: string[] = []
  const messages: unknown[] = []
  const { send, close } = connect(url, {
    onMessage: (message: unknown) => messages.push(message),
    onState: (state: string) => states.push(state)
  })
  t.teardown(() => close())
  return { states, messages, send, close }
}

t.test('the reconnecting client comes back after a shutdown, without showing the notice', async (t) => {
  const { app, url } = await startApp(t, {
    redis: false,
    onConnect: connection => { connection.send({ hello: true }) },
    onMessage: (connection, text) => { connection.send({ got: JSON.parse(String(text)) }) }
  })
  const { states, messages, send } = await client(t, `${url}/ws`)
  await until(() => messages.length === 1, 'the greeting')
  t.ok(send({ a: 1 }))
  await until(() => messages.length === 2, 'the answer')
  await app.close()
  await until(() => states.at(-1) === 'waiting', 'it waits')
  t.notOk(send({ a: 2 }), 'nothing is sent meanwhile')
  const again = new WebSocketServer({ port: Number(new URL(url).port), host: '127.0.0.1' })
  t.teardown(() => again.close())
  const [socket] = await once(again, 'connection')
  await until(() => states.at(-1) === 'open', 'it is back')
  socket.close(4503, 'banned')
  await until(() => states.at(-1) === 'closed', 'it stays away')
  t.strictSame(states.filter(state => state !== 'waiting'), ['open', 'open', 'closed'])
  t.strictSame(messages, [{ hello: true }, { got: { a: 1 } }])
})
