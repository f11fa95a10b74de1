import type { Options as SdkOptions } from 'centrifuge'
import { SignJWT } from 'jose'
import type { Subscription } from 'centrifuge'
import t from 'tap'
import type { Test } from 'tap'
import { ClientError } from '../../../index.ts'
import type { Connection, End, Options } from '../../../index.ts'
import type { App } from '../../helpers/app.ts'
import { startBalancer } from '../../helpers/balancer.ts'
import { startRedis } from '../../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../../helpers/sdk.ts'
import type { Encoding, SdkClient } from '../../helpers/sdk.ts'
import { secretOf } from '../../helpers/secrets.ts'
import { nameOf, otherOf, wireClient, wires } from '../../helpers/streams.ts'
import type { Wire } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'
import { connect } from '../../helpers/ws-client.ts'

t.setTimeout(300_000)
const redis = await startRedis(t)

/** Rules that most of these need: anything goes in `room`. */
const room = { subscribe: true, publish: true, presence: true, joinLeave: true, history: { size: 100, ttl: '10m' } } as const
/** The user is what the URL says. */
const authenticate: Options['authenticate'] = request => {
  const { user = '', name } = request.query as { user?: string, name?: string }
  return { user, ...(name !== undefined && { info: { name } }) }
}

interface Place {
  encoding: Encoding
  transport: Wire['transport']
  /** A client of this instance. Over a stream it posts to the other one. */
  clientOf: (url: string, options?: Partial<SdkOptions>) => SdkClient
  /** Two instances, or one that is both. */
  one: App
  two: App
}

/** The same over each transport in each of its encodings, in memory, with Redis, and across two instances. */
function everywhere (name: string, options: Options, flow: (t: Test, place: Place) => Promise<void>): void {
  t.test(name, async (t) => {
    for (const wire of wires) {
      for (const [where, n, store] of [['in memory', 1, undefined], ['on Redis', 1, redis], ['across two instances', 2, redis]] as const) {
        await t.test(`${nameOf(wire)} ${where}`, async (t) => {
          const instances = await startInstances(t, n, { authenticate, fallback: true, ...options }, store)
          const [one, two] = [instances[0]!, instances[n - 1]!]
          const clientOf: Place['clientOf'] = (url, options) => wireClient(t, url, wire, options, otherOf(url, one, two))
          await flow(t, { ...wire, clientOf, one, two })
        })
      }
    }
  })
}

/** The SDK's endpoint is the route without a query; users come in by it. */
function as (app: App, user: string, name?: string): string {
  const query = new URLSearchParams({ user, ...(name !== undefined && { name }) })
  return `${app.url}/connection/websocket?${query}`
}

everywhere('a client connects, and data go both ways', {}, async (t, { encoding, transport, clientOf, one }) => {
  const [plain] = [one]
  t.equal(Array.from(plain.app.realtime.connections).length, 0)
  const client = await clientOf(one.url, { name: 'chat', version: '1.2.3' }).connected()
  const [connection] = Array.from(one.app.realtime.connections)
  t.equal(client.id, connection!.id)
  t.equal(connection!.protocol, encoding)
  t.equal(connection!.user, '')
  t.match(client.events.connected, [{ client: connection!.id, transport }])
  t.equal(connection!.transport, transport)
  client.client.disconnect()
  await until(() => Array.from(one.app.realtime.connections).length === 0, 'it is gone')
})

for (const encoding of encodings) {
  t.test(`${encoding}: onConnect sees what the client sent and may answer, onDisconnect sees why it ended`, async (t) => {
    const seen: unknown[] = []
    const ends: Array<End & { meta: unknown }> = []
    const [one] = await startInstances(t, 1, {
      onConnect (connection, request, details) {
        seen.push([connection.protocol, request.url, details])
        connection.meta = { from: request.ip }
        return { data: { welcome: 'Grüße 👋', to: (details.data as { who?: string } | undefined)?.who } }
      },
      onDisconnect (connection, end) {
        ends.push({ ...end, meta: connection.meta })
      }
    })
    const client = await sdkClient(t, one!.url, encoding, { name: 'chat', version: '1.2.3', data: { who: 'Zoë\n' } }).connected()
    t.strictSame(seen, [[encoding, '/connection/websocket', { data: { who: 'Zoë\n' }, name: 'chat', version: '1.2.3' }]])
    t.strictSame(client.dec(client.events.connected[0]!.data), { welcome: 'Grüße 👋', to: 'Zoë\n' })

    const silent = await sdkClient(t, one!.url, encoding).connected()
    t.strictSame(silent.dec(silent.events.connected[0]!.data), { welcome: 'Grüße 👋' })
    t.strictSame(seen[1], [encoding, '/connection/websocket', { name: 'js' }])

    client.client.disconnect()
    await until(() => ends.length === 1, 'the end')
    t.match(ends, [{ cause: 'client', meta: { from: '127.0.0.1' } }])
  })

  t.test(`${encoding}: what onConnect returns besides data is not sent`, async (t) => {
    for (const answer of [undefined, null, true, 'text', { other: 1 }, { data: undefined }]) {
      const [one] = await startInstances(t, 1, { onConnect: () => answer })
      const client = await sdkClient(t, one!.url, encoding).connected()
      t.notOk(client.events.connected[0]!.data?.length ?? client.events.connected[0]!.data, JSON.stringify(answer))
    }
  })
}

everywhere('subscribers get what clients and the host publish, until they unsubscribe', { channels: { room } }, async (t, { encoding, clientOf, one, two }) => {
  const alice = await clientOf(as(one, 'alice', 'Alice')).connected()
  const bob = await clientOf(as(two, 'bob')).connected()
  const hers = await alice.subscribe('room:1').subscribed()
  const his = await bob.subscribe('room:1').subscribed()
  t.match(his.events.subscribed, [{ channel: 'room:1', recoverable: true, positioned: true, wasRecovering: false, recovered: false, streamPosition: { offset: 0 } }])

  const { epoch } = await two.app.realtime.publish('room:1', { from: 'host' })
  await alice.publish('room:1', { from: 'alice', text: 'line\nbreak "quoted" ünï 👋' })
  await hers.sub.publish(alice.enc(['through', 'the', 'subscription', null, 0, false]))
  await two.app.realtime.publish('room:1', 'text')
  await two.app.realtime.publish('room:1', Buffer.from([1, 2, 255]))
  await two.app.realtime.publish('room:1', 4, { tags: { kind: 'number' } })
  await Promise.all([hers.arrived(6), his.arrived(6)])

  t.equal(his.events.publication[0]!.info, undefined)
  t.strictSame(his.data, [
    { from: 'host' }, { from: 'alice', text: 'line\nbreak "quoted" ünï 👋' }, ['through', 'the', 'subscription', null, 0, false],
    'text', encoding === 'json' ? 'AQL/' : Buffer.from([1, 2, 255]), 4
  ])
  t.strictSame(hers.data, his.data)
  t.strictSame(his.offsets, [1, 2, 3, 4, 5, 6])
  const { connInfo, ...info } = his.events.publication[1]!.info!
  t.match(info, { client: alice.id, user: 'alice' })
  t.strictSame(alice.dec(connInfo), { name: 'Alice' })
  t.match(his.events.publication[5], { tags: { kind: 'number' } })
  t.equal((await one.app.realtime.history('room:1')).epoch, epoch)

  his.sub.unsubscribe()
  t.equal(bob.client.state, 'connected')
  const [connection] = Array.from(two.app.realtime.connections).filter(({ user }) => user === 'bob')
  await until(() => connection!.channels.size === 0, 'unsubscribed on the server')
  await alice.publish('room:1', 'after')
  await hers.arrived(7)
  // The SDK knows where it was.
  his.sub.subscribe()
  await his.subscribed(2)
  t.match(his.events.subscribed[1], { wasRecovering: true, recovered: true })
  await alice.publish('room:1', 'again')
  await his.arrived(8)
  t.strictSame(his.data.slice(6), ['after', 'again'])
  t.strictSame(his.offsets.slice(6), [7, 8])
})

everywhere('clients ask who is there, and what was published', { channels: { room, quiet: { subscribe: true, publish: true } }, onSubscribe: (connection, channel) => ({ info: { in: channel, as: connection.user } }) }, async (t, { clientOf, one, two }) => {
  const alice = await clientOf(as(one, 'alice', 'Alice')).connected()
  const bob = await clientOf(as(two, 'bob')).connected()
  const hers = await alice.subscribe('room:1').subscribed()
  await bob.subscribe('room:1').subscribed()

  const { clients } = await hers.sub.presence()
  t.strictSame(Object.keys(clients).sort(), [alice.id, bob.id].sort())
  t.match(clients[bob.id], { client: bob.id, user: 'bob' })
  t.strictSame(bob.dec(clients[alice.id]!.connInfo), { name: 'Alice' })
  t.strictSame(bob.dec(clients[bob.id]!.chanInfo), { in: 'room:1', as: 'bob' })
  t.strictSame(await hers.sub.presenceStats(), { numClients: 2, numUsers: 2 })
  t.strictSame(await two.app.realtime.presenceStats('room:1'), { clients: 2, users: 2 })
  t.match(await two.app.realtime.presence('room:1'), Object.values(clients).map(({ client, user }) => ({ client, user, channelInfo: { as: user } })))

  for (let i = 1; i <= 5; i++) await bob.publish('room:1', i)
  const data = (history: { publications: { data: unknown }[] }) => history.publications.map(({ data }) => alice.dec(data))
  const position = await hers.sub.history({})
  t.match(position, { offset: 5, publications: [] })
  t.strictSame(data(await hers.sub.history({ limit: -1 })), [1, 2, 3, 4, 5])
  t.strictSame(data(await hers.sub.history({ limit: 2 })), [1, 2])
  t.strictSame(data(await hers.sub.history({ limit: 10, since: { offset: 3, epoch: position.epoch } })), [4, 5])
  t.strictSame(data(await hers.sub.history({ limit: 10, since: { offset: 3, epoch: '' } })), [4, 5])
  t.strictSame(data(await hers.sub.history({ limit: 2, reverse: true })), [5, 4])
  t.strictSame(data(await hers.sub.history({ limit: 10, since: { offset: 3, epoch: position.epoch }, reverse: true })), [2, 1])
  t.match((await hers.sub.history({ limit: 1 })).publications, [{ offset: 1, info: { user: 'bob', client: bob.id } }])
  await t.rejects(hers.sub.history({ limit: 1, since: { offset: 3, epoch: 'other' } }), { code: 112 })
  await t.rejects(alice.client.history('room:1', { limit: 1, since: { offset: 0, epoch: '' }, reverse: true }), { code: 107 })

  const quiet = await alice.subscribe('quiet:1').subscribed()
  t.match(quiet.events.subscribed, [{ recoverable: false, positioned: false }])
  await t.rejects(quiet.sub.presence(), { code: 108 })
  await t.rejects(quiet.sub.presenceStats(), { code: 108 })
  await t.rejects(quiet.sub.history({ limit: 1 }), { code: 108 })
  await t.rejects(alice.client.presence('room:2'), { code: 103 })
  await t.rejects(alice.client.history('room:2', { limit: 1 }), { code: 103 })
  await t.rejects(alice.client.presenceStats('unknown:2'), { code: 102 })

  bob.client.disconnect()
  await until(async () => (await hers.sub.presenceStats()).numClients === 1, 'one is gone')
})

everywhere('who comes and who goes is told', { channels: { room, silent: { subscribe: true } }, onSubscribe: () => ({ info: 'a guest' }) }, async (t, { clientOf, one, two }) => {
  const alice = await clientOf(as(one, 'alice')).connected()
  const hers = await alice.subscribe('room:1').subscribed()
  const silent = await alice.subscribe('silent:1').subscribed()
  await until(() => hers.events.join.length === 1, 'her own join')
  const bob = await clientOf(as(two, 'bob', 'Bob')).connected()
  const his = await bob.subscribe('room:1').subscribed()
  await bob.subscribe('silent:1').subscribed()
  await until(() => hers.events.join.length === 2, 'his join')
  t.match(hers.events.join, [{ channel: 'room:1', info: { user: 'alice', client: alice.id } }, { channel: 'room:1', info: { user: 'bob', client: bob.id } }])
  t.strictSame(alice.dec(hers.events.join[1]!.info.connInfo), { name: 'Bob' })
  t.strictSame(alice.dec(hers.events.join[1]!.info.chanInfo), 'a guest')
  his.sub.unsubscribe()
  await until(() => hers.events.leave.length === 1, 'his leave')
  his.sub.subscribe()
  await until(() => hers.events.join.length === 3, 'he is back')
  bob.client.disconnect()
  await until(() => hers.events.leave.length === 2, 'his end')
  t.match(hers.events.leave, [{ info: { user: 'bob', client: bob.id } }, { info: { user: 'bob', client: bob.id } }])
  t.strictSame(alice.dec(hers.events.leave[1]!.info.chanInfo), 'a guest')
  t.strictSame([silent.events.join, silent.events.leave], [[], []])
})

everywhere('clients call methods', {
  onRpc (connection, method, data) {
    if (method === 'fail') throw new Error('a secret of the server')
    if (method === 'refuse') throw new ClientError(400, 'not today')
    if (method === 'refuse silently') throw new ClientError(1999, '')
    if (method === 'wrong code') throw Object.assign(new Error('a secret'), { code: 404 })
    if (method === 'nothing') return undefined
    if (method === 'unsendable') return 10n
    if (method === 'null') throw null // eslint-disable-line no-throw-literal
    return Promise.resolve({ method, data, user: connection.user })
  }
}, async (t, { clientOf, one }) => {
  const client = await clientOf(as(one, 'alice')).connected()
  t.strictSame(await client.rpc('sum', { a: [1, 2] }), { method: 'sum', data: { a: [1, 2] }, user: 'alice' })
  t.strictSame(await client.rpc('', 'text'), { method: '', data: 'text', user: 'alice' })
  t.notOk(((await client.client.rpc('nothing', client.enc(null))).data as Uint8Array | undefined)?.length)
  await t.rejects(client.rpc('refuse', 1), { code: 400, message: 'not today' })
  await t.rejects(client.rpc('refuse silently', 1), { code: 1999, message: 'error' })
  for (const method of ['fail', 'wrong code', 'null']) await t.rejects(client.rpc(method, 1), { code: 100, message: 'internal server error' }, method)
  await t.rejects(client.rpc('unsendable', 1), { code: 100 })
  t.equal(client.events.connected.length, 1)
})

everywhere('maps and shared polls are refused with error 108, and the connection goes on', { channels: { room: { subscribe: true } } }, async (t, { encoding, one }) => {
  const { client, events } = await sdkClient(t, one.url, encoding).connected()
  const subscriptions = [
    client.newMapSubscription('room:map'), client.newMapClientsSubscription('room:clients'), client.newMapUsersSubscription('room:users'),
    client.newSharedPollSubscription('room:poll')
  ]
  const ends = await Promise.all(subscriptions.map(subscription => new Promise((resolve) => {
    const { channel } = subscription as unknown as Subscription
    ;(subscription as unknown as Subscription).on('unsubscribed', ({ code, reason }) => resolve([channel, code, reason]))
    subscription.subscribe()
  })))
  t.strictSame(ends, subscriptions.map(({ channel }) => [channel, 108, 'not available']))
  t.equal(events.connected.length, 1)
})

t.test('without onRpc there are no methods', async (t) => {
  const [one] = await startInstances(t, 1)
  for (const encoding of encodings) await t.rejects(sdkClient(t, one!.url, encoding).rpc('any', 1), { code: 108 })
})

everywhere('client and host send each other messages', {
  onMessage (connection, data) { connection.send({ echo: data }) }
}, async (t, { encoding, clientOf, one }) => {
  const client = await clientOf(one.url).connected()
  for (const data of [{ a: 1 }, 'text', [1, null]]) await client.client.send(client.enc(data))
  await until(() => client.messages.length === 3, 'three answers')
  t.strictSame(client.messages, [{ echo: { a: 1 } }, { echo: 'text' }, { echo: [1, null] }])
  const [connection] = Array.from(one.app.realtime.connections)
  connection!.send(Buffer.from([255, 0]))
  connection!.send('text')
  await until(() => client.messages.length === 5, 'two more')
  t.strictSame(client.messages.slice(3), [encoding === 'json' ? '/wA=' : Buffer.from([255, 0]), 'text'])
})

t.test('bytes that are no JSON come to the host as they are', async (t) => {
  const got: unknown[] = []
  const [one] = await startInstances(t, 1, { onMessage: (_connection, data) => { got.push(data) } })
  const client = await sdkClient(t, one!.url, 'protobuf').connected()
  for (const bytes of [Buffer.from([0, 255, 1]), Buffer.from('{"broken'), Buffer.from('"text"')]) await client.client.send(bytes)
  await until(() => got.length === 3, 'three messages')
  t.strictSame(got, [Buffer.from([0, 255, 1]), Buffer.from('{"broken'), 'text'])
})

t.test('a message that nobody takes ends the connection for good', async (t) => {
  const [one] = await startInstances(t, 1)
  for (const encoding of encodings) {
    const client = await sdkClient(t, one!.url, encoding).connected()
    await client.client.send(client.enc('hello'))
    t.strictSame(await client.disconnected(), { code: 3508, reason: 'not available' })
  }
})

everywhere('onPublish may refuse, change and enrich what clients publish', {
  channels: { room },
  async onPublish (connection, channel, data) {
    const { do: what } = data as { do: string }
    if (what === 'refuse') return false
    if (what === 'throw') throw new Error('a secret')
    if (what === 'refuse with a code') throw new ClientError(451, 'mind your language')
    if (what === 'change') return { data: { changed: data, by: connection.user, channel } }
    if (what === 'enrich') return { tags: { checked: 'yes' } }
    if (what === 'once') return { idempotencyKey: 'the same' }
    if (what === 'fleeting') return { history: false }
    if (what === 'true') return true
  }
}, async (t, { clientOf, one, two }) => {
  const alice = await clientOf(as(one, 'alice')).connected()
  const { sub } = await alice.subscribe('room:1').subscribed()
  const his = await clientOf(as(two, 'bob')).subscribe('room:1').subscribed()
  const publish = (what: string) => sub.publish(alice.enc({ do: what }))
  await t.rejects(publish('refuse'), { code: 103 })
  await t.rejects(publish('throw'), { code: 100, message: 'internal server error' })
  await t.rejects(publish('refuse with a code'), { code: 451, message: 'mind your language' })
  for (const what of ['change', 'enrich', 'once', 'once', 'fleeting', 'true', 'nothing']) await publish(what)
  await his.arrived(6)
  t.strictSame(his.data, [
    { changed: { do: 'change' }, by: 'alice', channel: 'room:1' }, { do: 'enrich' }, { do: 'once' }, { do: 'fleeting' }, { do: 'true' }, { do: 'nothing' }
  ])
  t.match(his.events.publication.map(({ tags = {} }) => Object.entries(tags)), [[], [['checked', 'yes']], [], [], [], []])
  t.strictSame(his.offsets.map(offset => offset || 0), [1, 2, 3, 0, 4, 5])
  t.equal(his.events.publication[0]!.info!.user, 'alice')
})

everywhere('onSubscribe may refuse, and give data, info and an end', {
  channels: { room },
  async onSubscribe (connection, channel, { data }) {
    const { do: what } = (data ?? {}) as { do?: string }
    if (what === 'refuse') return false
    if (what === 'refuse with a code') throw new ClientError(1000, 'members only')
    if (what === 'give') return { data: { topic: 'cats', channel, user: connection.user }, info: { role: 'admin' } }
    if (what === 'too late') return { expiresAt: 1 }
    if (what === 'true') return true
  }
}, async (t, { clientOf, one, two }) => {
  const client = await clientOf(as(two, 'alice')).connected()
  t.strictSame(await client.subscribe('room:refuse', { data: { do: 'refuse' } }).unsubscribed(), { code: 103, reason: 'permission denied' })
  t.strictSame(await client.subscribe('room:code', { data: { do: 'refuse with a code' } }).unsubscribed(), { code: 1000, reason: 'members only' })
  t.strictSame(await client.subscribe('room:late', { data: { do: 'too late' } }).unsubscribed(), { code: 110, reason: 'expired' })
  await client.subscribe('room:true', { data: { do: 'true' } }).subscribed()
  await client.subscribe('room:nothing').subscribed()
  const given = await client.subscribe('room:give', { data: { do: 'give' } }).subscribed()
  t.strictSame(client.dec(given.events.subscribed[0]!.data), { topic: 'cats', channel: 'room:give', user: 'alice' })
  await client.publish('room:give', 1)
  await given.arrived(1)
  t.strictSame(client.dec(given.events.publication[0]!.info!.chanInfo), { role: 'admin' })
  t.match(await one.app.realtime.presence('room:give'), [{ user: 'alice', channelInfo: { role: 'admin' } }])
  t.strictSame(Array.from(two.app.realtime.connections, ({ channels }) => Array.from(channels)), [['room:true', 'room:nothing', 'room:give']])
})

everywhere('the rules of a namespace say who may subscribe and publish', {
  channels: {
    open: { subscribe: true, publish: true },
    closed: { subscribe: false },
    sync: { subscribe: ({ user }, channel) => channel === `sync:${user}`, publish: (_connection, _channel, data) => data === 'please' },
    async: { subscribe: async ({ user }, channel) => channel === `async:${user}`, publish: async (_connection, _channel, data) => data === 'please' },
    failing: { subscribe: async () => { throw new Error('a secret') }, publish: () => { throw new ClientError(500, 'no') } },
    read: { subscribe: true },
    '': { subscribe: true, publish: true }
  }
}, async (t, { clientOf, one, two }) => {
  const client = await clientOf(as(one, 'alice')).connected()
  for (const channel of ['open:1', 'sync:alice', 'async:alice', 'read:1', 'without']) {
    const subscription = await client.subscribe(channel).subscribed()
    await two.app.realtime.publish(channel, channel)
    t.strictSame((await subscription.arrived(1)).data, [channel])
  }
  for (const channel of ['closed:1', 'sync:bob', 'async:bob']) t.strictSame(await client.subscribe(channel).unsubscribed(), { code: 103, reason: 'permission denied' }, channel)
  t.strictSame(await client.subscribe('unknown:1').unsubscribed(), { code: 102, reason: 'unknown channel' })
  const failing = client.subscribe('failing:1')
  await until(() => failing.events.error.length > 1, 'it tries again')
  t.match(failing.events.error[0], { error: { code: 100, message: 'internal server error' } })
  failing.sub.unsubscribe()

  for (const channel of ['open:1', 'without']) await client.publish(channel, 1)
  for (const channel of ['sync:any', 'async:any']) {
    await client.publish(channel, 'please')
    await t.rejects(client.publish(channel, 'now'), { code: 103 }, channel)
  }
  for (const channel of ['read:1', 'closed:1']) await t.rejects(client.publish(channel, 1), { code: 103 }, channel)
  await t.rejects(client.publish('unknown:1', 1), { code: 102 })
  await t.rejects(client.publish('failing:1', 1), { code: 500, message: 'no' })
  t.equal(client.events.connected.length, 1)
})

everywhere('a channel with #user is for these users alone', { channels: { inbox: { ...room, token: false } } }, async (t, { clientOf, one, two }) => {
  const alice = await clientOf(as(one, 'alice')).connected()
  const bob = await clientOf(as(two, 'bob')).connected()
  const nobody = await clientOf(as(two, '')).connected()
  const hers = await alice.subscribe('inbox:#alice').subscribed()
  const both = await Promise.all([alice, bob].map(client => client.subscribe('inbox:dialog#alice,bob').subscribed()))
  for (const client of [bob, nobody]) {
    t.strictSame(await client.subscribe('inbox:#alice').unsubscribed(), { code: 103, reason: 'permission denied' })
    await t.rejects(client.publish('inbox:#alice', 'hello'), { code: 103 })
  }
  t.strictSame(await nobody.subscribe('inbox:#').unsubscribed(), { code: 103, reason: 'permission denied' })
  await alice.publish('inbox:#alice', 'note to self')
  await bob.publish('inbox:dialog#alice,bob', 'hi')
  await Promise.all([hers, ...both].map(subscription => subscription.arrived(1)))
  t.strictSame(hers.data, ['note to self'])
})

t.test('clients of every kind in one channel get the same', async (t) => {
  const options: Options = {
    channels: { room },
    onConnect: async connection => { if (connection.protocol === 'plain') await connection.subscribe('room:1') },
    onMessage () {}
  }
  for (const [n, store] of [[1, undefined], [2, redis]] as const) {
    const instances = await startInstances(t, n, options, store)
    const [one, two] = [instances[0]!, instances[n - 1]!]
    const plain = await connect(t, `${two.url}/ws`)
    await until(() => Array.from(two.app.realtime.connections).some(({ channels }) => channels.has('room:1')), 'the plain client is in')
    const json = await sdkClient(t, one.url, 'json').connected()
    const protobuf = await sdkClient(t, two.url, 'protobuf').connected()
    const ofJson = await json.subscribe('room:1').subscribed()
    const ofProtobuf = await protobuf.subscribe('room:1').subscribed()

    await json.publish('room:1', { by: 'json', n: [1.5, null] })
    await protobuf.publish('room:1', { by: 'protobuf', text: 'ü\n' })
    await json.publish('room:1', 'a text')
    await protobuf.client.publish('room:1', Buffer.from(' {"spaced": 1}\n'))
    await protobuf.client.publish('room:1', Buffer.from([9, 0, 255]))
    await one.app.realtime.publish('room:1', { by: 'host' })
    await Promise.all([ofJson.arrived(6), ofProtobuf.arrived(6)])

    t.strictSame(ofJson.data, [{ by: 'json', n: [1.5, null] }, { by: 'protobuf', text: 'ü\n' }, 'a text', { spaced: 1 }, 'CQD/', { by: 'host' }])
    t.strictSame(ofProtobuf.data, [...ofJson.data.slice(0, 4), Buffer.from([9, 0, 255]), { by: 'host' }])
    const frames = [await plain.next(), await plain.next(), await plain.next(), await plain.next(), await plain.next(), await plain.next()]
    t.strictSame(frames.map(frame => typeof frame === 'string' ? JSON.parse(frame) : frame), ofProtobuf.data)
  }
})

const secret = secretOf('of the tests')

everywhere('the host subscribes clients: at the connect', {
  channels: { room },
  token: { secret },
  authenticate: () => ({ user: 'alice', channels: ['room:identity'] }),
  async onConnect (connection) { await connection.subscribe('room:onConnect') }
}, async (t, { clientOf, one, two }) => {
  const byIdentity = await clientOf(one.url).connected()
  const token = await new SignJWT({ channels: ['room:token'] }).setSubject('bob').setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(secret))
  const byToken = await clientOf(one.url, { token }).connected()
  const channels = (client: typeof byToken) => client.events.subscribed.map(({ channel }) => channel)
  t.strictSame(channels(byIdentity), ['room:identity', 'room:onConnect'])
  t.strictSame(channels(byToken), ['room:token', 'room:onConnect'])
  t.match(byToken.events.subscribed, [
    { recoverable: true, positioned: true, wasRecovering: false, streamPosition: { offset: 0 } },
    { recoverable: true }
  ])
  for (const channel of ['room:identity', 'room:token', 'room:onConnect']) await two.app.realtime.publish(channel, { to: channel })
  await until(() => byIdentity.events.publication.length === 2 && byToken.events.publication.length === 2, 'two publications each')
  t.strictSame([byIdentity.data('room:identity'), byIdentity.data('room:onConnect')], [[{ to: 'room:identity' }], [{ to: 'room:onConnect' }]])
  t.strictSame([byToken.data('room:token'), byToken.data('room:onConnect')], [[{ to: 'room:token' }], [{ to: 'room:onConnect' }]])
  await until(() => byToken.events.join.length > 0, 'it is told that it has joined')
  t.strictSame(await byToken.subscribe('room:token').unsubscribed(), { code: 105, reason: 'already subscribed' })
  t.match(await two.app.realtime.presence('room:token'), [{ user: 'bob', client: byToken.id }])
})

everywhere('a subscribe by the app that is not done when connect is answered begins with a push', {
  channels: { room },
  authenticate: () => ({ user: 'alice' }),
  onConnect (connection) { connection.subscribe('room:late') }
}, async (t, { clientOf, one, two }) => {
  await two.app.realtime.publish('room:late', 'before')
  const client = await clientOf(one.url).connected()
  await until(() => client.events.join.length > 0, 'it is told that it has joined')
  await two.app.realtime.publish('room:late', 'after')
  await until(() => client.events.publication.length > 0, 'a publication')
  t.match(client.events.subscribed, [{ channel: 'room:late', recoverable: true, positioned: true, streamPosition: { offset: 1 } }])
  t.strictSame([client.events.subscribed.length, client.events.join.length], [1, 1])
  t.strictSame(client.data('room:late'), ['after'])
})

everywhere('the host subscribes and unsubscribes users, and disconnects them, from any instance', { channels: { room, events: {} } }, async (t, { clientOf, one, two }) => {
  const alice = await clientOf(as(one, 'alice')).connected()
  const other = await clientOf(as(two, 'alice')).connected()
  const bob = await clientOf(as(one, 'bob')).connected()
  await two.app.realtime.publish('room:1', 'before')
  await two.app.realtime.subscribe('alice', 'room:1')
  await two.app.realtime.subscribe('alice', 'events:1')
  for (const client of [alice, other]) await until(() => client.events.subscribed.length === 2, 'subscribed by the host')
  const subscribed = [...alice.events.subscribed].sort((a, b) => a.channel < b.channel ? -1 : 1)
  t.match(subscribed, [{ channel: 'events:1', recoverable: false }, { channel: 'room:1', recoverable: true, streamPosition: { offset: 1 } }])
  await two.app.realtime.publish('room:1', 'hello')
  await two.app.realtime.publish('events:1', 'event')
  for (const client of [alice, other]) {
    await until(() => client.events.publication.length === 2, 'both publications')
    t.strictSame([client.data('room:1'), client.data('events:1')], [['hello'], ['event']])
  }
  await until(() => alice.events.join.length > 0, 'joins are told')

  await two.app.realtime.unsubscribe('alice', 'room:1')
  for (const client of [alice, other]) await until(() => client.events.unsubscribed.length === 1, 'unsubscribed by the host')
  t.strictSame(await one.app.realtime.presence('room:1'), [])
  t.equal(bob.events.subscribed.length, 0)

  // A subscription of the client's own is ended by the host too.
  const hers = await alice.subscribe('room:2').subscribed()
  await two.app.realtime.unsubscribe('alice', 'room:2')
  t.strictSame(await hers.unsubscribed(), { code: 2000, reason: 'server unsubscribe' })
  await two.app.realtime.subscribe('alice', 'room:3')
  await until(() => alice.events.subscribed.length === 3, 'room:3')

  await two.app.realtime.disconnect({ client: alice.id }, { code: 4001, reason: 'come back' })
  await alice.connected(2)
  t.match(alice.events.connecting.at(-1), { code: 4001, reason: 'come back' })
  for (const reason of ['1', 'true', '{"reason":"no","reconnect":true}']) {
    await t.rejects(two.app.realtime.disconnect('alice', { code: 4500, reason }), { code: 'FST_CRWS_INVALID_ARGUMENT' }, 'the SDK would read it')
  }
  await two.app.realtime.disconnect({ client: bob.id }, { code: 4500, reason: '' })
  t.strictSame(await bob.disconnected(), { code: 4500, reason: 'closed by the server' })
  await two.app.realtime.disconnect('alice')
  t.strictSame(await alice.disconnected(), { code: 3503, reason: 'force disconnect' })
  t.strictSame(await other.disconnected(), { code: 3503, reason: 'force disconnect' })
})

everywhere('a client of which the host has subscribed it gets after a reconnect what it missed', {
  channels: { room }, onConnect: connection => connection.subscribe('room:1')
}, async (t, { clientOf, one, two }) => {
  const balancer = await startBalancer(t, [one.url, two.url])
  const client = await clientOf(balancer.url).connected()
  await two.app.realtime.publish('room:1', 1)
  await until(() => client.events.publication.length === 1, 'the first')
  balancer.targets = []
  balancer.cut()
  await until(() => client.client.state === 'connecting', 'it is cut')
  await two.app.realtime.publish('room:1', 2)
  await two.app.realtime.publish('room:1', 3)
  balancer.targets = [two.url, one.url]
  await client.connected(2)
  await two.app.realtime.publish('room:1', 4)
  await until(() => client.events.publication.length === 4, 'the others')
  t.strictSame(client.data('room:1'), [1, 2, 3, 4])
  t.match(client.events.subscribed[1], { wasRecovering: true, recovered: true })
})

for (const encoding of encodings) {
  t.test(`${encoding}: exceptions in handlers touch neither the process nor other clients`, async (t) => {
    let failing: string = ''
    const fail = (where: string) => { if (where === failing) throw new Error(`a secret in ${where}`) }
    const [one] = await startInstances(t, 1, {
      channels: { room: { subscribe: () => { fail('subscribe'); return true }, publish: () => { fail('publish'); return true } } },
      async onConnect () { fail('onConnect') },
      async onMessage () { fail('onMessage') },
      onDisconnect () { fail('onDisconnect') },
      async onSubscribe () { fail('onSubscribe') },
      onPublish () { fail('onPublish') },
      onRpc () { fail('onRpc') }
    })
    const bystander = await sdkClient(t, one!.url, encoding).connected()
    const watching = await bystander.subscribe('room:1').subscribed()

    for (const where of ['onConnect', 'onMessage', 'onDisconnect', 'subscribe', 'onSubscribe', 'publish', 'onPublish', 'onRpc']) {
      failing = where === 'onConnect' ? where : ''
      const client = sdkClient(t, one!.url, encoding)
      if (where === 'onConnect') {
        await until(() => client.events.error.length > 1, 'it tries again')
        t.match(client.events.error[0], { error: { code: 100, message: 'internal server error' } })
        failing = ''
      }
      await client.connected()
      failing = where
      if (where === 'onMessage') {
        await client.client.send(client.enc(1))
        failing = await client.connected(2).then(() => '')
        t.match(client.events.connecting.at(-1), { code: 3004, reason: 'internal server error' })
      } else if (where === 'subscribe' || where === 'onSubscribe') {
        const subscription = client.subscribe('room:1')
        await until(() => subscription.events.error.length > 0, 'its error')
        t.match(subscription.events.error[0], { error: { code: 100 } })
        failing = ''
        await subscription.subscribed()
      } else if (where === 'publish' || where === 'onPublish') {
        await t.rejects(client.publish('room:1', 1), { code: 100 })
      } else if (where === 'onRpc') {
        await t.rejects(client.rpc('any', 1), { code: 100 })
      }
      client.client.disconnect()
      await until(() => Array.from(one!.app.realtime.connections).length === 1, 'it is gone')
      failing = ''
      await bystander.publish('room:1', where)
    }
    await watching.arrived(8)
    t.equal(bystander.events.connected.length, 1)
  })

  t.test(`${encoding}: a quiet client stays connected by its pongs, one that is dead is dropped`, async (t) => {
    const ends: End[] = []
    const [one] = await startInstances(t, 1, {
      heartbeat: { interval: 400, timeout: 300 },
      onDisconnect: (_connection, end) => { ends.push(end) }
    })
    const client = await sdkClient(t, one!.url, encoding).connected()
    const [connection] = Array.from(one!.app.realtime.connections) as (Connection & { received: number })[]
    // Its connect, and then nothing but pongs.
    await until(() => connection!.received >= 5, 'four pongs', 30_000)
    t.equal(client.events.connected.length, 1)
    t.equal(client.client.state, 'connected')

    const transport = (client.client as unknown as { _transport: { _transport: { _socket: { pause (): void } } } })._transport
    transport._transport._socket.pause()
    await until(() => ends.length === 1, 'it is dropped', 30_000)
    t.match(ends, [{ code: 3012, cause: 'heartbeat' }])
  })

  t.test(`${encoding}: clients of an instance that closes come back on another`, async (t) => {
    const [one, two] = await startInstances(t, 2, { channels: { room } }, redis)
    const balancer = await startBalancer(t, [one!.url])
    const clients = await Promise.all(Array.from({ length: 5 }, () => sdkClient(t, balancer.url, encoding).connected()))
    const subscriptions = await Promise.all(clients.map(client => client.subscribe('room:1').subscribed()))
    balancer.targets = [two!.url]
    await one!.app.close()
    await Promise.all(clients.map(client => client.connected(2)))
    t.equal(Array.from(two!.app.realtime.connections).length, 5)
    t.match(clients.map(({ events }) => events.connecting.at(-1)), clients.map(() => ({ code: 3001, reason: 'shutdown' })))
    await two!.app.realtime.publish('room:1', 'on the other')
    await Promise.all(subscriptions.map(subscription => subscription.arrived(1)))
  })
}

everywhere('what the host takes back before the client has connected was never there', {
  channels: { room },
  async onConnect (connection) {
    await connection.subscribe('room:kept')
    await connection.subscribe('room:taken')
    await connection.unsubscribe('room:taken')
    if (connection.user === 'leaving') {
      connection.close()
      await connection.subscribe('room:late').catch(() => {})
    }
  }
}, async (t, { clientOf, one, two }) => {
  const client = await clientOf(as(one, 'alice')).connected()
  t.strictSame(client.events.subscribed.map(({ channel }) => channel), ['room:kept'])
  t.strictSame(await two.app.realtime.presence('room:taken'), [])
  await two.app.realtime.publish('room:taken', 1)
  await two.app.realtime.publish('room:kept', 2)
  await until(() => client.events.publication.length === 1, 'one publication')
  t.strictSame(client.data('room:kept'), [2])

  const leaving = clientOf(as(one, 'leaving'))
  t.strictSame(await leaving.disconnected(), { code: 3503, reason: 'force disconnect' })
  await until(async () => (await two.app.realtime.presence('room:kept')).length === 1, 'nothing is left of it')
  t.strictSame(await two.app.realtime.presence('room:late'), [])
})

everywhere('data of onSubscribe that can not be sent refuse the subscription, and leave nothing behind', {
  channels: { room }, onSubscribe: (_connection, channel) => channel === 'room:bad' ? { data: 10n } : undefined
}, async (t, { clientOf, one, two }) => {
  const client = await clientOf(one.url).connected()
  const bad = client.subscribe('room:bad')
  await until(() => bad.events.error.length > 0, 'its error')
  t.match(bad.events.error[0], { error: { code: 100 } })
  bad.sub.unsubscribe()
  await client.subscribe('room:good').subscribed()
  t.strictSame(Array.from(one.app.realtime.connections, ({ channels }) => Array.from(channels)), [['room:good']])
  t.strictSame(await two.app.realtime.presence('room:bad'), [])
})
