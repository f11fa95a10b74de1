import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import type { End, Options } from '../../index.ts'
import { PRESENCE_TTL } from '../../lib/model/presence.ts'
import { startApp } from '../helpers/app.ts'
import { connectionsOf } from '../helpers/connections.ts'
import { frame, openRaw, TEXT, upgradeRequest } from '../helpers/raw-socket.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { command, startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

const heartbeat: Options['heartbeat'] = { interval: 100, timeout: 200 }

t.test('pings arrive, and a peer that answers them stays', async (t) => {
  const { app, url } = await startApp(t, { heartbeat })
  const client = await connect(t, `${url}/ws`)
  for (let i = 0; i < 10; i++) await once(client.socket, 'ping')
  t.equal(connectionsOf(app).length, 1)
})

t.test('a peer that never answers is terminated', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, { heartbeat, onDisconnect: (_connection, end) => { ends.push(end) } })
  const deaf = await connect(t, `${url}/ws`, { autoPong: false })
  const healthy = await connect(t, `${url}/ws`)
  const { code, reason } = await deaf.closed
  t.strictSame({ code, reason }, { code: 3012, reason: 'no pong' })
  await until(() => ends.length === 1, 'onDisconnect')
  t.strictSame(ends, [{ code: 3012, reason: 'no pong', cause: 'heartbeat' }])

  const frozen = await openRaw(t, url)
  frozen.socket.write(upgradeRequest('/ws'))
  await frozen.head()
  frozen.socket.pause()
  await until(() => ends.length === 2, 'the frozen one is gone too')
  t.equal(ends[1]!.cause, 'heartbeat')
  t.equal(healthy.socket.readyState, 1)
  t.equal(connectionsOf(app).length, 1)
})

t.test('any message counts as an answer', async (t) => {
  const { app, url } = await startApp(t, { heartbeat, rateLimit: false, onMessage: () => {} })
  const talker = await openRaw(t, url)
  talker.socket.write(upgradeRequest('/ws'))
  await talker.head()
  let pings = 0
  let sent = 0
  talker.socket.on('data', (data: Buffer) => { pings += data.filter(byte => byte === 0x89).length })
  const timer = setInterval(() => {
    talker.socket.write(frame(TEXT, 'x'))
    sent++
  }, 20)
  t.teardown(() => clearInterval(timer))
  await until(() => pings >= 6, 'many pings')
  t.equal(connectionsOf(app).length, 1)
  t.ok(sent > 6)
})

t.test('an event loop that was blocked for longer than the timeout kills nobody', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, { heartbeat, onDisconnect: (_connection, end) => { ends.push(end) } })
  // Clients in another process answer while this one stands still.
  const script = `
    import WebSocket from ${JSON.stringify(import.meta.resolve('ws'))}
    for (let i = 0; i < 10; i++) new WebSocket('${url}/ws')
    process.stdin.resume().on('end', () => process.exit())
  `
  const clients = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: ['pipe', 'inherit', 'inherit'], env: { PATH: process.env.PATH } })
  t.teardown(() => clients.kill())
  await until(() => connectionsOf(app).length === 10, 'ten clients')
  for (let round = 0; round < 3; round++) {
    // Pings are under way when the loop stops.
    await until(() => connectionsOf(app).some(({ pongBy }) => pongBy !== 0), 'a ping that is not answered yet')
    const wakeAt = Date.now() + 500
    while (Date.now() < wakeAt); // blocks
    const pingsDue = Math.max(...connectionsOf(app).map(({ pingAt }) => pingAt))
    await until(() => connectionsOf(app).every(({ pingAt }) => pingAt > pingsDue), 'everybody has been pinged again')
  }
  t.equal(connectionsOf(app).length, 10)
  t.strictSame(ends, [])
})

t.test('presence is refreshed before it expires', async (t) => {
  let shift = 0
  const { now } = Date
  const { app, url } = await startApp(t, {
    heartbeat: { interval: '10s', timeout: 50 },
    channels: { room: { presence: true } },
    onConnect: async (connection) => { await connection.subscribe('room:1') }
  })
  await connect(t, `${url}/ws`)
  await until(async () => (await app.realtime.presence('room:1')).length === 1, 'it is present')
  // The clock goes on faster than its sweeps; real time would take a minute.
  t.intercept(Date, 'now', { value: () => now() + shift })
  for (let passed = 0; passed < PRESENCE_TTL * 2; passed += PRESENCE_TTL / 2) {
    shift += PRESENCE_TTL / 2
    const before = shift
    await until(async () => {
      // Seen from the end of its life it is still there: it was added again.
      shift = before + PRESENCE_TTL - 1_000
      const { length } = await app.realtime.presence('room:1')
      shift = before
      return length === 1
    }, 'it was refreshed')
  }
  t.equal((await app.realtime.presence('room:1')).length, 1)
})

t.test('this instance records itself again for the others', async (t) => {
  const redis = await startRedis(t)
  const options: Options = { redis: redis.url, keyPrefix: randomPrefix(), heartbeat: { interval: '10s', timeout: 50 } }
  const [a, b] = await Promise.all([startApp(t, options), startApp(t, options)])
  await until(async () => (await a.app.realtime.info()).length === 2, 'both are listed')
  await command(redis.port, ['FLUSHALL'])
  t.equal((await a.app.realtime.info()).length, 1)
  await until(async () => (await a.app.realtime.info()).length === 2, 'the other one is listed again', 20_000)
  const [own, other] = await a.app.realtime.info()
  t.equal(own!.instance, (await a.app.inject('/health')).json().instance)
  t.equal(other!.instance, (await b.app.inject('/health')).json().instance)
})
