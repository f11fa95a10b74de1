import { execFile } from 'node:child_process'
import { mkdir, symlink } from 'node:fs/promises'
import { createServer } from 'node:http'
import { findSourceMap } from 'node:module'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createClient } from 'redis'
import t from 'tap'
import { WebSocketServer } from 'ws'
import { randomPrefix } from '../helpers/prefix.ts'
import { findProgram } from '../helpers/programs.js'
import { command, ping, startRedis, startRedisCluster } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

t.test('a Redis can be frozen, thawed, killed and restarted', async (t) => {
  const redis = await startRedis(t)
  t.equal(await ping(redis.port), true)

  redis.freeze()
  t.equal(await ping(redis.port, 200), false)
  redis.thaw()
  t.equal(await ping(redis.port), true)

  await redis.kill()
  t.equal(await ping(redis.port), false)
  await redis.restart()
  t.equal(await ping(redis.port), true)
})

t.test('REDIS_SERVER names the server that the tests start, and the client beside it', async (t) => {
  const folder = t.testdir({})
  for (const name of ['server', 'cli']) await symlink(findProgram(`redis-${name}`)!, join(folder, `valkey-${name}`))
  const { REDIS_SERVER } = process.env
  t.teardown(() => {
    if (REDIS_SERVER === undefined) delete process.env.REDIS_SERVER
    else process.env.REDIS_SERVER = REDIS_SERVER
  })
  process.env.REDIS_SERVER = join(folder, 'valkey-server')
  const redis = await startRedis(t)
  t.match(await command(redis.port, ['INFO', 'server']), `executable:${folder}/valkey-server`)
  t.equal(findProgram('redis-cli'), join(folder, 'valkey-cli'))
  process.env.REDIS_SERVER = join(folder, 'none')
  t.equal(findProgram('redis-server'), undefined)
  await mkdir(join(folder, 'none'))
  t.equal(findProgram('redis-server'), undefined, 'nor is a folder of this name a program')
})

t.test('a Redis that persists keeps what it has over a crash, another one does not', async (t) => {
  for (const persist of [true, false]) {
    const redis = await startRedis(t, { persist })
    const key = randomPrefix()
    await command(redis.port, ['SET', key, 'kept'])
    await redis.restart()
    t.equal(await command(redis.port, ['GET', key]), persist ? 'kept' : 'null')
  }
})

t.test('a frozen Redis can be stopped', async (t) => {
  const redis = await startRedis(t)
  redis.freeze()
  await redis.stop()
  t.equal(await ping(redis.port), false)
})

t.test('a cluster answers on all of its nodes', async (t) => {
  const { nodes, rootNodes } = await startRedisCluster(t)
  t.equal(nodes.length, 3)
  t.strictSame(rootNodes, nodes.map(({ url }) => ({ url })))
  for (const node of nodes) {
    const client = createClient({ url: node.url })
    await client.connect()
    t.equal(await client.ping(), 'PONG')
    t.match(await client.sendCommand(['CLUSTER', 'SHARDS']), { length: 3 })
    client.destroy()
  }
})

t.test('a client gets every message in order, and the close', async (t) => {
  const server = createServer()
  const sockets = new WebSocketServer({ server, verifyClient: ({ req }, allow) => allow(req.url === '/', 401, 'no way') })
  t.teardown(() => {
    sockets.close()
    server.close()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
  sockets.on('connection', (socket) => {
    // At once, before the client can have a listener of its test's.
    socket.send('one')
    socket.send(Buffer.from('two'))
    socket.on('message', (data) => {
      socket.send(`three ${data}`)
      socket.close(4000, 'enough')
    })
  })

  const client = await connect(t, url)
  t.equal(await client.next(), 'one')
  t.strictSame(await client.next(), Buffer.from('two'))
  await t.rejects(client.next(50), { message: 'no message within 50 ms' })
  client.send('times')
  t.equal(await client.next(), 'three times')
  await t.rejects(client.next(), { message: 'closed before the next message' })
  t.strictSame(await client.closed, { code: 4000, reason: 'enough' })
  t.strictSame(client.messages, ['one', Buffer.from('two'), 'three times'])

  t.match(await rejected(`${url}/elsewhere`), { statusCode: 401, body: 'no way' })
  await t.rejects(rejected(url), { message: 'the upgrade was accepted' })
})

t.test('until says what it waited for', async (t) => {
  let calls = 0
  t.equal(await until(() => ++calls === 3 && 'done', 'third call'), 'done')
  await t.rejects(until(() => false, 'never', 30), { message: 'not within 30 ms: never' })
  const cause = new Error('why')
  await t.rejects(until(() => { throw cause }, 'never', 30), { cause })
})

t.test('tap loads itself only into a process that runs the sources', async (t) => {
  const env = { PATH: process.env.PATH, NODE_OPTIONS: '--no-deprecation', _TAPJS_PROCESSINFO_COVERAGE_: '1' }
  const print = ['--input-type=module', '--eval', 'console.log(JSON.stringify(process.env))']
  for (const [args, isCounted] of [[[], false], [['--import=tsx'], true]] as const) {
    const { stdout } = await promisify(execFile)(process.execPath, [...args, ...print], { env })
    const found = JSON.parse(stdout)
    t.match(found.NODE_OPTIONS, '--no-deprecation')
    t.equal(found.NODE_OPTIONS.includes('@tapjs/processinfo'), isCounted)
    t.equal('_TAPJS_PROCESSINFO_CWD_' in found, isCounted)
  }
})

t.test('coverage reads the sources, which are not in their source maps', async (t) => {
  const sourceMap = findSourceMap(import.meta.url)
  t.match(sourceMap?.payload.sources, [/harness\.test\.ts$/])
  t.equal(sourceMap?.payload.sourcesContent, undefined)
})
