import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import WebSocket from 'ws'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { sdkClient } from '../helpers/sdk.ts'
import { connect } from '../helpers/ws-client.ts'

setEnvironment(t, { PORT: '0', REDIS_URL: undefined })

function urlOf (t: Test, app: FastifyInstance): string {
  t.teardown(() => app.close())
  return `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
}

t.test('the server that takes the place of one with Socket.IO', async (t) => {
  const { app } = await importBlock(t, 'docs/from-socket-io.md', 'after-socket-io', 'app')
  const url = urlOf(t, app)
  const client = sdkClient(t, url, 'json', {
    websocket: class extends WebSocket {
      constructor (url: string, protocols?: string[]) { super(url, protocols, { headers: { 'x-user': '42' } }) }
    }
  })
  const lobby = await client.subscribe('room:lobby').subscribed()
  t.strictSame(await client.rpc('say', { room: 'lobby', text: 'hello' }), { ok: true })
  await lobby.arrived(1)
  t.strictSame(lobby.data, [{ user: '42', text: 'hello' }])
  await t.rejects(client.rpc('constructor', {}), { code: 104 })
  await t.rejects(client.rpc('say', { room: 'lobby' }), { code: 107 })
})

t.test('the server that takes the place of one with @fastify/websocket by hand', async (t) => {
  const { app } = await importBlock(t, 'docs/from-fastify-websocket.md', 'after-fastify-websocket', 'app')
  const url = urlOf(t, app)
  const [one, two] = [await connect(t, `${url}/ws`), await connect(t, `${url}/ws`)]
  one.send('hello')
  for (const client of [one, two]) t.equal(await client.next(), '{"text":"hello"}')
})
