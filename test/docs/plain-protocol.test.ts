import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import WebSocket from 'ws'
import { startBalancer } from '../helpers/balancer.ts'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { envelopeClient } from '../helpers/envelope.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { startApp } from '../helpers/app.ts'
import { until } from '../helpers/until.ts'
import type { Options } from '../../index.ts'

setEnvironment(t, { PORT: '0', REDIS_URL: undefined })

t.test('the app of the page understands what the page says', async (t) => {
  const { app } = await importBlock(t, 'docs/plain-protocol.md', 'envelope', 'app') as { app: FastifyInstance }
  t.teardown(() => app.close())
  const client = await envelopeClient(t, `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
  t.match(await client.ask({ subscribe: 'room:1' }), { result: { offset: 0, epoch: String } })
  t.strictSame(await client.ask({ method: 'greet', data: 'Ann' }), { id: 2, result: 'Hello Ann' })
})

/** The client of the page, in a process that has no browser's WebSocket. It opens every socket that the test sees. */
async function client (t: import('tap').Test, url: string) {
  const { WebSocket: before } = globalThis
  const sockets: WebSocket[] = []
  class Seen extends WebSocket {
    constructor (url: string) {
      super(url)
      sockets.push(this)
      this.on('error', () => {}) // 'close' follows
    }
  }
  Object.assign(globalThis, { WebSocket: Seen })
  const { connect } = await importBlock(t, 'docs/plain-protocol.md', 'envelope-client') as { connect: Function }
  const { subscribe, close } = connect(url)
  t.teardown(() => {
    close()
    Object.assign(globalThis, { WebSocket: before })
  })
  return { subscribe, sockets }
}

t.test('instances are swapped and the network is cut while it recovers by its position: nothing is lost, nothing comes twice', async (t) => {
  const redis = await startRedis(t)
  const options: Options = {
    redis: redis.url, keyPrefix: randomPrefix(), plain: { envelope: true }, channels: { room: { subscribe: true, history: { size: 100_000, ttl: '1h' } } }
  }
  const publisher = await startApp(t, options)
  let serving = await startApp(t, options)
  const balancer = await startBalancer(t, [serving.url])
  const { subscribe, sockets } = await client(t, `${balancer.url}/ws`)
  const got: number[] = []
  let gaps = 0
  subscribe('room:1', { onData: (data: number) => got.push(data), onGap: () => { gaps++ } })
  await until(() => sockets[0]?.readyState === WebSocket.OPEN, 'the first connection')

  const flow = { ended: false, count: 0 }
  const flowing = (async () => {
    while (!flow.ended) await publisher.app.realtime.publish('room:1', flow.count++)
  })()
  await until(() => got.length > 20, 'publications arrive')
  for (let swap = 0; swap < 3; swap++) {
    const next = await startApp(t, options)
    balancer.targets = [next.url]
    const before = sockets.length
    if (swap === 1) balancer.cut()
    await serving.app.close()
    serving = next
    await until(() => sockets.length > before && got.length > 0 && got.at(-1)! > flow.count - 50, 'it has caught up', 30_000)
  }
  flow.ended = true
  await flowing
  await until(() => got.at(-1) === flow.count - 1, 'the last one', 30_000)
  const first = got[0]!
  t.strictSame(got, Array.from({ length: flow.count - first }, (_, i) => first + i))
  t.equal(gaps, 0)
})

t.test('it says that it is refused, and that there is a gap', async (t) => {
  const { app, url } = await startApp(t, {
    redis: false, plain: { envelope: true }, channels: { room: { subscribe: true, history: { size: 2, ttl: '1h' } } }
  })
  const balancer = await startBalancer(t, [url])
  const { subscribe, sockets } = await client(t, `${balancer.url}/ws`)
  const seen: unknown[] = []
  subscribe('closed:1', { onData () {}, onRefused: ({ code }: { code: number }) => seen.push(code) })
  await until(() => seen.length === 1, 'the refusal')
  subscribe('room:1', { onData: (data: unknown) => seen.push(data), onGap: () => seen.push('gap') })
  await until(() => app.realtime.presenceStats('room:1').then(async () => Array.from(app.realtime.connections)[0]?.channels.has('room:1')), 'the subscription')
  await app.realtime.publish('room:1', 'one')
  await until(() => seen.length === 2, 'the first publication')
  balancer.cut()
  for (const n of [2, 3, 4, 5]) await app.realtime.publish('room:1', n)
  await until(() => sockets.length >= 2 && seen.includes('gap'), 'it is back')
  await app.realtime.publish('room:1', 'more')
  await until(() => seen.at(-1) === 'more', 'what comes after the gap')
  t.strictSame(seen, [102, 'one', 102, 'gap', 'more'])
})

t.test('whom the app has unsubscribed does not come back to the channel, not even after a reconnect', async (t) => {
  const { app, url } = await startApp(t, {
    redis: false,
    plain: { envelope: true },
    authenticate: () => ({ user: '42' }),
    channels: { room: { subscribe: true, history: { size: 10, ttl: '1m' } } }
  })
  const { subscribe, sockets } = await client(t, `${url}/ws`)
  const seen: string[] = []
  const into = (channel: string) => subscribe(channel, { onData: (data: string) => seen.push(`${channel} ${data}`) })
  into('room:left')
  into('room:kept')
  const channels = () => [...Array.from(app.realtime.connections)[0]?.channels ?? []].sort()
  await until(() => channels().length === 2, 'both subscriptions')
  await app.realtime.unsubscribe('42', 'room:left')
  await app.realtime.publish('room:left', 'not for it')
  await app.realtime.publish('room:kept', 'one')
  await until(() => seen.length === 1, 'what is published to the other channel')
  sockets.at(-1)?.terminate()
  await app.realtime.publish('room:kept', 'two')
  await until(() => seen.includes('room:kept two'), 'the client is back')
  t.strictSame(channels(), ['room:kept'])
  t.strictSame(seen, ['room:kept one', 'room:kept two'])
})
