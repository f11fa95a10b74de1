import type {} from '@fastify/websocket'
import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import { once } from 'node:events'
import t from 'tap'
import type { Test } from 'tap'
import type { WebSocket } from 'ws'
import cloudRunWebSocket from '../../index.ts'
import type { End, Options } from '../../index.ts'
import { connectionsOf } from '../helpers/connections.ts'
import { collectLog } from '../helpers/log.ts'
import type { Entry } from '../helpers/log.ts'
import { until } from '../helpers/until.ts'

interface Injected {
  socket: WebSocket
  messages: string[]
  closed: Promise<{ code: number, reason: string }>
}

/** An app that does not listen. A drain may take a minute, so a quick one was not cut short. */
async function injectable (t: Test, options: Options = {}): Promise<{ app: FastifyInstance, entries: Entry[] }> {
  const { logger, entries } = collectLog()
  const app = Fastify({ logger })
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { redis: false, shutdown: { signals: false, timeout: '60s' }, ...options })
  await app.ready()
  return { app, entries }
}

async function inject (app: FastifyInstance, path = '/ws'): Promise<Injected> {
  const messages: string[] = []
  const socket = await app.injectWS(path, {}, { onInit: ws => ws.on('message', (data: Buffer) => { messages.push(data.toString()) }) })
  const closed = once(socket, 'close').then(([code, reason]) => ({ code: code as number, reason: String(reason) }))
  return { socket, messages, closed }
}

t.test('an injected client gets code and reason of a close, after however many messages', async (t) => {
  for (const count of [0, 1, 50]) {
    const ends: End[] = []
    const { app } = await injectable(t, { onDisconnect: (_connection, end) => { ends.push(end) } })
    const { messages, closed } = await inject(app)
    const [connection] = connectionsOf(app)
    const sent = Array.from({ length: count }, (_, i) => `message ${i}`)
    for (const text of sent) connection!.send(text)
    connection!.close(4000, 'bye')
    t.strictSame(await closed, { code: 4000, reason: 'bye' }, `after ${count}`)
    t.strictSame(messages, sent)
    await until(() => ends.length === 1, 'onDisconnect')
    t.strictSame(ends, [{ code: 4000, reason: 'bye', cause: 'server' }])
  }
})

t.test('large messages and publications reach an injected client whole and in order', async (t) => {
  const { app } = await injectable(t, { onConnect: async (connection) => { await connection.subscribe('news') } })
  const { messages, closed } = await inject(app)
  const [connection] = connectionsOf(app)
  await until(() => connection!.channels.has('news'), 'it is subscribed')
  const sent: string[] = []
  for (let i = 0; i < 50; i++) {
    sent.push(`${i} ${'x'.repeat(i * 500)}`)
    if (i % 2 === 0) connection!.send(sent.at(-1))
    else await app.realtime.publish('news', sent.at(-1))
  }
  await until(() => messages.length === 50, 'all have arrived')
  t.strictSame(messages, sent)
  connection!.close(4000, 'bye')
  t.strictSame(await closed, { code: 4000, reason: 'bye' })
})

t.test("an injected client's own close ends the connection at once", async (t) => {
  const ends: End[] = []
  const { app } = await injectable(t, {
    onMessage: (connection, data) => { connection.send(data) },
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  for (const code of [4001, undefined]) {
    const { socket, messages, closed } = await inject(app)
    socket.send('hello')
    await until(() => messages.length === 1, 'the answer')
    if (code === undefined) socket.terminate()
    else socket.close(code, 'done')
    t.strictSame(await closed, code === undefined ? { code: 1006, reason: '' } : { code, reason: 'done' })
  }
  await until(() => ends.length === 2, 'onDisconnect')
  t.strictSame(ends, [{ code: 4001, reason: 'done', cause: 'client' }, { code: 1006, reason: '', cause: 'abnormal' }])
})

t.test('app.close() with injected clients on both routes ends with their answers, nobody is cut', async (t) => {
  const { app, entries } = await injectable(t, { onMessage: () => {} })
  const plain = await inject(app)
  const sdk = await inject(app, '/connection/websocket')
  sdk.socket.send('{"id":1,"connect":{}}')
  connectionsOf(app)[0]!.send('hello')
  await until(() => plain.messages.length + sdk.messages.length === 2, 'both have an answer')
  await app.close()
  t.strictSame(await plain.closed, { code: 1001, reason: 'shutdown' })
  t.strictSame(await sdk.closed, { code: 3001, reason: 'shutdown' })
  t.match(entries.find(({ event }) => event === 'drain.finished'), { connections: 2, terminated: 0 })
})

t.test('an injected client that does not read is dropped as slow', async (t) => {
  const ends: End[] = []
  const { app } = await injectable(t, {
    maxBufferedBytes: 100_000,
    heartbeat: { interval: '10s', timeout: 50 }, // sweeps often
    onDisconnect: (_connection, end) => { ends.push(end) }
  })
  const { socket } = await inject(app)
  const [connection] = connectionsOf(app)
  socket.pause()
  for (let i = 0; i < 20 && connection!.open; i++) connection!.send('x'.repeat(20_000))
  t.notOk(connection!.open)
  socket.resume()
  await until(() => ends.length === 1, 'it is dropped')
  t.match(ends, [{ code: 3008, reason: 'slow', cause: 'slow' }])
})

t.test('an injected client that is congested gets the newest value where only that matters', async (t) => {
  const { app } = await injectable(t, {
    channels: { price: { slow: 'latest' } },
    onConnect: async (connection) => { await connection.subscribe('price:a') }
  })
  const { socket, messages } = await inject(app)
  const [connection] = connectionsOf(app)
  await until(() => connection!.channels.has('price:a'), 'it is subscribed')
  socket.pause()
  const value = (i: number) => `${i} ${'x'.repeat(10_000)}`
  for (let i = 0; i < 100; i++) await app.realtime.publish('price:a', value(i))
  t.ok(connection!.open, 'it owes less than it may')
  socket.resume()
  await until(() => messages.at(-1) === value(99), 'the newest value')
  t.ok(messages.length < 100)
})
