import { once } from 'node:events'
import t from 'tap'
import { describeError, reconnectDelay } from '../../../lib/backends/redis/client.ts'
import { StandaloneEndpoint } from '../../../lib/backends/redis/endpoint.ts'
import { RedisLink } from '../../../lib/backends/redis/link.ts'
import { range } from '../broker-contract.ts'
import { command, startRedis } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

t.test('reconnecting waits longer and longer, up to about a second, forever', async (t) => {
  for (const [retries, least] of [[0, 50], [1, 100], [2, 200], [3, 400], [4, 800], [5, 1_000], [50, 1_000], [1e9, 1_000]] as const) {
    for (const delay of range(1, 50).map(() => reconnectDelay(retries))) t.ok(delay >= least && delay < least + 100, `${delay} after ${retries}`)
  }
  t.ok(new Set(range(1, 50).map(() => reconnectDelay(0))).size > 1, 'not all at once')
})

t.test('an error is described by what it says, whatever it is', async (t) => {
  t.equal(describeError(new Error('what')), 'what')
  t.equal(describeError(new TypeError('')), 'TypeError')
  t.equal(describeError(new AggregateError([new Error('connect ECONNREFUSED ::1:6379'), new Error('other')])), 'connect ECONNREFUSED ::1:6379')
  t.equal(describeError(new AggregateError([new Error('inner')], 'outer')), 'outer')
  t.equal(describeError(new AggregateError([])), 'AggregateError')
  t.equal(describeError(new AggregateError(['text'])), 'AggregateError')
  t.equal(describeError('text'), 'text')
  t.equal(describeError(undefined), 'undefined')
})

t.test('a link says when it is there and when not, each once', async (t) => {
  const redis = await startRedis(t)
  const link = new RedisLink(new StandaloneEndpoint({ kind: 'standalone', options: { url: redis.url } }))
  const told: string[] = []
  t.equal(link.ready, false)
  t.equal(link.reason, 'not connected yet')
  link.open({ linkReady: it => { told.push(it === link ? 'ready' : 'who?') }, linkLost: it => { told.push(it === link ? 'lost' : 'who?') } })
  t.teardown(() => link.close())
  await until(() => link.ready, 'it is ready')
  await command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'normal'])
  await until(() => told.length === 3, 'it comes back', 30_000)
  await redis.kill()
  await until(() => !link.ready, 'it is lost', 30_000)
  await until(() => /ECONNREFUSED/.test(link.reason), 'it tries again', 30_000)
  await redis.restart()
  await until(() => link.ready, 'it comes back', 30_000)
  t.strictSame(told, ['ready', 'lost', 'ready', 'lost', 'ready'])
  await link.close()
  t.equal(link.ready, false)
  t.equal(link.client?.isOpen, false)
  await link.close()
  t.strictSame(told.length, 5, 'closing it is no loss')
})

t.test('a link can be closed before it was ever there', async (t) => {
  const redis = await startRedis(t)
  await redis.kill()
  const link = new RedisLink(new StandaloneEndpoint({ kind: 'standalone', options: { url: redis.url } }))
  await link.close()
  t.equal(link.client, undefined)
  const opened = new RedisLink(new StandaloneEndpoint({ kind: 'standalone', options: { url: redis.url } }))
  opened.open({ linkReady: () => {}, linkLost: () => {} })
  await opened.close()
  t.equal(opened.client?.isOpen, false)
})

t.test('a link that is closed while it connects does not come about', async (t) => {
  const redis = await startRedis(t)
  const told: string[] = []
  for (const frozen of [false, true]) {
    const link = new RedisLink(new StandaloneEndpoint({ kind: 'standalone', options: { url: redis.url, name: 'ours' } }))
    if (frozen) redis.freeze()
    link.open({ linkReady: () => told.push('ready'), linkLost: () => told.push('lost') })
    const connected = once(link.client!, 'connect')
    await link.close()
    await connected // by the kernel, even though nobody wants it any more
    if (frozen) redis.thaw()
    t.equal(link.client?.isOpen, false)
    await until(async () => !(await command(redis.port, ['CLIENT', 'LIST'])).includes('name=ours'), 'the server has no link to it', 30_000)
  }
  t.strictSame(told, [])
})
