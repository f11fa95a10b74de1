import { SignJWT } from 'jose'
import type { JWTPayload } from 'jose'
import t from 'tap'
import type { Options } from '../../../index.ts'
import { startApp } from '../../helpers/app.ts'
import { events } from '../../helpers/event-source.ts'
import type { EventClient } from '../../helpers/event-source.ts'
import { startRedis } from '../../helpers/redis.ts'
import { startInstances } from '../../helpers/sdk.ts'
import { secretOf } from '../../helpers/secrets.ts'
import { until } from '../../helpers/until.ts'

const secret = secretOf('of the tests')
const base64 = (data: unknown) => Buffer.from(JSON.stringify(data)).toString('base64')

function sign (claims: object): Promise<string> {
  return new SignJWT(claims as JWTPayload).setProtectedHeader({ alg: 'HS256' }).sign(Buffer.from(secret))
}

const room = { subscribe: true, presence: true, joinLeave: true, history: { size: 10, ttl: '1m' } } as const
const options: Options = {
  fallback: true,
  token: { secret },
  channels: { room, quiet: { subscribe: true }, report: { token: true, history: { size: 10, ttl: '1m' } } }
}

const bearer = async (claims: object) => ({ headers: { authorization: `Bearer ${await sign(claims)}` } })

/** Who has joined and left, as the client was told. */
function comings (client: EventClient): string[] {
  return client.events.flatMap(({ data: { channel, join, leave } }) => {
    return join === undefined && leave === undefined ? [] : [`${join === undefined ? 'leave' : 'join'} ${(join ?? leave).user} ${channel}`]
  })
}

t.test('the claim subs subscribes at once, with data for the client and info for the others', async (t) => {
  const { app, url } = await startApp(t, options)
  const subs = {
    'room:plain': {},
    'room:json': { info: { role: 'admin' }, data: { topic: 'cats' } },
    'room:bytes': { b64info: base64([1]), b64data: base64(null) },
    'room:#alice': { info: null }
  }
  const claims = { sub: 'alice', channels: ['room:plain', 'room:listed', 'room:json'], subs }
  const client = await events(t, url, ['quiet:1', 'room:json'], await bearer(claims))
  const { data: { channels } } = await client.event(0)
  t.strictSame(Object.keys(channels).toSorted(), ['quiet:1', 'room:#alice', 'room:bytes', 'room:json', 'room:listed', 'room:plain'])
  t.match(channels, { 'room:json': { offset: 0, epoch: /./, data: { topic: 'cats' } }, 'room:bytes': { data: null } })
  for (const channel of ['quiet:1', 'room:#alice', 'room:listed', 'room:plain']) t.notOk('data' in channels[channel], channel)
  t.match(await app.realtime.presence('room:json'), [{ user: 'alice', channelInfo: { role: 'admin' } }])
  t.match(await app.realtime.presence('room:bytes'), [{ user: 'alice', channelInfo: [1] }])
  t.match(await app.realtime.presence('room:listed'), [{ user: 'alice', channelInfo: undefined }])
  await app.realtime.publish('room:json', 1)
  await until(() => client.data('room:json').length === 1, 'the publication, once')
  t.strictSame(client.data(), [1])
})

t.test('override says who is listed, who is announced and who is told, in place of the rules', async (t) => {
  const { app, url } = await startApp(t, options)
  const on = { value: true }
  const off = { value: false }
  const watcher = await events(t, url, ['room:1'], await bearer({ sub: 'watcher', subs: { 'quiet:1': { override: { force_push_join_leave: on } } } }))
  const subs = {
    'room:1': { override: { presence: off, join_leave: off, force_push_join_leave: off, force_recovery: off } },
    'quiet:1': { override: { presence: on, join_leave: on } }
  }
  const alice = await events(t, url, [], await bearer({ sub: 'alice', subs }))
  await until(() => comings(watcher).includes('join alice quiet:1'), 'the join in the namespace that has none')
  t.match(await app.realtime.presence('quiet:1'), [{ user: 'alice' }])
  t.match(await app.realtime.presence('room:1'), [{ user: 'watcher' }])
  const bob = await events(t, url, [], await bearer({ sub: 'bob', subs: { 'room:1': {} } }))
  await until(() => comings(watcher).includes('join bob room:1'), 'bob is announced')
  await app.realtime.publish('room:1', 1)
  await until(() => alice.data('room:1').length === 1, 'the publication')
  t.strictSame(comings(alice), [], 'alice is not told')
  alice.close()
  bob.close()
  await until(() => comings(watcher).filter(one => one.startsWith('leave')).length === 2, 'both leaves')
  t.strictSame(comings(watcher).toSorted(), [
    'join alice quiet:1', 'join bob room:1', 'join watcher room:1', 'leave alice quiet:1', 'leave bob room:1'
  ])
  await until(async () => (await app.realtime.presence('quiet:1')).length === 0, 'the list is empty')
})

t.test('a namespace that wants tokens is open for the channels of the connection token', async (t) => {
  const { app, url } = await startApp(t, options)
  for (const claims of [{ subs: { 'report:1': { data: 'welcome' } } }, { channels: ['report:1'] }]) {
    for (const asked of [[], ['report:1']]) {
      const client = await events(t, url, asked, await bearer({ sub: 'alice', ...claims }))
      t.match((await client.event(0)).data.channels, { 'report:1': 'subs' in claims ? { data: 'welcome' } : {} })
      await app.realtime.publish('report:1', 1)
      await client.event(1)
      t.strictSame(client.data(), [1])
      t.match(await events(t, url, ['report:2'], await bearer({ sub: 'alice', ...claims })), { status: 403, body: { message: /report:2 .*\(103\)/ } })
    }
  }
})

t.test('a token that is over, or whose subs are of the wrong type, gets 401', async (t) => {
  const { url } = await startApp(t, options)
  for (const [claims, message] of [
    [{ subs: ['room:1'] }, 'invalid token'],
    [{ subs: { 'room:1': { b64data: 1 } } }, 'invalid token'],
    [{ expire_at: 1 }, 'token expired'],
    [{ exp: Math.floor(Date.now() / 1_000) + 60, expire_at: 1 }, 'token expired']
  ] as const) {
    t.match(await events(t, url, ['room:1'], await bearer(claims)), { status: 401, body: { code: 'FST_CRWS_UNAUTHORIZED', message } })
  }
})

t.test('the channels of subs recover on another instance, with their data again', async (t) => {
  const [one, two] = await startInstances(t, 2, options, await startRedis(t))
  const login = await bearer({ sub: 'alice', subs: { 'room:1': { data: 'welcome', info: 'a' }, 'report:1': {} } })
  const first = await events(t, one!.url, ['quiet:1'], login)
  await first.event(0)
  await two!.app.realtime.publish('room:1', 1)
  await until(() => first.data().length === 1, 'the first publication')
  t.match(await two!.app.realtime.presence('room:1'), [{ user: 'alice', channelInfo: 'a' }])
  first.close()
  await one!.app.realtime.publish('report:1', 2)
  await one!.app.realtime.publish('room:1', 3)
  const again = await events(t, two!.url, ['quiet:1'], { ...login, lastEventId: first.lastEventId })
  await until(() => again.data().length === 2, 'what it has missed')
  t.match(again.events[0]!.data.channels, { 'room:1': { recovered: true, data: 'welcome' }, 'report:1': { recovered: true } })
  t.strictSame([again.data('report:1'), again.data('room:1')], [[2], [3]])
})
