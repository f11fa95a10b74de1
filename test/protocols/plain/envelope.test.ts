import t from 'tap'
import type { Test } from 'tap'
import type { Connection, Options } from '../../../index.ts'
import type { App } from '../../helpers/app.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { envelopeClient } from '../../helpers/envelope.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, startRedis } from '../../helpers/redis.ts'
import { sdkClient, startInstances } from '../../helpers/sdk.ts'
import { until } from '../../helpers/until.ts'

t.jobs = 2
const redis = await startRedis(t)

interface Place { one: App, two: App }

/** The same in memory, and across two instances on Redis. */
function everywhere (name: string, options: Options, run: (t: Test, place: Place) => Promise<void>): void {
  for (const [where, n, store] of [['in memory', 1, undefined], ['across two instances', 2, redis]] as const) {
    t.test(`${where}: ${name}`, { buffered: true }, async (t) => {
      const instances = await startInstances(t, n, { plain: { envelope: true }, ...options }, store)
      await run(t, { one: instances[0]!, two: instances[n - 1]! })
    })
  }
}

const channels = {
  '': { subscribe: true, publish: true },
  room: { subscribe: true, publish: true, joinLeave: true, presence: true, history: { size: 10, ttl: '10m' } },
  closed: { subscribe: false, publish: false },
  secret: { subscribe: true, token: true },
  todo: { subscribe: true, publish: true, schema: { type: 'object', required: ['text'], properties: { text: { type: 'string' } } } }
} as const
const authenticate: Options['authenticate'] = request => ({ user: String(request.headers['x-user'] ?? ''), info: { name: 'Ann' } })

everywhere('a publication says its channel and position, whatever its data is', { channels }, async (t, { one, two }) => {
  const client = await envelopeClient(t, one.url)
  t.strictSame(await client.ask({ subscribe: 'news' }), { id: 1, result: {} })
  const { result } = await client.ask({ subscribe: 'room:1' })
  t.match(result, { offset: 0, epoch: String })
  const { epoch } = result
  await two.app.realtime.publish('news', 'te"xt\n')
  await two.app.realtime.publish('news', { a: [1, 'ü'] }, { tags: { lang: 'de' } })
  await two.app.realtime.publish('news', Buffer.from([0, 255]), { tags: { kind: 'raw' } })
  await two.app.realtime.publish('room:1', null)
  await two.app.realtime.publish('room:1', Buffer.from('x'))
  await until(() => client.of('room:1').length === 2 && client.of('news').length === 3, 'all have arrived')
  t.strictSame(client.of('news'), [
    { channel: 'news', data: 'te"xt\n' },
    { channel: 'news', data: { a: [1, 'ü'] }, tags: { lang: 'de' } },
    { channel: 'news', data: 'AP8=', encoding: 'base64', tags: { kind: 'raw' } }
  ])
  t.strictSame(client.of('room:1'), [
    { channel: 'room:1', offset: 1, epoch, data: null },
    { channel: 'room:1', offset: 2, epoch, data: 'eA==', encoding: 'base64' }
  ])
})

everywhere('joins and leaves are told, and who published', { channels, authenticate }, async (t, { one, two }) => {
  const ann = await envelopeClient(t, one.url, { headers: { 'x-user': 'ann' } })
  await ann.ask({ subscribe: 'room:1' })
  const bob = await envelopeClient(t, two.url, { headers: { 'x-user': 'bob' } })
  await bob.ask({ subscribe: 'room:1' })
  const { join } = await ann.find(message => message.join?.user === 'bob', 'the join')
  t.strictSame(join, { client: join.client, user: 'bob', info: { name: 'Ann' } })
  t.match(await bob.ask({ publish: 'room:1', data: 'hi' }), { result: { offset: 1, epoch: String } })
  t.match(await ann.find(message => message.data === 'hi'), { channel: 'room:1', offset: 1, info: join })
  t.strictSame((await one.app.realtime.presence('room:1')).map(({ user }) => user).toSorted(), ['ann', 'bob'])
  t.strictSame(await bob.ask({ unsubscribe: 'room:1' }), { id: 3, result: {} })
  t.strictSame(await ann.find(message => 'leave' in message), { channel: 'room:1', leave: join })
  await bob.ask({ subscribe: 'room:1' })
  bob.socket.close()
  await until(() => ann.parsed.filter(message => 'leave' in message).length === 2, 'the second leave')
})

everywhere('the rules are those of SDK clients, and refusals have their codes', { channels, authenticate }, async (t, { one }) => {
  const client = await envelopeClient(t, one.url, { headers: { 'x-user': '42' } })
  const codeOf = async (message: object) => (await client.ask(message)).error
  t.strictSame(await codeOf({ subscribe: 'unknown:1' }), { code: 102, message: 'unknown channel' })
  t.strictSame(await codeOf({ publish: 'unknown:1', data: 1 }), { code: 102, message: 'unknown channel' })
  for (const refused of [{ subscribe: 'closed:1' }, { publish: 'closed:1', data: 1 }, { subscribe: 'secret:1' }, { subscribe: 'room#7' }, { publish: 'room#7', data: 1 }]) {
    t.strictSame(await codeOf(refused), { code: 103, message: 'permission denied' }, JSON.stringify(refused))
  }
  t.strictSame(await client.ask({ subscribe: 'inbox#42' }), { id: 8, result: {} })
  t.strictSame(await codeOf({ subscribe: 'inbox#42' }), { code: 105, message: 'already subscribed' })
  t.match(await codeOf({ publish: 'todo:1', data: {} }), { code: 107, message: /^bad request: .*text/ })
  t.strictSame(await codeOf({ publish: 'news' }), { code: 107, message: 'bad request: there is no data' })
  t.match(await codeOf({ subscribe: '' }), { code: 107, message: /^bad request: Invalid channel/ })
  t.match(await codeOf({ subscribe: 'a\u0000b' }), { code: 107 })
  t.match(await codeOf({ subscribe: 'room:1', since: { offset: -1, epoch: '' } }), { code: 107, message: /since must be a position/ })
  t.match(await client.ask({ publish: 'todo:1', data: { text: 'x' } }), { result: {} })
  await Promise.all(Array.from({ length: 127 }, (_, i) => client.ask({ subscribe: `c${i}` })))
  t.strictSame(await codeOf({ subscribe: 'one-more' }), { code: 106, message: 'limit exceeded' })
  t.equal(client.socket.readyState, client.socket.OPEN)
})

everywhere('onSubscribe and onPublish decide for plain clients too', {
  channels,
  onSubscribe: (_connection, channel, { data }) => channel === 'room:no' ? false : { data: { got: data ?? null }, info: { role: 'guest' } },
  onPublish: (_connection, _channel, data) => data !== 'no' && { data: { wrapped: data }, tags: { by: 'app' } }
}, async (t, { one, two }) => {
  const client = await envelopeClient(t, one.url)
  t.match(await client.ask({ subscribe: 'room:no' }), { error: { code: 103 } })
  t.match(await client.ask({ subscribe: 'room:1', data: { page: 2 } }), { result: { offset: 0, data: { got: { page: 2 } } } })
  const other = await envelopeClient(t, two.url)
  t.match(await other.ask({ subscribe: 'room:1' }), { result: { data: { got: null } } })
  t.match(await other.find(message => message.join?.channelInfo?.role === 'guest'), { join: { client: String } })
  t.match(await client.ask({ publish: 'room:1', data: 'no' }), { error: { code: 103 } })
  t.match(await client.ask({ publish: 'room:1', data: 'yes' }), { result: { offset: 1 } })
  const seen = await other.find(message => 'data' in message)
  t.match(seen, { data: { wrapped: 'yes' }, tags: { by: 'app' }, info: { channelInfo: { role: 'guest' } } })
})

everywhere('a field that is null counts as absent, except the data of a publish', {
  channels,
  methods: { kind: { handler: (_connection, data) => typeof data } },
  onSubscribe: (_connection, _channel, details) => ({ data: Object.keys(details) })
}, async (t, { one }) => {
  const client = await envelopeClient(t, one.url)
  const unset = { subscribe: null, unsubscribe: null, publish: null, method: null, since: null, data: null }
  t.match(await client.ask({ ...unset, subscribe: 'room:1' }), { result: { offset: 0, recovered: undefined, data: [] } })
  t.match(await client.ask({ ...unset, publish: 'room:1' }), { result: { offset: 1 } })
  t.match(await client.find(message => message.offset === 1), { data: null })
  t.strictSame((await client.ask({ ...unset, method: 'kind' })).result, 'undefined')
  t.strictSame((await client.ask({ ...unset, unsubscribe: 'room:1' })).result, {})
  t.match(await client.ask(unset), { error: { code: 107, message: /must be a JSON object with/ } })
  const count = client.messages.length
  client.send(JSON.stringify({ ...unset, id: null, method: 'kind' })) // no id: no answer
  await client.ask({ method: 'kind' })
  t.equal(client.messages.length, count + 1)
  client.send('{"id":null,"publish":"closed:1","data":1}')
  t.strictSame(await client.find(message => message.error?.code === 103), { error: { code: 103, message: 'permission denied' } })
})

everywhere('a position is honoured: missed publications come first and in order, behind the reply', { channels }, async (t, { one, two }) => {
  const first = await envelopeClient(t, one.url)
  const { result: { epoch } } = await first.ask({ subscribe: 'room:1' })
  await one.app.realtime.publish('room:1', 1)
  await first.find(message => message.data === 1)
  first.socket.close()
  for (const n of [2, 3, 4]) await one.app.realtime.publish('room:1', n)

  const again = await envelopeClient(t, two.url)
  const flow = Promise.all([5, 6, 7].map(n => one.app.realtime.publish('room:1', n)))
  t.strictSame(await again.ask({ subscribe: 'room:1', since: { offset: 1, epoch } }), { id: 1, result: { offset: 1, epoch, recovered: true } })
  await flow
  await until(() => again.of('room:1').length === 6, 'all have arrived')
  t.strictSame(again.of('room:1').map(({ offset, data }) => [offset, data]), [2, 3, 4, 5, 6, 7].map(n => [n, n]))
  t.match(again.parsed.find(message => !('join' in message)), { id: 1 }, 'the reply is the first')

  for (const n of Array.from({ length: 20 }, (_, i) => 8 + i)) await one.app.realtime.publish('room:1', n)
  const late = await envelopeClient(t, two.url)
  t.strictSame((await late.ask({ subscribe: 'room:1', since: { offset: 1, epoch } })).result, { offset: 27, epoch, recovered: false })
  const stranger = await envelopeClient(t, two.url)
  t.strictSame((await stranger.ask({ subscribe: 'room:1', since: { offset: 27, epoch: 'other' } })).result, { offset: 27, epoch, recovered: false })
  t.strictSame((await stranger.ask({ subscribe: 'news', since: { offset: 27, epoch } })).result, { recovered: false }, 'without history')
  t.strictSame([late, stranger].flatMap(client => client.of('room:1')), [])
})

everywhere('a snapshot of onSubscribe has no gap', {
  channels,
  onSubscribe: async (_connection, channel) => {
    const { offset, epoch } = await apps.at(-1)!.app.realtime.history(channel, { limit: 0 })
    await apps.at(-1)!.app.realtime.publish(channel, 'meanwhile')
    return { data: { upTo: offset }, since: { offset, epoch } }
  }
}, async (t, { one, two }) => {
  apps.push(two)
  await one.app.realtime.publish('room:1', 'before')
  const client = await envelopeClient(t, one.url)
  t.match(await client.ask({ subscribe: 'room:1' }), { result: { offset: 1, epoch: String, data: { upTo: 1 } } })
  t.match(await client.find(message => 'data' in message), { offset: 2, data: 'meanwhile' })
})
const apps: App[] = []

everywhere('what the server ends is told: 2000 by the app, 2501 when a grant expires', {
  channels,
  onSubscribe: (_connection, channel) => channel === 'room:short' ? { expiresAt: Math.ceil(Date.now() / 1_000) + 1 } : {},
  heartbeat: { interval: '1s', timeout: '1s' }
}, async (t, { one }) => {
  const client = await envelopeClient(t, one.url)
  await client.ask({ subscribe: 'room:1' })
  await client.ask({ subscribe: 'room:short' })
  const [connection] = connectionsOf(one.app) as Connection[]
  await connection!.unsubscribe('room:1')
  t.strictSame(await client.find(message => message.channel === 'room:1' && 'unsubscribed' in message), {
    channel: 'room:1', unsubscribed: { code: 2000, reason: 'server unsubscribe' }
  })
  t.strictSame(await client.find(message => message.channel === 'room:short' && 'unsubscribed' in message), {
    channel: 'room:short', unsubscribed: { code: 2501, reason: 'subscription expired' }
  })
  t.strictSame([...connection!.channels], [])
})

t.test('a client whose position is lost is told 2500, and recovers what it can', { buffered: true }, async (t) => {
  const own = await startRedis(t)
  const [one, two] = await startInstances(t, 2, { plain: { envelope: true }, channels }, own)
  const client = await envelopeClient(t, one!.url)
  const { result: { epoch } } = await client.ask({ subscribe: 'room:1' })
  await two!.app.realtime.publish('room:1', 'before')
  await client.find(message => message.data === 'before')
  await command(own.port, ['FLUSHALL'])
  await two!.app.realtime.publish('room:1', 'after')
  t.strictSame(await client.find(message => 'unsubscribed' in message), {
    channel: 'room:1', unsubscribed: { code: 2500, reason: 'insufficient state' }
  })
  const { result } = await client.ask({ subscribe: 'room:1', since: { offset: 1, epoch } })
  t.match(result, { offset: 1, recovered: false })
  t.not(result.epoch, epoch)
})

everywhere('a subscription that the app made is in the envelope too, and the client cannot end it', {
  channels, onConnect: connection => connection.subscribe('room:1')
}, async (t, { one, two }) => {
  const client = await envelopeClient(t, one.url)
  const [connection] = connectionsOf(one.app) as Connection[]
  await until(() => connection!.channels.has('room:1'), 'the subscription')
  t.match(await client.ask({ subscribe: 'room:1' }), { error: { code: 105 } })
  t.match(await client.ask({ unsubscribe: 'room:1' }), { result: {} })
  const other = await envelopeClient(t, two.url)
  const joined = await client.find(({ join }) => join !== undefined && join.client !== connection!.id, 'the join of another')
  other.socket.close()
  t.strictSame(await client.find(message => 'leave' in message), { channel: 'room:1', leave: joined.join })
  await two.app.realtime.publish('room:1', 'x')
  t.match(await client.find(message => message.data === 'x'), { channel: 'room:1', offset: 1, epoch: String })
  await connection!.unsubscribe('room:1')
  t.match(await client.find(message => 'unsubscribed' in message), { unsubscribed: { code: 2000 } })
  await connection!.subscribe('news')
  await two.app.realtime.publish('news', 'y')
  await client.find(message => message.data === 'y')
})

everywhere('SDK clients and plain clients share a channel', { channels }, async (t, { one, two }) => {
  const plain = await envelopeClient(t, one.url)
  await plain.ask({ subscribe: 'room:1' })
  const sdk = sdkClient(t, two.url, 'json')
  const subscription = await sdk.subscribe('room:1').subscribed()
  await sdk.publish('room:1', { from: 'sdk' })
  t.match(await plain.find(message => message.data?.from === 'sdk'), { offset: 1, info: { client: sdk.id } })
  await plain.ask({ publish: 'room:1', data: 'from plain' })
  await subscription.arrived(2)
  t.strictSame(subscription.data, [{ from: 'sdk' }, 'from plain'])
  t.ok(subscription.events.publication[1]!.info?.client)
})

t.test('commands take effect in order: what is published after a subscribe arrives, after an unsubscribe it does not', async (t) => {
  const [{ url }] = await startInstances(t, 1, { plain: { envelope: true }, channels, keyPrefix: randomPrefix() }, redis) as [App]
  const client = await envelopeClient(t, url)
  const send = (message: object) => client.send(JSON.stringify(message))
  for (let i = 0; i < 20; i++) {
    send({ subscribe: 'room:1' })
    send({ publish: 'room:1', data: `heard ${i}` })
    await client.find(({ data }) => data === `heard ${i}`, 'what was published behind the subscribe')
    send({ unsubscribe: 'room:1' })
    send({ publish: 'room:1', data: `unheard ${i}` })
  }
  await client.ask({ publish: 'room:1', data: 'end' })
  t.strictSame(client.of('room:1').map(({ data }) => data), Array.from({ length: 20 }, (_, i) => `heard ${i}`))
  t.strictSame(client.parsed.filter(message => 'error' in message), [])
})

t.test('publishes of a client are pipelined, and answered one by one', async (t) => {
  const own = await startRedis(t)
  const [{ url }] = await startInstances(t, 1, { plain: { envelope: true }, channels, rateLimit: false }, own) as [App]
  const client = await envelopeClient(t, url)
  await client.ask({ subscribe: 'room:1' })
  const answers = Array.from({ length: 200 }, (_, i) => client.ask({ publish: 'room:1', data: i }))
  const offsets = (await Promise.all(answers)).map(({ result }) => result.offset)
  t.strictSame(offsets, Array.from({ length: 200 }, (_, i) => i + 1))
  await until(() => client.of('room:1').length === 200, 'all have arrived')
  t.strictSame(client.of('room:1').map(({ data }) => data), Array.from({ length: 200 }, (_, i) => i))
  await own.kill()
  const failed = await Promise.all([1, 2, 3].map(() => client.ask({ publish: 'room:1', data: 'lost' })))
  t.strictSame(failed.map(({ error }) => error), [1, 2, 3].map(() => ({ code: 100, message: 'internal server error' })))
  t.equal(client.socket.readyState, client.socket.OPEN)
})
