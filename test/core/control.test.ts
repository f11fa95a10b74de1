import t from 'tap'
import type { Test } from 'tap'
import { createBackend } from '../../lib/backends/backend.ts'
import { Control } from '../../lib/core/control.ts'
import type { Broker } from '../../lib/model/broker.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { startApp } from '../helpers/app.ts'
import { startCore } from '../helpers/core.ts'
import { collectLog } from '../helpers/log.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis, startRedisCluster } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'

t.setTimeout(120_000)

/** Why an instance is not ready though Redis is up: what the log says, and how often it said it. */
async function refusal (t: Test, url: string) {
  const { logger, entries } = collectLog()
  const { app } = await startApp(t, { redis: url, keyPrefix: randomPrefix() }, { logger })
  const refusals = () => entries.filter(({ event }) => event === 'redis.refused')
  const entry = await until(() => refusals()[0]!, 'the log says why', 30_000)
  const ready = await app.inject('/ready')
  t.equal(ready.statusCode, 503)
  t.match(ready.json(), { reasons: ['redis'], redis: 'up' })
  t.equal(refusals().length, 1)
  return entry
}

t.test('a Redis that is full, and must not evict, is named in the log: the instance would not be ready without a reason', async (t) => {
  const redis = await startRedis(t, { args: ['--maxmemory', '1', '--maxmemory-policy', 'noeviction'] })
  t.match(await refusal(t, redis.url), { level: 50, reason: /^OOM/, msg: /^Redis is up and refuses commands: OOM .*give it more memory.*This instance is not ready$/ })
})

t.test('an instance that tried several times until it could listen carries everything out once', async (t) => {
  const redis = await startRedis(t, { args: ['--maxmemory', '1', '--maxmemory-policy', 'noeviction'] })
  const keyPrefix = randomPrefix()
  const { app } = await startApp(t, { redis: redis.url, keyPrefix })
  const info = (section: string) => command(redis.port, ['INFO', section])
  const count = async (section: string, name: RegExp) => Number(name.exec(await info(section))?.[1] ?? 0)
  await until(async () => await count('errorstats', /errorstat_OOM:count=(\d+)/) >= 5, 'it has tried', 60_000)
  await command(redis.port, ['CONFIG', 'SET', 'maxmemory', '0'])
  await until(async () => (await app.inject('/ready')).statusCode === 200, 'it listens', 30_000)

  const asking = await startCore(t, { redis: redis.url, keyPrefix })
  asking.core.survey.answer({ name: 'unknown elsewhere' }, () => 1)
  await until(async () => (await asking.core.registry.list()).length === 2, 'it is in the registry', 30_000)
  await command(redis.port, ['CONFIG', 'RESETSTAT'])
  t.equal((await asking.core.survey.ask({ name: 'unknown elsewhere' }, null)).missing.length, 1)
  t.equal(await count('commandstats', /cmdstat_publish:calls=(\d+)/), 2, 'one question, one answer')
})

t.test('commands come once, though the subscribe to the questions failed at first', async (t) => {
  const redis = await startRedis(t)
  const options = { redis: redis.url, keyPrefix: randomPrefix() }
  const { core: { connections } } = await startCore(t, options)
  const { broker } = createBackend(resolveOptions(options, {}))
  t.teardown(() => broker.close())
  await broker.start({ stateChanged: () => {}, missed: () => {} })
  let refuses = true
  const refusing: Broker = {
    up: true,
    start: listener => broker.start(listener),
    publish: (...args) => broker.publish(...args),
    history: (...args) => broker.history(...args),
    removeHistory: channel => broker.removeHistory(channel),
    close: () => broker.close(),
    unsubscribe: channel => broker.unsubscribe(channel),
    async subscribe (...args) {
      if (refuses && args[0] === '\u0000questions') throw new Error('the link is gone')
      return broker.subscribe(...args)
    }
  }
  const control = new Control('other', refusing, connections, connections.observer)
  const carried: unknown[] = []
  control.carry('stopStream', ({ channel }) => carried.push(channel))
  for (let i = 0; i < 2; i++) await t.rejects(control.listen(), { message: 'the link is gone' })
  t.notOk(control.listens)
  refuses = false
  await control.listen()
  for (const channel of ['1', '2', 'last']) await control.send({ type: 'stopStream', channel, at: 0 })
  await until(() => carried.includes('last'), 'the last command')
  t.strictSame(carried, ['1', '2', 'last'])
})

t.test('a cluster that is taken for one server is named in the log', async (t) => {
  const { nodes } = await startRedisCluster(t)
  const entries = await Promise.all(nodes.map(({ url }) => firstRefusal(t, url)))
  const moved = entries.filter(entry => entry !== undefined)
  t.ok(moved.length >= 2, 'one of the three may have the slot of the commands')
  for (const entry of moved) t.match(entry, { reason: /^MOVED/, msg: /REDIS_CLUSTER=true/ })
})

/** undefined if the instance is ready. */
async function firstRefusal (t: Test, url: string) {
  const { logger, entries } = collectLog()
  const { app } = await startApp(t, { redis: url, keyPrefix: randomPrefix() }, { logger })
  const refused = () => entries.find(({ event }) => event === 'redis.refused')
  const ready = async () => (await app.inject('/ready')).statusCode === 200
  await until(async () => refused() !== undefined || await ready(), 'it is ready, or says why not', 30_000)
  return refused()
}
