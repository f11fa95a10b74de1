import Fastify from 'fastify'
import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import cloudRunWebSocket from '../../../index.ts'
import type { Options } from '../../../index.ts'
import { connectionsOf } from '../../helpers/connections.ts'
import { openRaw, upgradeRequest } from '../../helpers/raw-socket.ts'
import type { RawSocket } from '../../helpers/raw-socket.ts'
import { until } from '../../helpers/until.ts'

const MAX = 70
const CLIENTS = 200
const connect = '{"id":1,"connect":{}}'

/** A request of every transport that opens a connection. */
const requests: readonly string[] = [
  `POST /connection/http_stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${connect.length}\r\n\r\n${connect}`,
  `GET /connection/sse?cf_connect=${encodeURIComponent(connect)} HTTP/1.1\r\nHost: localhost\r\n\r\n`,
  'GET /connection/uni_sse?channel=news HTTP/1.1\r\nHost: localhost\r\n\r\n',
  upgradeRequest('/connection/websocket'),
  upgradeRequest('/ws')
]

/** Where the app lets its clients wait, until it calls `release`. */
class Gate {
  waiting = 0
  release = () => {}
  readonly #open = new Promise<void>(resolve => { this.release = resolve })

  readonly pass = async (): Promise<void> => {
    this.waiting++
    await this.#open
    this.waiting--
  }
}

async function startService (t: Test, options: Options, hook?: () => Promise<void>): Promise<{ app: FastifyInstance, url: string }> {
  const app = Fastify()
  t.teardown(() => app.close())
  if (hook !== undefined) app.addHook('onRequest', hook)
  await app.register(cloudRunWebSocket, {
    fallback: true,
    maxConnections: MAX,
    rateLimit: { connections: false },
    channels: { '': { subscribe: true } },
    shutdown: { signals: false, timeout: 500 },
    ...options
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { app, url: `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}` }
}

/** All at once, of every transport as many. */
async function openAll (t: Test, url: string, count = CLIENTS): Promise<RawSocket[]> {
  const clients = await Promise.all(Array.from({ length: count }, () => openRaw(t, url)))
  clients.forEach(({ socket }, i) => socket.write(requests[i % requests.length]!))
  return clients
}

/** Everybody is answered: as many as there may be get in, the others are told when to come again. */
async function checkAnswers (t: Test, app: FastifyInstance, clients: RawSocket[]): Promise<void> {
  const heads = await Promise.all(clients.map(({ head }) => head()))
  const times = (status: RegExp) => heads.filter(head => status.test(head)).length
  t.equal(times(/^HTTP\/1\.1 (101|200) /), MAX)
  t.equal(times(/^HTTP\/1\.1 503 [^]*\r\nretry-after: [1-5]\b/i), clients.length - MAX)
  t.equal(connectionsOf(app).length, MAX)
}

/** Everybody leaves, and there is room for as many as ever. */
async function checkRoom (t: Test, app: FastifyInstance, url: string, clients: RawSocket[]): Promise<void> {
  for (const { socket } of clients) socket.destroy()
  await until(() => connectionsOf(app).length === 0, 'all have gone')
  const next = await openAll(t, url, MAX + requests.length)
  await checkAnswers(t, app, next)
  for (const { socket } of next) socket.destroy()
  await until(() => connectionsOf(app).length === 0, 'all have gone again')
}

/** Where clients wait: what of the app lets them, and how many of these MAX clients get there. */
const places: ReadonlyArray<readonly [where: string, gated: (gate: Gate) => readonly [Options, (() => Promise<void>)?], share: number]> = [
  ['an async hook of the app', ({ pass }) => [{}, pass], 1],
  ['authenticate', ({ pass }) => [{ authenticate: () => pass().then(() => ({ user: 'ada' })) }], 1],
  ['onConnect', ({ pass }) => [{ onConnect: pass }], 0.8] // nobody says `connect` in the SDKs' WebSockets
]

for (const [where, gated, share] of places) {
  t.test(`maxConnections counts all transports together, with clients that wait for ${where}`, async (t) => {
    const gate = new Gate()
    const { app, url } = await startService(t, ...gated(gate))
    const clients = await openAll(t, url)
    await until(() => gate.waiting > MAX / 2, 'many wait')
    gate.release()
    await checkAnswers(t, app, clients)
    await checkRoom(t, app, url, clients)
  })

  t.test(`clients that leave while they wait for ${where} hold no place`, async (t) => {
    const gate = new Gate()
    const { app, url } = await startService(t, ...gated(gate))
    const clients = await openAll(t, url, MAX)
    await until(() => gate.waiting === MAX * share, 'they wait')
    for (const { socket } of clients) socket.destroy()
    await until(async () => await sockets(app) === 0, 'they have gone')
    if (where === 'an async hook of the app') gate.release()
    const next = await openAll(t, url, MAX + requests.length)
    gate.release()
    await checkAnswers(t, app, next)
  })
}

t.test('a client that has left before authenticate is asked holds no place', async (t) => {
  const gate = new Gate()
  let asked = 0
  let gone = true
  const authenticate = () => {
    asked++
    return gone ? new Promise<never>(() => {}) : Promise.resolve({ user: 'ada' })
  }
  const { app, url } = await startService(t, { authenticate }, gate.pass)
  const clients = await openAll(t, url, MAX)
  await until(() => gate.waiting === MAX, 'they wait')
  for (const { socket } of clients) socket.destroy()
  await until(async () => await sockets(app) === 0, 'they have gone')
  gate.release()
  await until(() => gate.waiting === 0, 'their requests go on')
  gone = false
  await checkAnswers(t, app, await openAll(t, url, MAX + requests.length))
  t.equal(asked, MAX, 'it is not asked who they were')
})

/** Sockets that are open. */
function sockets ({ server }: FastifyInstance): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => error === null ? resolve(count) : reject(error))
  })
}
