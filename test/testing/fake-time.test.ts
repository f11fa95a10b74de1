import Fastify from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import { promisify } from 'node:util'
import WebSocket from 'ws'
import cloudRunWebSocket, { type Options } from '../../index.ts'
import { fakeTime, testClient } from '../../testing.ts'

async function build (options: Options = {}) {
  const app = Fastify()
  const ends: string[] = []
  await app.register(cloudRunWebSocket, {
    redis: false, shutdown: { signals: false }, onDisconnect: (_connection, { cause }) => { ends.push(cause) }, ...options
  })
  return { app, ends }
}

function start (t: Test) {
  const time = fakeTime()
  t.teardown(() => time.restore())
  return time
}

t.test('timers run in order, each at its time, with promises in between', async (t) => {
  const before = Date.now()
  const time = start(t)
  const startedAt = Date.now()
  t.ok(startedAt - before < 10_000)
  const log: Array<[string, number]> = []
  const note = (what: string) => { log.push([what, Date.now() - startedAt]) }
  setTimeout(note, 100, 'second')
  setTimeout(note, 50, 'first')
  setTimeout(note, 100, 'third')
  const interval = setInterval(() => {
    note('interval')
    Promise.resolve().then(() => note('promise'))
    setTimeout(note, 10, 'inner')
  }, 60)
  const cleared = setTimeout(note, 70, 'never')
  clearTimeout(cleared)
  await time.move(130)
  t.strictSame(log, [
    ['first', 50], ['interval', 60], ['promise', 60], ['inner', 70], ['second', 100], ['third', 100],
    ['interval', 120], ['promise', 120], ['inner', 130]
  ])
  t.equal(Date.now() - startedAt, 130)
  clearInterval(interval)
  await time.move('1h')
  t.equal(log.length, 9)
})

t.test('dates and timers are like those of Node.js', async (t) => {
  const RealDate = Date
  const realTimeout = setTimeout
  const real = setTimeout(() => {}, 60_000)
  const time = start(t)
  t.equal(new Date().getTime(), Date.now())
  t.equal(new Date(2_000, 0).getFullYear(), 2_000)
  t.equal(Date(), new Date().toString())
  t.ok(new Date() instanceof Date && new Date() instanceof RealDate && new RealDate() instanceof Date)
  t.equal(Date.parse('1970-01-01T00:00:01Z'), 1_000)
  class Day extends Date {}
  t.ok(new Day() instanceof Day)
  let runs = 0
  const timer = setTimeout(() => { runs++ }, 10).unref().ref()
  t.equal(timer.hasRef(), false)
  await time.move(9)
  timer.refresh()
  await time.move(9)
  t.equal(runs, 0)
  await time.move(1)
  t.equal(runs, 1)
  setTimeout(() => { runs++ })
  setTimeout(() => { runs++ }, 1e12)
  await time.move(1)
  t.equal(runs, 3)
  { using one = setTimeout(() => { runs++ }, 5); t.ok(one) }
  const waited = promisify(setTimeout)(20, 'value')
  await time.move(20)
  t.equal(await waited, 'value')
  t.equal(runs, 3)
  clearTimeout(real)
  clearTimeout(undefined)
  await t.rejects(time.move('soon'), { code: 'FST_CRWS_INVALID_ARGUMENT' })
  await t.rejects(time.move(-1), { code: 'FST_CRWS_INVALID_ARGUMENT' })
  t.throws(fakeTime, { code: 'FST_CRWS_TEST_TIME' })
  time.restore()
  time.restore()
  t.equal(Date, RealDate)
  t.equal(setTimeout, realTimeout)
  { using again = fakeTime(); t.not(Date, RealDate); t.ok(again) }
  t.equal(Date, RealDate)
})

t.test('a connection stays through heartbeats, and is closed at its deadline of 57 minutes', async (t) => {
  const time = start(t)
  const { app, ends } = await build()
  const client = await testClient(app)
  await time.move('51m')
  t.strictSame(ends, [], 'its pongs came')
  await time.move('6m')
  t.strictSame(await client.closed, { code: 1012, reason: 'connection is old, connect again' })
  t.strictSame(ends, ['deadline'])
  await app.close()
})

t.test('sockets of a real port keep up with the time that is moved', async (t) => {
  const time = start(t)
  const { app, ends } = await build()
  const url = await app.listen({ port: 0 })
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`)
  let pings = 0
  socket.on('ping', () => { pings++ })
  await new Promise(resolve => socket.on('open', resolve))
  await time.move('5m')
  t.strictSame(ends, [])
  t.ok(pings >= 10, `${pings} pings`)
  const closed = new Promise(resolve => socket.on('close', resolve))
  await time.move('52m')
  t.equal(await closed, 1012)
  await app.close()
})

t.test('a peer that answers no ping is closed by the heartbeat', async (t) => {
  const time = start(t)
  const { app, ends } = await build()
  const url = await app.listen({ port: 0 })
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, { autoPong: false })
  await new Promise(resolve => socket.on('open', resolve))
  await time.move('36s') // the interval and the timeout of the heartbeat, and a sweep
  t.strictSame(ends, ['heartbeat'])
  await app.close()
})

t.test('an identity expires at its expiresAt', async (t) => {
  const time = start(t)
  const { app } = await build({ authenticate: () => ({ user: 'ann', expiresAt: Date.now() / 1_000 + 600 }) })
  const client = await testClient(app)
  await time.move('599s')
  t.equal(Array.from(app.realtime.connections).length, 1)
  await time.move('2s')
  t.match(await client.closed, { code: 3005 })
  await app.close()
})

t.test('history, idempotency keys and sessions expire', async (t) => {
  const time = start(t)
  const { app } = await build({ channels: { room: { history: { size: 10, ttl: '10m' } } } })
  const { realtime } = app
  await realtime.publish('room:1', 'one', { idempotencyKey: 'key' })
  await realtime.sessions.set('ann', { a: 1 }, { ttl: '1h' })
  await time.move('4m')
  t.match(await realtime.publish('room:1', 'two', { idempotencyKey: 'key' }), { offset: 1 })
  await time.move('2m')
  t.match(await realtime.publish('room:1', 'two', { idempotencyKey: 'key' }), { offset: 2 })
  await time.move('599s')
  t.equal((await realtime.history('room:1')).publications.length, 2)
  await time.move('1s')
  t.match(await realtime.history('room:1'), { publications: [], offset: 2 })
  t.strictSame(await realtime.sessions.get('ann'), { a: 1 })
  await time.move('1h')
  t.equal(await realtime.sessions.get('ann'), undefined)
  await app.close()
})

t.test('a rate limit fills up again', async (t) => {
  const time = start(t)
  const { app, ends } = await build({
    rateLimit: { connections: { max: 2, timeWindow: '1m' }, messages: { max: 2, timeWindow: '10s' } },
    onMessage: (connection, data) => { connection.send(data) }
  })
  const client = await testClient(app)
  await testClient(app)
  await t.rejects(testClient(app), { code: 'FST_CRWS_TEST_REFUSED', statusCode: 429 })
  await time.move('1m')
  await testClient(app)
  for (let round = 0; round < 3; round++) {
    for (const text of ['one', 'two']) {
      client.send(text)
      t.equal(await client.next(), text)
    }
    await time.move('10s')
  }
  t.strictSame(ends, [])
  for (let i = 0; i < 6; i++) client.send('too many')
  t.match(await client.closed, { code: 1008 })
  await app.close()
})

t.test('an error of a timer comes out of move', async (t) => {
  const time = start(t)
  setTimeout(() => { throw new Error('a bug') }, 5)
  await t.rejects(time.move(5), { message: 'a bug' })
})
