import t from 'tap'
import { createClient } from 'redis'
import type { Connection } from '../../index.ts'
import { RedisKeys } from '../../lib/backends/redis/keys.ts'
import { startApp } from '../helpers/app.ts'
import type { App } from '../helpers/app.ts'
import { startBalancer } from '../helpers/balancer.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { encodings, sdkClient, startInstances } from '../helpers/sdk.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'
import type { Client } from '../helpers/ws-client.ts'

t.setTimeout(120_000)
const redis = await startRedis(t)

const authenticate = ({ headers }: { headers: Record<string, unknown> }) => ({ user: String(headers['x-user'] ?? '') })
const as = (user: string) => ({ headers: { 'x-user': user } })

/** The id of the newest connection of this user, on whichever of the instances. */
function idOf (instances: App[], user: string): string {
  const connections = instances.flatMap(({ app }) => Array.from(app.realtime.connections))
  return connections.findLast(connection => connection.user === user)!.id
}

/** Everything that a plain client has got, once it has got the last message of the test. */
async function all (client: Client, last: string): Promise<unknown[]> {
  await until(() => client.messages.includes(last), `the message ${last}`)
  return client.messages
}

for (const [where, n, store] of [['in memory', 1, undefined], ['across two instances', 2, redis]] as const) {
  t.test(`${where}: a message goes to a user, to one connection, or to everybody`, async (t) => {
    const instances = await startInstances(t, n, { authenticate }, store)
    const [one, two] = [instances[0]!, instances[n - 1]!]
    const ann1 = await connect(t, `${one.url}/ws`, as('ann'))
    const ann2 = await connect(t, `${two.url}/ws`, as('ann'))
    const bob = await connect(t, `${two.url}/ws`, as('bob'))
    const nobody = await connect(t, `${two.url}/ws`)
    await until(() => instances.flatMap(({ app }) => [...app.realtime.connections]).length === 4, 'all are connected')
    const { realtime } = one.app
    const bytes = Buffer.from([0, 255, 10])
    await realtime.send('ann', { to: 'ann' })
    await realtime.send({ user: 'ann' }, 'text')
    await realtime.send({ client: idOf(instances, 'bob') }, 'to bob')
    await realtime.send({ client: 'none' }, 'to nobody')
    await realtime.send('carl', 'to nobody')
    await realtime.send({ everybody: true }, bytes)
    await realtime.send({ everybody: true }, 'last')
    t.strictSame(await all(ann1, 'last'), ['{"to":"ann"}', 'text', bytes, 'last'])
    t.strictSame(await all(ann2, 'last'), ['{"to":"ann"}', 'text', bytes, 'last'])
    t.strictSame(await all(bob, 'last'), ['to bob', bytes, 'last'])
    t.strictSame(await all(nobody, 'last'), [bytes, 'last'])
  })

  for (const encoding of encodings) {
    t.test(`${encoding}, ${where}: an SDK gets it as a message, not before it is connected`, async (t) => {
      const connecting: Array<() => void> = []
      const instances = await startInstances(t, n, {
        authenticate: () => ({ user: 'ann' }),
        onConnect: ({ protocol }) => protocol === 'plain' ? undefined : new Promise<void>(resolve => { connecting.push(resolve) })
      }, store)
      const [one, two] = [instances[0]!, instances[n - 1]!]
      const witness = await connect(t, `${two.url}/ws`)
      const client = sdkClient(t, two.url, encoding)
      await until(() => connecting.length === 1, 'it connects')
      await one.app.realtime.send('ann', { number: 12345678901234 })
      const [{ id }] = Array.from(two.app.realtime.connections).filter(({ protocol }) => protocol === encoding) as [Connection]
      await one.app.realtime.send({ client: id }, ['list'])
      await one.app.realtime.send({ everybody: true }, 'last')
      await all(witness, 'last')
      t.strictSame(client.messages, [])
      connecting[0]!()
      await client.connected()
      await until(() => client.messages.length >= 3, 'three messages')
      t.strictSame(client.messages, [{ number: 12345678901234 }, ['list'], 'last'])
    })
  }
}

t.test('a message before a disconnect arrives before it', async (t) => {
  const [one, two] = await startInstances(t, 2, { authenticate }, redis)
  const client = await connect(t, `${two!.url}/ws`, as('ann'))
  await Promise.all([one!.app.realtime.send('ann', 'goodbye'), one!.app.realtime.disconnect('ann', { code: 4000, reason: 'test' })])
  t.match(await client.closed, { code: 4000 })
  t.strictSame(client.messages, ['goodbye'])
})

t.test('an instance without Redis sends it when Redis is back, once to each connection', async (t) => {
  const link = await startBalancer(t, [redis.url])
  const options = { keyPrefix: randomPrefix(), authenticate }
  const one = await startApp(t, { ...options, redis: redis.url })
  const two = await startApp(t, { ...options, redis: link.url.replace('ws:', 'redis:') })
  const [here, there] = [await connect(t, `${one.url}/ws`, as('ann')), await connect(t, `${two.url}/ws`, as('ann'))]
  const up = async () => (await two.app.inject('/ready')).json().redis === 'up'
  await one.app.realtime.send('ann', 'before')
  await all(there, 'before')
  link.targets = []
  link.cut()
  await until(async () => !await up(), 'it has no Redis')
  for (const i of [1, 2, 3]) await one.app.realtime.send('ann', `meanwhile ${i}`)
  await all(here, 'meanwhile 3')
  t.strictSame(there.messages, ['before'])
  await t.rejects(two.app.realtime.send('ann', 'never'), { code: 'FST_CRWS_REDIS_UNAVAILABLE' })
  link.targets = [redis.url]
  await until(up, 'it has Redis again', 30_000)
  await one.app.realtime.send('ann', 'after')
  for (const client of [here, there]) t.strictSame(await all(client, 'after'), ['before', 'meanwhile 1', 'meanwhile 2', 'meanwhile 3', 'after'])
})

t.test('a wrong target, data that JSON cannot carry and data that is too large are refused', async (t) => {
  const { app: { realtime } } = await startApp(t, { redis: false })
  const target = { code: 'FST_CRWS_INVALID_ARGUMENT', message: /a user, \{ user \}, \{ client \} or \{ everybody: true \}/ }
  for (const wrong of [undefined, null, 5, {}, { usr: 'ann' }, { everybody: false }, { everybody: 1 }, { everybody: true, user: 'ann' }]) {
    await t.rejects(realtime.send(wrong as never, 'x'), target, JSON.stringify(wrong))
  }
  await t.rejects(realtime.send({} as never, 'x'), { message: 'Invalid target: got {}, expected a user, { user }, { client } or { everybody: true }' })
  await t.rejects(realtime.disconnect({} as never), { message: 'Invalid target: got {}, expected a user, { user } or { client }' })
  for (const [wrong, message] of [
    ['', /^Invalid user: got ''/], [{ user: '' }, /^Invalid user: got ''/], [{ client: 7 }, /^Invalid client: got 7/], [{ client: '' }, /^Invalid client/]
  ] as const) {
    await t.rejects(realtime.send(wrong as never, 'x'), { code: 'FST_CRWS_INVALID_ARGUMENT', message }, JSON.stringify(wrong))
  }
  await t.rejects(realtime.send('ann', undefined), { code: 'FST_CRWS_INVALID_DATA' })
  await realtime.send('ann', 'x'.repeat(65_536))
  await realtime.send('ann', Buffer.alloc(65_536))
  for (const large of ['x'.repeat(65_537), Buffer.alloc(65_537), { text: 'ž'.repeat(32_768) }]) {
    await t.rejects(realtime.send({ everybody: true }, large), { code: 'FST_CRWS_MESSAGE_TOO_LARGE', statusCode: 413, message: /at most 65536 are allowed.*channel/ })
  }
})

t.test('a message by somebody else on Redis is logged, and harms nobody', async (t) => {
  const { logger, entries } = collectLog()
  const keyPrefix = randomPrefix()
  const { app, url } = await startApp(t, { redis: redis.url, keyPrefix }, { logger })
  const client = await connect(t, `${url}/ws`)
  await forge(keyPrefix, [
    { type: 'message', everybody: true, kind: 'json', data: '{' },
    { type: 'message', everybody: true, kind: 'json' },
    { type: 'message', everybody: true, kind: 'join', data: '{}' },
    { type: 'message', everybody: true, data: 'x' },
    { type: 'message', user: { a: 1 }, kind: 'text', data: 'x' },
    { type: 'a kind of tomorrow', data: 'secret'.repeat(10_000) }
  ])
  await app.realtime.send({ everybody: true }, 'after')
  t.strictSame(await all(client, 'after'), ['after'])
  const failed = entries.filter(({ event }) => event === 'control.failed')
  t.match(failed.map(({ level }) => level), [40, 40, 40], 'one entry for each cause, of which there are three')
  t.equal(failed.at(-1)!.command.length, 500)
})

/** Publishes commands as another program could. */
async function forge (keyPrefix: string, commands: object[]): Promise<void> {
  const client = await createClient({ url: redis.url }).connect()
  const channel = new RedisKeys(keyPrefix).pubsub('\u0000control')
  for (const command of commands) await client.publish(channel, `0  j 1 forged 0\n${JSON.stringify(command)}`)
  client.destroy()
}
