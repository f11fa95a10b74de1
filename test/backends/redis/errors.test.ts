import Fastify from 'fastify'
import t from 'tap'
import cloudRunWebSocket from '../../../index.ts'
import { collectLog } from '../../helpers/log.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

t.test('an error of Redis that reaches an end user tells nothing about Redis, but its cause does', async (t) => {
  const redis = await startRedis(t)
  const { logger, entries } = collectLog()
  const app = Fastify({ logger })
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { redis: redis.url, keyPrefix: randomPrefix(), shutdown: { signals: false, timeout: 2_000 } })
  const causes: unknown[] = []
  app.setErrorHandler((error: Error, _request, reply) => {
    causes.push((error.cause as Error).message)
    reply.send(error)
  })
  app.post('/publish', () => app.realtime.publish('news', 'x'))
  const publish = async () => (await app.inject({ method: 'POST', url: '/publish' })).json()

  await command(redis.port, ['ACL', 'SETUSER', 'default', '-publish', '-@scripting'])
  t.strictSame(await publish(), {
    statusCode: 503, code: 'FST_CRWS_REDIS_REFUSED', error: 'Service Unavailable', message: 'Redis refused the command. The cause of this error says why'
  })
  const entry = await until(() => entries.find(({ event }) => event === 'call.failed'), 'the entry')
  t.match(entry, { err: { code: 'FST_CRWS_REDIS_REFUSED', message: /NOPERM/ } })
  await command(redis.port, ['ACL', 'SETUSER', 'default', '+@all'])

  await command(redis.port, ['CLIENT', 'PAUSE', '4000', 'ALL'])
  t.strictSame(await publish(), {
    statusCode: 503,
    code: 'FST_CRWS_REDIS_NO_ANSWER',
    error: 'Service Unavailable',
    message: 'Redis did not answer. Whether the command took effect is unknown; try again with the same idempotencyKey'
  })

  await redis.kill()
  // The pause may have been noticed before, so an attempt may still find the connection that breaks now.
  const down = await until(async () => {
    const answer = await publish()
    return answer.code === 'FST_CRWS_REDIS_UNAVAILABLE' ? answer : undefined
  }, 'it is noticed')
  t.strictSame(down, {
    statusCode: 503, code: 'FST_CRWS_REDIS_UNAVAILABLE', error: 'Service Unavailable', message: 'Redis is down. Nothing was stored; try again'
  })
  t.match(causes.slice(0, 2), [/NOPERM/, /no reply within 2000 ms/])
  t.match(causes.at(-1), /ECONN|closed|no reply/i)
})

t.test('an entry says that Redis requires a password or refused it, and not that it is down', async (t) => {
  const redis = await startRedis(t)
  await command(redis.port, ['ACL', 'SETUSER', 'default', 'resetpass', '>right'])
  for (const [url, said, reason] of [
    [redis.url, 'Redis requires a password, and none is set', 'NOAUTH'], [redis.url.replace('//', '//:wrong@'), 'Redis refused the password', 'WRONGPASS']
  ] as const) {
    const { logger, entries } = collectLog()
    const app = Fastify({ logger })
    t.teardown(() => app.close())
    await app.register(cloudRunWebSocket, { redis: url, keyPrefix: randomPrefix(), shutdown: { signals: false, timeout: 2_000 } })
    const entry = await until(() => entries.find(({ event }) => event === 'bridge.down'), 'the entry')
    t.match(entry, { level: 50, reason: new RegExp(reason), msg: new RegExp(`^${said}: ${reason} .*[^.]\\. Connections stay open`) })
  }
})
