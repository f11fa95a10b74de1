import { SignJWT } from 'jose'
import type { JWTPayload } from 'jose'
import t from 'tap'
import type { Test } from 'tap'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { startRedis } from '../../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../../helpers/sdk.ts'
import type { Encoding, SdkClient } from '../../helpers/sdk.ts'
import { secretOf } from '../../helpers/secrets.ts'
import { nameOf, wireClient, wires } from '../../helpers/streams.ts'
import type { Wire } from '../../helpers/streams.ts'
import { until } from '../../helpers/until.ts'

t.setTimeout(120_000)
const redis = await startRedis(t)

const secret = secretOf('of the tests')
const later = () => Math.floor(Date.now() / 1_000) + 3_600
const base64 = (data: unknown) => Buffer.from(JSON.stringify(data)).toString('base64')

function sign (claims: object): Promise<string> {
  return new SignJWT(claims as JWTPayload).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(secret))
}

const room = { subscribe: true, publish: true, presence: true, joinLeave: true, history: { size: 10, ttl: '1m' } } as const
const options: Options = { fallback: true, token: { secret }, channels: { room, quiet: { subscribe: true } } }

function inBoth (name: string, run: (t: Test, encoding: Encoding) => Promise<void>): void {
  for (const encoding of encodings) t.test(`${encoding}: ${name}`, t => run(t, encoding))
}

function overEach (name: string, run: (t: Test, wire: Wire) => Promise<void>): void {
  for (const wire of wires) t.test(`${nameOf(wire)}: ${name}`, t => run(t, wire))
}

/** The data that came with each server-side subscription of the newest connection. */
function dataOf (client: SdkClient): Record<string, unknown> {
  const entries = client.events.subscribed.map(({ channel, data }) => [channel, data?.length === 0 ? undefined : client.dec(data)])
  return Object.fromEntries(entries)
}

overEach('the claim subs subscribes at once, with data for the client and info for the others, also on another instance', async (t, wire) => {
  const [one, two] = await startInstances(t, 2, options, redis)
  const subs = {
    'room:plain': {},
    'room:json': { info: { role: 'admin' }, data: { topic: 'cats' } },
    'room:bytes': { b64info: base64([1]), b64data: base64({ topic: 'dogs' }), somethingNew: true },
    'room:#alice': { info: null }
  }
  const token = await sign({ sub: 'alice', channels: ['room:plain', 'room:listed', 'room:json'], subs })
  const client = await wireClient(t, one!.url, wire, { token }, two!.url).connected()
  const [connection] = one!.app.realtime.connections
  t.strictSame(Array.from(connection!.channels).toSorted(), ['room:#alice', 'room:bytes', 'room:json', 'room:listed', 'room:plain'])
  t.strictSame(dataOf(client), {
    'room:plain': undefined, 'room:listed': undefined, 'room:json': { topic: 'cats' }, 'room:bytes': { topic: 'dogs' }, 'room:#alice': undefined
  })
  t.match(await two!.app.realtime.presence('room:json'), [{ user: 'alice', channelInfo: { role: 'admin' } }])
  t.match(await two!.app.realtime.presence('room:bytes'), [{ user: 'alice', channelInfo: [1] }])
  t.match(await two!.app.realtime.presence('room:listed'), [{ user: 'alice', channelInfo: undefined }])
  await two!.app.realtime.publish('room:json', 1)
  await until(() => client.data('room:json').length === 1, 'a publication')
  t.strictSame(client.data('room:json'), [1])
})

overEach('a subscription of the claim recovers when the client comes back, with its data again', async (t, wire) => {
  const { app, url } = await startApp(t, options)
  const token = await sign({ sub: 'alice', subs: { 'room:1': { data: 'welcome' } } })
  const client = await wireClient(t, url, wire, { token }).connected()
  await app.realtime.publish('room:1', 1)
  await until(() => client.data('room:1').length === 1, 'the first publication')
  client.client.disconnect()
  await app.realtime.publish('room:1', 2)
  client.client.connect()
  await client.connected(2)
  await until(() => client.data('room:1').length === 2, 'the second publication')
  t.strictSame(client.data('room:1'), [1, 2])
  t.match(client.events.subscribed[1], { wasRecovering: true, recovered: true })
  t.strictSame(client.events.subscribed.map(({ data }) => client.dec(data)), ['welcome', 'welcome'])
})

inBoth('override says who is listed, who is announced and who is told, in place of the rules', async (t, encoding) => {
  const { app, url } = await startApp(t, options)
  const on = { value: true }
  const off = { value: false }
  const watching = await sdkClient(t, url, encoding, { token: await sign({ sub: 'watcher', subs: { 'quiet:1': { override: { force_push_join_leave: on } } } }) }).connected()
  const watcher = await watching.subscribe('room:1').subscribed()
  const subs = {
    'room:1': { override: { presence: off, join_leave: off, force_push_join_leave: off, force_recovery: off, force_positioning: { value: true } } },
    'quiet:1': { override: { presence: on, join_leave: on, unknown: 1 } }
  }
  const client = await sdkClient(t, url, encoding, { token: await sign({ sub: 'alice', subs }) }).connected()
  await until(() => watching.events.join.length === 1, 'the join in the namespace that has none')
  t.match(watching.events.join, [{ channel: 'quiet:1', info: { user: 'alice' } }])
  t.match(await app.realtime.presence('quiet:1'), [{ user: 'alice' }])
  t.match(await app.realtime.presence('room:1'), [{ user: 'watcher' }])
  t.match(client.events.subscribed.find(({ channel }) => channel === 'room:1'), { recoverable: true, positioned: true }, 'history decides')

  const third = await sdkClient(t, url, encoding, { token: await sign({ sub: 'bob', subs: { 'room:1': {} } }) }).connected()
  await until(() => watcher.events.join.some(({ info }) => info.user === 'bob'), 'bob is announced')
  t.notOk(watcher.events.join.some(({ info }) => info.user === 'alice'))
  await app.realtime.publish('room:1', 1)
  await until(() => client.data('room:1').length === 1, 'a publication')
  t.strictSame(client.events.join, [], 'alice is not told')

  client.client.disconnect()
  third.client.disconnect()
  await until(() => watcher.events.leave.length === 1 && watching.events.leave.length === 1, 'both leaves')
  t.match([watcher.events.leave, watching.events.leave], [[{ info: { user: 'bob' } }], [{ info: { user: 'alice' } }]])
  await until(async () => (await app.realtime.presence('quiet:1')).length === 0, 'the list is empty')
})

inBoth('a subscription token has override, too', async (t, encoding) => {
  const { app, url } = await startApp(t, options)
  const client = await sdkClient(t, url, encoding, { token: await sign({ sub: 'alice' }) }).connected()
  const token = await sign({ sub: 'alice', channel: 'room:1', override: { presence: { value: false }, force_push_join_leave: { value: false } } })
  const hidden = await client.subscribe('room:1', { token }).subscribed()
  const other = await sdkClient(t, url, encoding, { token: await sign({ sub: 'bob' }) }).connected()
  const seen = await other.subscribe('room:1').subscribed()
  await until(() => seen.events.join.length === 1, 'its own join')
  await app.realtime.publish('room:1', 1)
  await hidden.arrived(1)
  t.strictSame(hidden.events.join, [])
  t.match(await app.realtime.presence('room:1'), [{ user: 'bob' }])
})

inBoth('a refresh that changes the channels of subs closes with 3010, whichever claim names them', async (t, encoding) => {
  const { url } = await startApp(t, options)
  const refreshedBy = async (first: object, second: object) => {
    const tokens = [await sign({ sub: 'alice', exp: later() - 3_598, ...first }), await sign({ sub: 'alice', exp: later(), ...second })]
    let calls = 0
    const client = await sdkClient(t, url, encoding, { getToken: async () => tokens[Math.min(calls++, 1)]! }).connected()
    await until(() => calls >= 2, 'the new token')
    return client
  }
  const [same, moved, more] = await Promise.all([
    refreshedBy({ subs: { 'room:a': { data: 1 } }, channels: ['room:b'] }, { subs: { 'room:b': {}, 'room:a': { data: 2 } } }),
    refreshedBy({ subs: { 'room:a': {} } }, { subs: { 'room:b': {} } }),
    refreshedBy({ channels: ['room:a'] }, { channels: ['room:a'], subs: { 'room:b': {} } })
  ])
  for (const client of [moved, more]) {
    await client.connected(2)
    t.match(client.events.connecting.at(-1), { code: 3010, reason: 'insufficient state' })
  }
  t.equal(same.events.connected.length, 1)
})

t.test('a claim subs of the wrong type refuses the token, and the log says what is wrong', async (t) => {
  const logs: any[] = []
  const stream = { write: (line: string) => { logs.push(JSON.parse(line)) } }
  const { url } = await startApp(t, options, { logger: { level: 'debug', stream } })
  const wrong: Array<[subs: unknown, reason: RegExp]> = [
    [['room:1'], /`subs` must be an object of subscriptions by channel/],
    ['room:1', /`subs` must be an object/],
    [null, /`subs` must be an object/],
    [{ 'room:1': true }, /`subs` of room:1 must be an object/],
    [{ 'room:1': { b64info: 1 } }, /`b64info` of room:1 must be JSON in base64/],
    [{ 'room:1': { b64data: base64(1).slice(1) } }, /`b64data` of room:1 must be JSON in base64/],
    [{ 'room:1': { override: [] } }, /`override` of room:1 must be an object/],
    [{ 'room:1': { override: { presence: true } } }, /`presence` in `override` of room:1 must be an object with a boolean `value`/],
    [{ 'room:1': { override: { join_leave: { value: 1 } } } }, /`join_leave` in `override` of room:1/],
    [{ 'room:1': { override: { force_recovery: 'yes' } } }, /`force_recovery` in `override` of room:1/]
  ]
  for (const [subs, reason] of wrong) {
    logs.length = 0
    t.strictSame(await sdkClient(t, url, 'json', { token: await sign({ sub: 'alice', subs }) }).disconnected(), { code: 3500, reason: 'invalid token' })
    t.match(logs.find(({ event }) => event === 'token.refused'), { reason }, JSON.stringify(subs))
  }
  const client = await sdkClient(t, url, 'json', { token: await sign({ sub: 'alice' }) }).connected()
  t.strictSame(await client.subscribe('room:1', { token: await sign({ sub: 'alice', channel: 'room:1', override: 1 }) }).unsubscribed(), { code: 103, reason: 'permission denied' })
})
