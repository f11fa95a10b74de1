import Fastify from 'fastify'
import { createConnection } from 'node:net'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { End, Options } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { startOtlpServer } from '../helpers/otlp.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { openRaw, upgradeRequest } from '../helpers/raw-socket.ts'
import { startRedis } from '../helpers/redis.ts'
import { startServer } from '../helpers/server-process.ts'
import type { ServerProcess, ServerSettings } from '../helpers/server-process.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

t.setTimeout(300_000)
const parallel = { timeout: 240_000 }

const notice = { type: 'shutdown', message: 'shutdown', reconnect: true }
const shutdown: Options['shutdown'] = { timeout: '4s' }

await t.test('app.close() tells every client to reconnect, and calls onDisconnect', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, {
    onDisconnect: async (_connection, end) => {
      await wait(50)
      ends.push(end)
    }
  })
  const clients = await Promise.all(Array.from({ length: 15 }, () => connect(t, `${url}/ws`)))
  await app.close()
  t.strictSame(ends, Array(15).fill({ code: 1001, reason: 'shutdown', cause: 'drain' }), 'when it resolves every end has been handled')
  t.strictSame(await Promise.all(clients.map(({ closed }) => closed)), Array(15).fill({ code: 1001, reason: 'shutdown' }))
  t.strictSame(clients.map(({ messages }) => messages.map(message => JSON.parse(String(message)))), Array(15).fill([notice]))
  t.strictSame([...app.realtime.connections], [])
})

await t.test('closings are spread over the time budget', async (t) => {
  const { app, url } = await startApp(t)
  const clients = await Promise.all(Array.from({ length: 100 }, () => connect(t, `${url}/ws`)))
  const stillOpen = new Set<number>()
  for (const client of clients) {
    client.closed.then(() => stillOpen.add([...app.realtime.connections].filter(({ open }) => open).length))
  }
  await app.close()
  await Promise.all(clients.map(({ closed }) => closed))
  t.ok(Math.max(...stillOpen) >= 50, 'when the first ones were closed most were still open')
  t.ok(stillOpen.size >= 4, `seen by the clients: ${[...stillOpen].join(', ')} still open`)
})

await t.test('a client that does not answer is terminated, and its onDisconnect ends before the app is closed', async (t) => {
  const ends: End[] = []
  const { app, url } = await startApp(t, {
    onDisconnect: async (_connection, end) => {
      await wait(50)
      ends.push(end)
    }
  })
  const silent = await connect(t, `${url}/ws`)
  silent.socket.pause()
  await app.close()
  t.strictSame(ends, [{ code: 1001, reason: 'shutdown', cause: 'drain' }])
})

await t.test('an onDisconnect that hangs does not keep the app open', async (t) => {
  let asked = 0
  const { app, url } = await startApp(t, {
    shutdown: { signals: false, timeout: 500 },
    onDisconnect: () => {
      asked++
      return new Promise(() => {})
    }
  })
  await connect(t, `${url}/ws`)
  await app.close()
  t.equal(asked, 1)
})

await t.test("WebSockets of the app's own routes, and of paths without a route, do not keep the app open", async (t) => {
  const app = Fastify()
  await app.register(cloudRunWebSocket, { shutdown: { signals: false, timeout: 2_000 } })
  app.get('/mine', { websocket: true }, () => {})
  await app.listen({ port: 0, host: '127.0.0.1' })
  const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const answering = await connect(t, `${url}/mine`)
  const silent = await Promise.all(['/mine', '/health'].map(async (path) => {
    const raw = await openRaw(t, url)
    raw.socket.write(upgradeRequest(path))
    await raw.head()
    return raw
  }))
  await app.close()
  t.strictSame(await answering.closed, { code: 1001, reason: 'shutdown' })
  await Promise.all(silent.map(({ ended }) => ended))
})

await t.test('an app that was closed leaves no timer behind', async (t) => {
  const timers = () => process.getActiveResourcesInfo().filter(resource => resource === 'Timeout').length
  const { app, url } = await startApp(t, { shutdown: { signals: false, timeout: '1m' }, onDisconnect: () => {} })
  const client = await connect(t, `${url}/ws`)
  client.socket.close()
  await client.closed
  const before = timers()
  await app.close()
  t.equal(timers(), before)
})

await t.test('without a drain connections are closed all the same', async (t) => {
  const { app, url } = await startApp(t, { shutdown: false })
  const clients = await Promise.all(Array.from({ length: 30 }, () => connect(t, `${url}/ws`)))
  await app.close()
  t.strictSame(await Promise.all(clients.map(({ closed }) => closed)), Array(30).fill({ code: 1001, reason: 'shutdown' }))
})

for (const prefix of ['', '/v1']) {
  await t.test(`after app.close() upgrades to ${prefix}/ws get a Retry-After`, async (t) => {
    const app = Fastify()
    t.teardown(() => app.close())
    let isDraining = () => false
    app.register(async (scope) => {
      await scope.register(cloudRunWebSocket, { shutdown: { signals: false, timeout: 3_000 } })
      isDraining = () => [...scope.realtime.connections].every(({ open }) => !open)
    }, { prefix })
    await app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = app.server.address() as AddressInfo
    const url = `ws://127.0.0.1:${port}${prefix}/ws`
    const silent = await connect(t, url)
    silent.socket.pause()
    // Opened before: the server does not accept any later.
    const early = createConnection({ port, host: '127.0.0.1', allowHalfOpen: true })
    t.teardown(() => early.destroy())
    const closed = app.close()
    await until(isDraining, 'the drain has begun')
    for (const path of ['', '?token=1']) {
      const { statusCode, headers, body } = await rejected(url + path)
      t.equal(statusCode, 503)
      t.match(headers['retry-after'], /^[1-5]$/)
      t.match(JSON.parse(body), { statusCode: 503, code: 'FST_CRWS_DRAINING', error: 'Service Unavailable' })
    }
    t.match(await rejected(`ws://127.0.0.1:${port}/elsewhere`), { statusCode: 503 }, "other paths are Fastify's")
    early.write(upgradeRequest(`${prefix}/ws`))
    t.match(await text(early), /^HTTP\/1\.1 503 [^]*\r\nRetry-After: [1-5]\r\n/, 'a peer that does not close its side')
    await closed
  })
}

// Starting a process takes a while on a busy machine; what these wait for overlaps.
t.jobs = 4

async function stop (
  t: Test, settings: ServerSettings, signal: NodeJS.Signals,
  prepare: (urls: string[], server: ServerProcess) => Promise<void>
) {
  const server = await startServer(t, { ...settings, options: { shutdown, ...settings.options } })
  await prepare(server.urls, server)
  const startedAt = Date.now()
  server.child.kill(signal)
  t.strictSame(await server.exited, { code: 0, signal: null }, 'exit code 0')
  t.ok(Date.now() - startedAt < 10_000, 'before Cloud Run would kill it')
  return server
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  t.test(`${signal} with many clients`, parallel, async (t) => {
    const clients: Array<Awaited<ReturnType<typeof connect>>> = []
    const { log } = await stop(t, { sources: signal === 'SIGTERM' }, signal, async ([url]) => {
      clients.push(...await Promise.all(Array.from({ length: 150 }, () => connect(t, `${url}/ws`))))
    })
    t.strictSame(await Promise.all(clients.map(({ closed }) => closed)), Array(150).fill({ code: 1001, reason: 'shutdown' }))
    t.ok(clients.every(({ messages }) => String(messages) === JSON.stringify(notice)))
    t.match(log.filter(({ event }) => String(event).startsWith('drain.')), [
      { event: 'drain.started', connections: 150, timeout: 4_000 },
      { event: 'drain.finished', connections: 150 }
    ])
  })
}

t.test('SIGTERM with a client that does not read: not ready, but alive, until it is gone', parallel, async (t) => {
  const server = await startServer(t, { options: { shutdown } })
  const [url] = server.urls as [string]
  const http = url.replace('ws', 'http')
  const silent = await connect(t, `${url}/ws`)
  silent.socket.pause()
  t.equal((await fetch(`${http}/ready`)).status, 200)
  server.child.kill('SIGTERM')
  const ready = await until(async () => {
    const response = await fetch(`${http}/ready`)
    return response.status === 503 && await response.json()
  }, 'it is not ready')
  t.match(ready, { status: 'unavailable', reasons: ['draining'] })
  t.equal((await fetch(`${http}/health`)).status, 200)
  t.match(await rejected(`${url}/ws`), { statusCode: 503, headers: { 'retry-after': /^[1-5]$/ }, body: /FST_CRWS_DRAINING/ })
  t.strictSame(await server.exited, { code: 0, signal: null })
  t.match(server.log.find(({ event }) => event === 'drain.finished'), { connections: 1, terminated: 1 })
})

t.test('SIGTERM with a Redis that is frozen, and a metrics backend and an onDisconnect that never answer', parallel, async (t) => {
  const redis = await startRedis(t)
  const otlp = await startOtlpServer(t)
  otlp.status = 'hang'
  await stop(t, { options: { redis: redis.url, keyPrefix: randomPrefix() }, hang: 'onDisconnect', env: { OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url, OTEL_METRIC_EXPORT_INTERVAL: '10000' } }, 'SIGTERM', async ([url], { log }) => {
    await connect(t, `${url}/ws`)
    await until(() => log.some(({ event }) => event === 'telemetry.started'), 'metrics are on')
    redis.freeze()
  })
  redis.thaw()
})

t.test('SIGTERM with an onClose hook that never resolves', parallel, async (t) => {
  let client: Awaited<ReturnType<typeof connect>> | undefined
  await stop(t, { hang: 'onClose' }, 'SIGTERM', async ([url]) => { client = await connect(t, `${url}/ws`) })
  t.strictSame(await client!.closed, { code: 1001, reason: 'shutdown' })
})

t.test('SIGTERM with an onDisconnect that hangs', parallel, async (t) => {
  await stop(t, { hang: 'onDisconnect' }, 'SIGTERM', async ([url]) => { await connect(t, `${url}/ws`) })
})

t.test('SIGTERM with half a request', parallel, async (t) => {
  await stop(t, {}, 'SIGTERM', async ([url]) => {
    const socket = createConnection(Number(new URL(url!).port), '127.0.0.1')
    t.teardown(() => socket.destroy())
    socket.on('error', () => {}) // it is cut at the end
    socket.write(upgradeRequest('/ws').slice(0, 60))
    await connect(t, `${url}/ws`)
  })
})

t.test('SIGTERM with two apps in one process', parallel, async (t) => {
  const clients: Array<Awaited<ReturnType<typeof connect>>> = []
  const { log } = await stop(t, { apps: 2 }, 'SIGTERM', async (urls) => {
    // One of them is drained at once, the other one has to wait for its client.
    const silent = await connect(t, `${urls[0]}/ws`)
    silent.socket.pause()
    clients.push(await connect(t, `${urls[1]}/ws`))
  })
  t.strictSame(await clients[0]!.closed, { code: 1001, reason: 'shutdown' })
  t.equal(log.filter(({ event }) => event === 'drain.finished').length, 2, 'the first one to be done waits for the other one')
})
