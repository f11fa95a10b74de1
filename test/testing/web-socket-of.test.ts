import { Centrifuge } from 'centrifuge'
import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket, { type Options } from '../../index.ts'
import { sharedMemory, webSocketOf } from '../../testing.ts'
import { encodings, SdkClient } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'

const channels: Options['channels'] = { room: { subscribe: true, publish: true, history: { size: 10, ttl: '10m' } } }

function build (t: Test, options: Options = {}): FastifyInstance {
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(cloudRunWebSocket, { redis: false, shutdown: { signals: false }, channels, ...options })
  return app
}

function sdk (t: Test, encoding: typeof encodings[number], app: FastifyInstance | (() => FastifyInstance)): SdkClient {
  const client = new SdkClient('ws://test', encoding, { websocket: webSocketOf(app) })
  t.teardown(() => client.client.disconnect())
  return client
}

for (const encoding of encodings) {
  t.test(`the SDK with ${encoding} connects without a port, and sees what others publish`, async (t) => {
    const app = build(t, { onConnect: connection => { connection.meta = connection.protocol } })
    const client = await sdk(t, encoding, app).connected()
    t.equal(Array.from(app.realtime.connections)[0]?.protocol, encoding)
    const room = await client.subscribe('room:1').subscribed()
    await app.realtime.publish('room:1', { n: 1 })
    await client.publish('room:1', { n: 2 })
    await room.arrived(2)
    t.strictSame(room.data, [{ n: 1 }, { n: 2 }])
  })

  t.test(`the SDK with ${encoding} comes back after a kick, and after its app closed to the next one, and misses nothing`, async (t) => {
    const memory = sharedMemory()
    const [first, second] = [build(t, { redis: memory }), build(t, { redis: memory })]
    await second.ready()
    let current = first
    const client = await sdk(t, encoding, () => current).connected()
    const room = await client.subscribe('room:1').subscribed()
    for (const connection of first.realtime.connections) connection.close(4000, 'again')
    await client.connected(2)
    await room.subscribed(2)
    current = second
    await first.close()
    await second.realtime.publish('room:1', 'meanwhile')
    await client.connected(3)
    await room.subscribed(3)
    await second.realtime.publish('room:1', 'after')
    await room.arrived(2)
    t.strictSame(room.data, ['meanwhile', 'after'])
    t.equal(room.events.subscribed.at(-1)?.recovered, true)
  })
}

t.test('a client that cuts the connection is noticed at once', async (t) => {
  const ends: string[] = []
  const app = build(t, { onDisconnect: (_connection, { cause }) => { ends.push(cause) } })
  const WebSocket = webSocketOf(app)
  const socket = new WebSocket('ws://test/ws') as { onopen: () => void, terminate (): void }
  await new Promise<void>(resolve => { socket.onopen = resolve })
  socket.terminate()
  await until(() => ends.length === 1, 'the end')
  t.strictSame(ends, ['abnormal'])
})

t.test('an app that is closed refuses the SDK, which tries again', async (t) => {
  const app = build(t)
  await app.ready()
  await app.close()
  const client = sdk(t, 'json', app)
  await until(() => client.events.error.length >= 2, 'two errors')
  t.equal(client.client.state, 'connecting')
  t.type(client.client, Centrifuge)
})
