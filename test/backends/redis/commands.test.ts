import { createClient } from 'redis'
import t from 'tap'
import type { Test } from 'tap'
import { ClusterCommands } from '../../../lib/backends/redis/cluster-commands.ts'
import { StandaloneCommands } from '../../../lib/backends/redis/commands.ts'
import { StandaloneEndpoint } from '../../../lib/backends/redis/endpoint.ts'
import { RedisKeys } from '../../../lib/backends/redis/keys.ts'
import { runScript } from '../../../lib/backends/redis/script-runner.ts'
import type { RedisCommands } from '../../../lib/backends/redis/commands.ts'
import { countInWindow } from '../../../lib/backends/redis/scripts.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command, startRedis, startRedisCluster } from '../../helpers/redis.ts'
import { until } from '../../helpers/until.ts'

const keys = new RedisKeys(randomPrefix())
type Source = ConstructorParameters<typeof StandaloneEndpoint>[0]
const standalone = (source: Source) => new StandaloneCommands(new StandaloneEndpoint(source), keys, () => {})

async function open (t: Test, commands: RedisCommands): Promise<void> {
  t.teardown(() => commands.close())
  await new Promise<void>((resolve) => commands.open(resolve))
}

t.test('on one server', async (t) => {
  const redis = await startRedis(t)
  const commands = standalone({ kind: 'standalone', options: { url: redis.url } })
  t.equal(commands.ready, false)
  await t.rejects(commands.send('key', ['PING']), { code: 'FST_CRWS_REDIS_UNAVAILABLE', cause: { message: /not connected yet/ } })
  await open(t, commands)
  testCommands(t, commands)

  t.test('a link that is cut fails what waits for an answer, with a code that says it may have happened', async (t) => {
    const key = randomPrefix()
    // The server answers nobody else while it waits for the end of this one.
    const waiting = commands.send(key, ['BLPOP', key, '0'])
    await until(async () => (await command(redis.port, ['CLIENT', 'LIST'])).includes('cmd=blpop'), 'it waits')
    await Promise.all([
      t.rejects(waiting, { code: 'FST_CRWS_REDIS_NO_ANSWER' }),
      command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'normal'])
    ])
    await until(() => commands.ready, 'it is back', 30_000)
  })

  t.test('after closing there is nothing to send to', async (t) => {
    await commands.close()
    await t.rejects(commands.send('key', ['PING']), { code: 'FST_CRWS_REDIS_UNAVAILABLE' })
  })
})

t.test('on a cluster', async (t) => {
  const { nodes, rootNodes } = await startRedisCluster(t)
  const commands = new ClusterCommands({ kind: 'cluster', options: { rootNodes } }, keys)
  t.equal(commands.ready, false)
  await t.rejects(commands.send('key', ['PING']), { code: 'FST_CRWS_REDIS_UNAVAILABLE', cause: { message: /not connected yet/ } })
  await t.rejects(commands.owner('key'), { code: 'FST_CRWS_REDIS_UNAVAILABLE' })
  await open(t, commands)
  testCommands(t, commands)

  t.test('closed while it connects, it leaves no link behind', async (t) => {
    const early = new ClusterCommands({ kind: 'cluster', options: { rootNodes, defaults: { name: 'ours' } } }, keys)
    let changed = 0
    early.open(() => { changed++ })
    await early.close()
    for (const { port } of nodes) {
      await until(async () => !(await command(port, ['CLIENT', 'LIST'])).includes('name=ours'), 'the node has no link to it', 30_000)
    }
    t.equal(early.ready, false)
    t.equal(changed, 0)
  })
})

function testCommands (t: Test, commands: RedisCommands): void {
  t.test('replies come as text, or as bytes for who asks for them', async (t) => {
    const key = randomPrefix()
    const bytes = Buffer.from([0, 255, 13, 10])
    t.equal(await commands.send(key, ['SET', key, bytes]), 'OK')
    t.strictSame(await commands.send(key, ['GET', key], true), bytes)
    t.equal(await commands.send(key, ['EXISTS', key]), 1)
    await commands.send(key, ['SET', key, 'ž'])
    t.equal(await commands.send(key, ['GET', key]), 'ž')
    await commands.send(key, ['DEL', key])
  })

  t.test('a reply that is an error is rejected with a code and what Redis says', async (t) => {
    const key = randomPrefix()
    await commands.send(key, ['SET', key, 'text'])
    await t.rejects(commands.send(key, ['HGETALL', key]), { code: 'FST_CRWS_REDIS_REFUSED', cause: { message: /WRONGTYPE/ } })
    await t.rejects(commands.send(key, ['NONSENSE', key]), { code: 'FST_CRWS_REDIS_REFUSED', cause: { message: /unknown command/ } })
    await commands.send(key, ['DEL', key])
  })

  t.test('a script runs by its hash, and with its text where it is not known', async (t) => {
    const key = randomPrefix()
    await commands.send(key, ['SCRIPT', 'FLUSH'])
    t.match(await runScript(commands, countInWindow, [key], ['60000']), [1, Number])
    t.match(await runScript(commands, countInWindow, [key], ['60000']), [2, Number])
    await commands.send(key, ['SET', key, 'text'])
    await t.rejects(runScript(commands, countInWindow, [key], ['60000']), { code: 'FST_CRWS_REDIS_REFUSED' })
    await commands.send(key, ['DEL', key])
  })
}

t.test('a client of the host is only looked at', async (t) => {
  const redis = await startRedis(t)
  const client = createClient({ url: redis.url })
  const commands = standalone({ kind: 'client', client })
  await open(t, commands)
  t.equal(await commands.send('key', ['PING']), 'PONG')
  t.equal(client.isOpen, false)
})
