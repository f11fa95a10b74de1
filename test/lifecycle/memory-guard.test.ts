import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import type { End } from '../../index.ts'
import type { Connection } from '../../lib/core/connection.ts'
import { MemoryGuard } from '../../lib/lifecycle/memory-guard.ts'
import type { BufferingConnection } from '../../lib/lifecycle/memory-guard.ts'
import { startApp } from '../helpers/app.ts'
import { connectionsOf } from '../helpers/connections.ts'
import { collectLog } from '../helpers/log.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

const MB = 1_000_000
const heartbeat = { interval: 500, timeout: '1m' } // a look at memory every 100 ms

/** So many connections that have nothing buffered. */
function connections (count: number): Set<BufferingConnection> {
  const idle = (id: string): BufferingConnection => ({
    id,
    user: '',
    protocol: 'plain',
    transport: 'websocket',
    connectedAt: 0,
    received: 0,
    sent: 0,
    bytesReceived: 0,
    bytesSent: 0,
    identified: true,
    trace: undefined,
    outbox: { bufferedBytes: 0 },
    terminate: () => {}
  })
  return new Set(Array.from({ length: count }, (_, i) => idle(String(i))))
}

/** A guard, and the reports of it. */
function newGuard (limit: number) {
  const told: string[] = []
  const guard = new MemoryGuard(limit, { memoryShort: () => told.push('short'), memoryFreed: () => told.push('freed'), slow: () => told.push('slow') })
  return { guard, told }
}

t.test('an instance that runs out of memory takes no more connections until some is free, and keeps those it has', async (t) => {
  setFlagsFromString('--expose_gc')
  const collectGarbage = runInNewContext('gc') as () => void
  collectGarbage()
  const { logger, entries } = collectLog()
  const memoryLimit = Math.round((process.memoryUsage.rss() + 200 * MB) / 0.9)
  const { app, url } = await startApp(t, { memoryLimit, heartbeat }, { logger })
  const client = await connect(t, `${url}/ws`)
  const ballast = Array.from({ length: 7_500 }, () => Buffer.alloc(40_000, 1)) // so small that the allocator keeps their memory
  await until(() => entries.some(({ event }) => event === 'memory.short'), 'it is seen')
  const { statusCode, headers, body } = await rejected(`${url}/ws`)
  t.match({ statusCode, ...JSON.parse(body) }, { statusCode: 503, code: 'FST_CRWS_MEMORY', message: /short of memory.*another instance/ })
  t.match(headers['retry-after'], /^[1-5]$/)
  const ready = await app.inject('/ready')
  t.equal(ready.statusCode, 503)
  t.strictSame(ready.json().reasons, ['memory'])
  t.equal((await app.inject('/health')).statusCode, 200)
  t.match(entries.find(({ event }) => event === 'connection.rejected'), { level: 40, error: 'capacity' })
  ballast.length = 0
  await until(() => {
    collectGarbage()
    return entries.some(({ event }) => event === 'memory.freed')
  }, 'it is seen')
  await connect(t, `${url}/ws`)
  t.equal((await app.inject('/ready')).statusCode, 200)
  t.equal(client.socket.readyState, client.socket.OPEN)
  const told = entries.filter(({ event = '' }) => event.startsWith('memory.'))
  t.match(told, [{ event: 'memory.short', level: 40, limit: memoryLimit }, { event: 'memory.freed', level: 30, limit: memoryLimit }])
  t.ok(told[0]!.used > memoryLimit * 0.9)
})

t.test('where resident memory does not fall, room for connections comes with those that leave', async (t) => {
  const { guard, told } = newGuard(process.memoryUsage.rss())
  const check = (count: number) => {
    guard.check(connections(count))
    return guard.short
  }
  t.strictSame([20, 19, 18].map(check), [true, true, false], 'a tenth has to leave')
  t.strictSame([19, 20].map(check), [false, true], 'as many as when it was short')
  t.strictSame(told, ['short', 'freed', 'short'])
  t.strictSame([0, 0].map(check), [false, false])
})

t.test('memory that is short again and again does not creep up to the limit', async (t) => {
  let resident = 0
  t.intercept(process, 'memoryUsage', { value: () => ({ rss: resident, heapUsed: 500, external: 0 }) })
  const { guard, told } = newGuard(1_000)
  const short = (bytes: number, count: number) => {
    resident = bytes
    guard.check(connections(count))
    return guard.short
  }
  t.strictSame([short(905, 100), short(905, 80)], [true, false])
  t.strictSame([short(924, 90), short(926, 90)], [false, true], 'by a fiftieth of the limit it may grow')
  t.strictSame([short(926, 70), short(924, 70), short(926, 70)], [false, false, true], 'not by another one')
  t.strictSame([short(840, 70), short(899, 200)], [false, false], 'it has fallen')
  t.strictSame(told, ['short', 'freed', 'short', 'freed', 'short', 'freed'])
})

t.test('of clients that have too much buffered together the slowest are terminated', async (t) => {
  const ends = new Map<unknown, End>()
  const { app, url } = await startApp(t, {
    memoryLimit: 300 * MB,
    maxBufferedBytes: 1_000 * MB,
    heartbeat,
    onDisconnect: (connection, end) => { ends.set(connection, end) }
  })
  const clients = await Promise.all(['slowest', 'slow', 'reader'].map(() => connect(t, `${url}/ws`)))
  const [slowest, slow, reader] = connectionsOf(app) as [Connection, Connection, Connection]
  for (const { socket } of clients) socket.pause()
  const part = 'x'.repeat(10 * MB)
  for (let i = 0; i < 8; i++) slowest.send(part)
  for (let i = 0; i < 4; i++) slow.send(part)
  await until(() => ends.size > 0, 'one is gone')
  t.match(ends.get(slowest), { code: 3008, cause: 'slow' })
  t.ok(slow.open && reader.open, 'the others may stay')
  t.equal(ends.size, 1)
})

t.test('without a limit nothing is refused', async (t) => {
  const { url } = await startApp(t, { memoryLimit: false, heartbeat })
  const client = await connect(t, `${url}/ws`)
  await new Promise(resolve => client.socket.once('ping', resolve))
  await connect(t, `${url}/ws`)
})

t.test('memory that is freed without being returned makes room too', async (t) => {
  let live = 500
  t.intercept(process, 'memoryUsage', { value: () => ({ rss: 920, heapUsed: live, external: 0 }) })
  const { guard } = newGuard(1_000)
  const short = (bytes: number) => {
    live = bytes
    guard.check(connections(0))
    return guard.short
  }
  t.strictSame([short(500), short(401), short(400), short(401)], [true, true, false, true])
})
