import Fastify from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket, { type Options } from '../../index.ts'
import { sharedMemory, testClient } from '../../testing.ts'
import { until } from '../helpers/until.ts'

async function instances (t: Test, options: Options = {}) {
  const memory = sharedMemory()
  const start = async () => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(cloudRunWebSocket, {
      redis: memory,
      shutdown: { signals: false },
      channels: { room: { presence: true, history: { size: 10, ttl: '10m' } } },
      authenticate: ({ headers }) => ({ user: String(headers.user), channels: ['room:1'] }),
      ...options
    })
    await app.ready()
    return app
  }
  return [await start(), await start()] as const
}

t.test('what one instance publishes the clients of all get, in one stream', async (t) => {
  const [a, b] = await instances(t)
  const [ann, bob] = [await testClient(a, { headers: { user: 'ann' } }), await testClient(b, { headers: { user: 'bob' } })]
  const first = await a.realtime.publish('room:1', 'from a')
  const second = await b.realtime.publish('room:1', 'from b')
  t.strictSame([first.offset, second.offset, second.epoch], [1, 2, first.epoch])
  for (const client of [ann, bob]) t.strictSame([await client.next(), await client.next()], ['from a', 'from b'])
  t.strictSame(await a.realtime.history('room:1'), await b.realtime.history('room:1'))
  t.strictSame(await b.realtime.publish('room:1', 'again', { idempotencyKey: 'k' }), await a.realtime.publish('room:1', 'again', { idempotencyKey: 'k' }))
  t.strictSame([await ann.next(), ann.messages.length], ['again', 3])
})

t.test('presence, sessions and info are of all instances', async (t) => {
  const [a, b] = await instances(t)
  const ann = await testClient(a, { headers: { user: 'ann' } })
  await testClient(b, { headers: { user: 'bob' } })
  const users = async () => (await a.realtime.presence('room:1')).map(({ user }) => user).toSorted()
  await until(async () => (await users()).length === 2, 'both are present')
  t.strictSame(await users(), ['ann', 'bob'])
  t.strictSame(await b.realtime.presenceStats('room:1'), { clients: 2, users: 2 })
  await a.realtime.sessions.set('ann', { cart: [1] })
  t.strictSame(await b.realtime.sessions.get('ann'), { cart: [1] })
  const ids = async (app: typeof a) => (await app.realtime.info()).map(({ instance }) => instance).toSorted()
  t.equal((await ids(a)).length, 2)
  t.strictSame(await ids(a), await ids(b))
  await ann.close()
  await until(async () => (await users()).length === 1, 'ann has left')
  await b.close()
  t.equal((await ids(a)).length, 1)
})

t.test('a user is subscribed, unsubscribed and disconnected from any instance', async (t) => {
  const [a, b] = await instances(t)
  const ann = await testClient(b, { headers: { user: 'ann' } })
  await a.realtime.subscribe('ann', 'news')
  const [connection] = b.realtime.connections
  await until(() => connection?.channels.has('news'), 'subscribed')
  await a.realtime.publish('news', 'one')
  t.equal(await ann.next(), 'one')
  await a.realtime.unsubscribe('ann', 'news')
  await until(() => !connection?.channels.has('news'), 'unsubscribed')
  await a.realtime.disconnect('ann', { code: 4403, reason: 'banned' })
  t.strictSame(await ann.closed, { code: 4403, reason: 'banned' })
})

t.test('SDK clients see who joins and leaves at the other instance', async (t) => {
  const [a, b] = await instances(t, { channels: { room: { subscribe: true, presence: true, joinLeave: true } } })
  const sdk = await testClient(a, { path: '/connection/websocket', headers: { user: 'ann' } })
  sdk.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:2","join_leave":true}}')
  const seen = (text: string) => until(() => sdk.messages.some(message => message.toString().includes(text)), text)
  await seen('"subscribe"')
  const bob = await testClient(b, { path: '/connection/websocket', headers: { user: 'bob' } })
  bob.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"room:2"}}')
  await seen('"join":{"info":{"user":"bob"')
  await bob.close()
  await seen('"leave":{"info":{"user":"bob"')
})
