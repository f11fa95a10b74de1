import { randomUUID } from 'node:crypto'
import { createClient } from 'redis'
import t from 'tap'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { freePort } from '../../helpers/free-port.ts'
import { collectLog } from '../../helpers/log.ts'
import { startRedis } from '../../helpers/redis.ts'
import { startInstances } from '../../helpers/sdk.ts'
import { httpOf, openStream, post, streamClient, streamTransports } from '../../helpers/streams.ts'
import type { Reply } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'

/** Notes in which order commands take effect. */
function noting (): { options: Options, seen: unknown[] } {
  const seen: unknown[] = []
  return {
    seen,
    options: {
      fallback: true,
      onRpc: (_connection, _method, data) => { seen.push(data) },
      onMessage: (_connection, data) => { seen.push(data) }
    }
  }
}

const rpc = (id: number): Reply => ({ id, rpc: { method: 'note', data: id } })

/** Ids of the commands in a post, in JSON. */
function idsIn (body: string): number[] {
  return (JSON.parse(body) as { data: string }).data.split('\n').map(line => (JSON.parse(line) as { id?: number }).id ?? 0).filter(id => id > 0)
}

for (const broker of ['memory', 'redis'] as const) {
  t.test(`posts that overtake each other take effect in order, broker in ${broker}`, async (t) => {
    const redis = broker === 'redis' ? await startRedis(t) : undefined
    const { options, seen } = noting()
    const instances = await startInstances(t, redis === undefined ? 1 : 3, options, redis)
    const urls = instances.map(({ url }) => url)
    const stream = await openStream(t, urls[0]!, { id: 7, connect: {} })
    await stream.reply(7)
    const order = [[12, 13], [10], [15], [9, 11].map(() => 11), [14], [8], [9]].map(ids => [...new Set(ids)])
    const answers = order.map((ids, i) => stream.post(ids.map(rpc), urls[i % urls.length]))
    t.strictSame((await Promise.all(answers)).map(({ status }) => status), order.map(() => 204))
    await stream.reply(15)
    t.strictSame(seen, [8, 9, 10, 11, 12, 13, 14, 15])
  })
}

t.test('what has no id waits for nothing', async (t) => {
  const { options, seen } = noting()
  const { url } = await startApp(t, options)
  const stream = await openStream(t, url)
  const early = stream.post(rpc(3))
  t.equal((await stream.post({ send: { data: 'sent' } })).status, 204)
  t.equal((await stream.post({})).status, 204)
  t.strictSame(seen, ['sent'])
  await stream.post(rpc(2))
  t.equal((await early).status, 204)
  t.strictSame(seen, ['sent', 2, 3])
})

t.test('a post that comes too early is answered at once, not when its turn comes', async (t) => {
  const { options, seen } = noting()
  const redis = await startRedis(t)
  const [one, two] = await startInstances(t, 2, options, redis)
  const stream = await openStream(t, one!.url)
  for (const [id, url] of [[4, one!.url], [3, two!.url]] as const) t.equal((await stream.post(rpc(id), url)).status, 204)
  t.strictSame(seen, [])
  t.equal((await stream.post(rpc(2))).status, 204)
  t.strictSame(seen, [2, 3, 4])
})

t.test('a command that never comes is waited for once', async (t) => {
  const { options, seen } = noting()
  const { url } = await startApp(t, options)
  const stream = await openStream(t, url)
  const later = [stream.post(rpc(4)), stream.post(rpc(5)), stream.post(rpc(7))]
  t.equal((await later[0]!).status, 204)
  await stream.reply(5)
  t.strictSame(seen.slice(0, 2), [4, 5])
  await stream.post(rpc(6))
  await Promise.all(later)
  await stream.post(rpc(3))
  await stream.reply(3)
  t.strictSame(seen.toSorted(), [3, 4, 5, 6, 7], 'what comes later still takes effect')
})

t.test('when too many wait for a command it is waited for no longer', async (t) => {
  const { options, seen } = noting()
  const { url } = await startApp(t, options)
  const stream = await openStream(t, url)
  const ids = Array.from({ length: 65 }, (_, i) => 100 - i)
  const answers = await Promise.all(ids.map(id => stream.post(rpc(id))))
  t.ok(answers.every(({ status }) => status === 204))
  t.strictSame(seen, ids.toReversed())
  const large = 'x'.repeat(60_000)
  const sizes = await Promise.all([200, 199, 198, 197, 196].map(id => stream.post({ id, rpc: { method: 'note', data: `${id}${large}` } })))
  t.ok(sizes.every(({ status }) => status === 204))
  t.strictSame(seen.slice(65).map(data => String(data).slice(0, 3)), ['196', '197', '198', '199', '200'])
})

t.test('as many are waited for no longer as take too much memory', async (t) => {
  const seen: unknown[] = []
  const onRpc: Options['onRpc'] = (_connection, _method, data) => { seen.push((data as string).slice(0, 2)) }
  const { url } = await startApp(t, { fallback: true, onRpc })
  const stream = await openStream(t, url)
  for (const [id, length] of [[10, 1], [20, 60_000], [30, 60_000], [40, 60_000], [50, 60_000], [60, 30_000]] as const) {
    await stream.post({ id, rpc: { method: 'note', data: `${id}${'x'.repeat(length)}` } })
  }
  t.strictSame(seen, ['10', '20'], 'the first alone would not be enough')
})

t.test('while a handler is slow its posts wait, and then further ones are dropped', async (t) => {
  const seen: unknown[] = []
  let release = () => {}
  const held = new Promise<void>(resolve => { release = resolve })
  const onMessage = async (_connection: unknown, data: unknown) => { await held; seen.push(data) }
  const { app, url } = await startApp(t, { fallback: true, onMessage })
  const stream = await openStream(t, url)
  const statuses: number[] = []
  const send = async (i: number) => { statuses.push((await stream.post({ send: { data: i } })).status) }
  await send(0)
  for (let i = 1; i <= 64; i++) await send(i)
  t.ok(connectionsOf(app)[0]!.paused)
  t.strictSame(statuses, Array.from({ length: 65 }, () => 204))
  const waiting = Array.from({ length: 64 }, (_, i) => send(65 + i))
  const full = await until(async () => {
    const response = await stream.post({ send: { data: 'dropped' } })
    return response.status === 429 ? response : undefined
  }, 'too many wait', 30_000)
  t.match(await full!.json(), { code: 'FST_CRWS_POST_LIMIT' })
  release()
  await Promise.all(waiting)
  await until(() => seen.length >= 129, 'all are handled')
  t.strictSame(seen.filter(data => typeof data === 'number').toSorted((a, b) => a - b), Array.from({ length: 129 }, (_, i) => i))
})

t.test('posts that wait are answered when their stream ends', async (t) => {
  const { options } = noting()
  const { app, url } = await startApp(t, { ...options, onMessage: () => new Promise(() => {}) })
  const early = await openStream(t, url)
  const waiting = early.post(rpc(9))
  const paused = await openStream(t, url)
  for (let i = 0; i <= 64; i++) await paused.post({ send: { data: i } })
  const held = paused.post({ send: { data: 'held' } })
  await until(() => connectionsOf(app).some(connection => connection.paused), 'a stream is paused')
  early.abort()
  paused.abort()
  t.strictSame([(await waiting).status, (await held).status], [204, 204])
})

for (const [transport, encoding] of streamTransports.filter(([, encoding]) => encoding === 'json')) {
  t.test(`the SDK counts its commands up by one over ${transport}, and posts in any order do no harm`, async (t) => {
    const { options, seen } = noting()
    const { app, url } = await startApp(t, { ...options, channels: { '': { subscribe: true, publish: true } } })
    const ids: number[] = []
    const delayed = async (input: unknown, init: RequestInit): Promise<Response> => {
      const posted = String(input).endsWith('/emulation')
      if (posted) {
        ids.push(...idsIn(String(init.body)))
        await new Promise(resolve => setTimeout(resolve, Math.random() * 20)) // they overtake each other
      }
      return fetch(input as string, init)
    }
    const client = streamClient(t, url, transport, encoding, { fetch: delayed })
    for (let round = 1; round <= 3; round++) {
      await client.connected(round)
      const subscriptions = ['a', 'b', 'c'].map(channel => client.client.getSubscription(channel + round) ?? client.subscribe(channel + round).sub)
      await Promise.all([...Array.from({ length: 20 }, (_, i) => client.rpc('note', round * 100 + i)), ...subscriptions.map(one => one.ready())])
      t.strictSame(seen.splice(0), Array.from({ length: 20 }, (_, i) => round * 100 + i))
      for (const connection of app.realtime.connections) connection.close(3001, 'again')
    }
    const gaps = ids.toSorted((a, b) => a - b).filter((id, i, all) => i > 0 && id !== all[i - 1]! + 1)
    t.ok(gaps.length <= 2, 'none but the two connects, which no post has')
  })
}

t.test('posts to an instance that has gone, or does not answer, make the client connect again', async (t) => {
  const redis = await startRedis(t)
  const { options } = noting()
  const [one, other] = await startInstances(t, 2, options, redis)
  const stream = await openStream(t, other!.url)
  const { session, node } = (await stream.reply(1)).connect
  t.equal((await stream.post(rpc(2), one!.url)).status, 204)
  t.equal((await post(one!.url, { session: randomUUID(), node, data: '{}' })).status, 404, 'its instance does not know it')
  await other!.app.close()
  const late = await post(one!.url, { session, node, data: '{}' })
  t.equal(late.status, 503)
  t.match(await late.json(), { code: 'FST_CRWS_POST_UNANSWERED' })
  redis.kill()
  await until(async () => (await (await fetch(`${httpOf(one!.url)}/ready`)).json() as { redis: string }).redis === 'down', 'Redis is down')
  t.equal((await post(one!.url, { session, node, data: '{}' })).status, 503)
  const local = await openStream(t, one!.url)
  await local.reply(1)
  t.equal((await local.post(rpc(2))).status, 204, 'a stream and its posts on one instance need no Redis')
})

t.test('an instance that has no Redis yet has streams all the same', async (t) => {
  const { options, seen } = noting()
  const { url } = await startApp(t, { ...options, redis: `redis://127.0.0.1:${await freePort()}` })
  const stream = await openStream(t, url)
  const { session } = (await stream.reply(1)).connect
  t.equal((await stream.post(rpc(2))).status, 204)
  await stream.reply(2)
  t.strictSame(seen, [2])
  t.equal((await post(url, { session, node: 'other', data: '{}' })).status, 503)
})

t.test('what others write to Redis in place of a post is logged, and harms nobody', async (t) => {
  const redis = await startRedis(t)
  const { logger, entries } = collectLog()
  const { options, seen } = noting()
  const { url } = await startApp(t, { ...options, maxPayload: 1_000, redis: redis.url, keyPrefix: 'mine' }, { logger })
  const stream = await openStream(t, url)
  const { session, node } = (await stream.reply(1)).connect
  const client = await createClient({ url: redis.url }).connect()
  t.teardown(() => client.close())
  const write = (json: string) => client.publish(`mine:pub:{\u0000mail:${node}}`, `0  j ${Date.now()} other 0\n${json}`)
  const letter = { session, data: JSON.stringify(rpc(2)), binary: false }
  const bad = [
    'no json', 'null', '1', '{}', { id: 1, from: 'x', letter }, { id: 'a', letter }, { id: 'a', from: 1, letter }, { id: 'a', from: 'x' },
    { id: 'a', from: 'x', letter: null }, { id: 'a', from: 'x', letter: { session } }, { id: 'a', from: 'x', letter: { ...letter, session: 1 } },
    { id: 'a', from: 'x', letter: { ...letter, data: 'x'.repeat(1_001) } }
  ].map(one => typeof one === 'string' ? one : JSON.stringify(one))
  for (const json of bad) await write(json)
  const failed = () => entries.filter(({ event }) => event === 'control.failed').map(({ command }) => command)
  await until(() => failed().length >= 5, 'one entry for each cause')
  t.strictSame(failed().filter(command => !bad.some(json => json.replace(/"letter":.*/, '"letter":…') === command)), [])
  t.notOk(JSON.stringify(entries).includes(session), 'whoever reads the log cannot send for the client')
  await write(JSON.stringify({ id: 'nobody asked', reply: 'taken' }))
  await write(JSON.stringify({ id: 'a', from: 'x', letter }))
  await stream.reply(2)
  t.strictSame(seen, [2])
})

t.test('commands in posts are limited as they are on a WebSocket', async (t) => {
  const { options, seen } = noting()
  const { url } = await startApp(t, { ...options, rateLimit: { messages: { max: 5, timeWindow: '1h' } } })
  const stream = await openStream(t, url)
  for (let id = 2; id <= 11; id++) t.equal((await stream.post(rpc(id))).status, 204)
  t.match(await stream.reply(7), { error: { code: 111, temporary: true } })
  t.strictSame(seen, [2, 3, 4, 5], 'connect is the first of five')
  for (let id = 12; id <= 14; id++) await stream.post(rpc(id))
  t.match(await stream.push('disconnect'), { code: 3013, reconnect: true })
  await stream.ended
})

t.test('many clients post at once to instances that do not have their streams, and each gets its answers', async (t) => {
  const redis = await startRedis(t)
  const [one, other] = await startInstances(t, 2, { fallback: true, onRpc: (_connection, _method, data) => data }, redis)
  const clients = streamTransports.flatMap(([transport, encoding]) =>
    Array.from({ length: 5 }, () => streamClient(t, one!.url, transport, encoding, {}, other!.url)))
  await Promise.all(clients.map(client => client.connected()))
  await Promise.all(clients.map(async (client, n) => {
    const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => client.rpc('echo', { n, i })))
    t.strictSame(answers, Array.from({ length: 20 }, (_, i) => ({ n, i })))
  }))
  t.ok(clients.every(({ events }) => events.connected.length === 1), 'none had to connect again')
})
