import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { ClientError } from '../../index.ts'
import type { Options } from '../../index.ts'
import { load } from '../../lib/cli/load/command.ts'
import { startApp } from '../helpers/app.ts'
import { startBalancer } from '../helpers/balancer.ts'
import { connectionsOf } from '../helpers/connections.ts'
import { freePort } from '../helpers/free-port.ts'
import { fakeTerminal, runLoad, startScripted } from '../helpers/load.ts'
import { randomPrefix } from '../helpers/prefix.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'

const SECRET = 'a secret of more than thirty-two bytes'
const open = { subscribe: true, publish: true } as const
const kept = { ...open, history: { size: 1_000, ttl: '1m' } } as const

t.test('it measures what its clients publish and get', async (t) => {
  const { app, url } = await startApp(t, { redis: false, channels: { load: kept } })
  const { code, report } = await runLoad(url, '--connections', '6', '--subscriptions', '2', '--publish', '100', '--size', '300')
  t.equal(code, 0, JSON.stringify(report))
  t.match(report, {
    url: `${url}/connection/websocket`,
    ok: true,
    problems: [],
    connections: { asked: 6, opened: 6, gone: 0, reconnects: 0, refused: {}, failed: {}, closed: {}, connectTime: { count: 6 } },
    subscriptions: { asked: 12, errors: {} },
    deliveries: { lost: 0, duplicated: 0, outOfOrder: 0, wrongOffsets: 0, foreign: 0 },
    interrupted: false
  })
  const { publications: { sent, acknowledged, unsent }, deliveries: { expected, received, latency }, bytes } = report
  t.ok(sent > 0 && unsent === 0)
  t.equal(acknowledged, sent)
  t.equal(received, sent * 6, 'every client is in both channels')
  t.equal(expected, received)
  t.equal(latency.count, received)
  t.ok(bytes.received > received * 300 && bytes.sent > sent * 300)
  await until(() => connectionsOf(app).length === 0, 'all have left')
})

t.test('sockets are closed with 1000', async (t) => {
  const ends: unknown[] = []
  const onDisconnect: Options['onDisconnect'] = (_connection, { code }) => { ends.push(code) }
  const { url } = await startApp(t, { redis: false, channels: { load: open }, onDisconnect })
  await runLoad(url)
  await until(() => ends.length === 4, 'all have left')
  t.strictSame(ends, [1000, 1000, 1000, 1000])
})

t.test('while an instance is replaced, nothing is lost where channels have history', async (t) => {
  const redis = await startRedis(t)
  let published = 0
  const options: Options = {
    redis: redis.url, keyPrefix: randomPrefix(), channels: { load: kept }, rateLimit: false, onPublish: () => { published++ }
  }
  const old = await startApp(t, options)
  const other = await startApp(t, options)
  const balancer = await startBalancer(t, [old.url, other.url])
  const running = runLoad(balancer.url, '--connections', '40', '--ramp', '200ms', '--duration', '3s', '--channels', '4', '--publish', '200')
  await until(() => published > 100, 'there is traffic')
  const fresh = await startApp(t, options)
  balancer.targets.splice(0, 1, fresh.url)
  await old.app.close()
  const { code, report } = await running
  t.match(report, {
    connections: { asked: 40, opened: 40, gone: 0 },
    deliveries: { lost: 0, duplicated: 0, outOfOrder: 0, wrongOffsets: 0 },
    subscriptions: { unrecovered: 0 },
    problems: []
  })
  t.equal(code, 0)
  const { connections: { reconnects, closed, awayTime }, subscriptions: { recovered } } = report
  t.ok(reconnects > 0)
  t.equal(closed['3001 shutdown'], reconnects)
  t.equal(recovered, reconnects, 'each client is in one channel')
  t.equal(awayTime.count, reconnects)
  t.ok(report.deliveries.recoveredLatency.count > 0)
})

t.test('without history it finds what is lost', async (t) => {
  const redis = await startRedis(t)
  let published = 0
  const options: Options = {
    redis: redis.url, keyPrefix: randomPrefix(), channels: { load: open }, rateLimit: false, onPublish: () => { published++ }
  }
  const old = await startApp(t, options)
  const other = await startApp(t, options)
  const balancer = await startBalancer(t, [old.url, other.url])
  const args = ['--connections', '8', '--duration', '2s', '--channels', '1', '--publish', '200']
  const running = runLoad(balancer.url, ...args)
  await until(() => published > 50, 'there is traffic')
  balancer.targets.shift()
  await old.app.close()
  const { code, report } = await running
  t.equal(code, 1)
  const { lost, duplicated, outOfOrder, expected, received } = report.deliveries
  t.ok(lost > 0)
  t.strictSame(report.problems, [`${lost} deliveries were lost`])
  t.strictSame([duplicated, outOfOrder], [0, 0])
  t.equal(expected, received + lost)
  t.strictSame(report.subscriptions, { asked: 8, recovered: 0, unrecovered: 0, errors: {}, ended: {} })
})

t.test('plain clients measure what onMessage sends back', async (t) => {
  const { url } = await startApp(t, { redis: false, onMessage: (connection, data) => { connection.send(data) } })
  const { code, report } = await runLoad(url, '--protocol', 'plain')
  t.equal(code, 0, JSON.stringify(report))
  t.equal(report.url, `${url}/ws`)
  t.ok(report.publications.sent > 0)
  t.equal(report.deliveries.received, report.publications.sent)
  t.match(report.deliveries, { lost: 0, foreign: 0 })
})

t.test('what plain clients get of others is counted apart', async (t) => {
  const { app, url } = await startApp(t, {
    redis: false,
    onConnect: async connection => {
      await connection.subscribe('all')
      connection.send('welcome')
    },
    onMessage: (_connection, data) => app.realtime.publish('all', JSON.parse(String(data)))
  })
  const { code, report } = await runLoad(url, '--protocol', 'plain')
  t.equal(code, 0, JSON.stringify(report))
  const { received, foreign } = report.deliveries
  t.equal(received, report.publications.sent)
  t.equal(foreign, received * 3 + 4, 'three others, and a welcome each')
})

t.test('a plain service that answers nothing is no success', async (t) => {
  const { url } = await startApp(t, { redis: false, onMessage: () => {} })
  const { code, report } = await runLoad(url, '--protocol', 'plain')
  t.equal(code, 1)
  t.equal(report.deliveries.lost, report.publications.sent)
  t.match(report.problems, [/^nothing came back: onMessage/, /deliveries were lost$/])
})

t.test('a plain client that is told not to reconnect stays away', async (t) => {
  const { url } = await startApp(t, { redis: false }) // without onMessage, 1003
  const { code, report } = await runLoad(url, '--protocol', 'plain')
  t.equal(code, 1)
  t.match(report.connections, { gone: 4, reconnects: 0, closed: { '1003 this server does not take messages': 4 } })
  t.equal(report.problems[0], '4 clients were told not to reconnect')
})

t.test('without --publish it only holds connections', async (t) => {
  const { url } = await startApp(t, { redis: false, channels: { load: open } })
  const { code, report } = await runLoad(url, '--publish', '0')
  t.equal(code, 0)
  t.match(report, { publications: { sent: 0, perSecond: 0 }, deliveries: { expected: 0, latency: { count: 0 } } })
})

t.test('a limit on latency', async (t) => {
  const slow = async () => { await new Promise(resolve => { setTimeout(resolve, 30) }) }
  const { url } = await startApp(t, { redis: false, channels: { load: open }, onPublish: slow })
  const { code, report } = await runLoad(url, '--max-p99', '1ms')
  t.equal(code, 1)
  t.match(report.problems, [/^the 99th percentile of latency is [\d.]+ ms, above 1 ms$/])
})

t.test('clients that are refused for good do not try again', async (t) => {
  const { url } = await startApp(t, { redis: false, authenticate: () => { throw new ClientError(403, 'not you') } })
  const { code, report } = await runLoad(url)
  t.equal(code, 1)
  t.match(report.connections, { opened: 0, gone: 4 })
  t.equal(Object.values(report.connections.refused)[0], 4)
  t.match(Object.keys(report.connections.refused)[0], /^403 FST_CRWS_/)
  t.strictSame(report.problems, ['4 of 4 clients never connected', '4 clients were told not to reconnect', 'nothing was published'])
})

t.test('clients that are refused for the moment come back', async (t) => {
  let refuse = 3
  const authenticate = () => {
    if (refuse-- > 0) throw Object.assign(new Error('later'), { statusCode: 503 })
    return { user: 'one' }
  }
  const { url } = await startApp(t, { redis: false, authenticate, channels: { load: open } })
  const { code, report } = await runLoad(url)
  t.equal(code, 0, JSON.stringify(report))
  t.equal(Object.values(report.connections.refused)[0], 3)
  t.match(report.connections, { opened: 4, reconnects: 0 })
})

t.test('redirects are not followed', async (t) => {
  let requests = 0
  const server = createServer()
  server.on('upgrade', (_request, socket) => {
    requests++
    socket.end('HTTP/1.1 302 Found\r\nLocation: ws://elsewhere.example/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
  })
  t.teardown(() => server.close())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { report } = await runLoad(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
  t.strictSame(report.connections.refused, { '302 redirect to ws://elsewhere.example/, not followed': 4 })
  t.equal(requests, 4)
})

t.test('of a page that refuses it reads the beginning; a refusal that breaks off is a failure', async (t) => {
  let requests = 0
  const server = createServer()
  server.on('upgrade', (_request, socket) => {
    const isBroken = requests++ > 0
    socket.write(`HTTP/1.1 418 Teapot\r\nContent-Length: 9000\r\n\r\n${isBroken ? 'x' : 'x'.repeat(9_000)}`)
    if (isBroken) socket.end()
  })
  t.teardown(() => server.close())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const terminal = fakeTerminal()
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
  t.equal(await load(['--url', url, '--json', '--connections', '2', '--ramp', '20ms'], terminal), 1)
  const { connections: { refused, failed } } = JSON.parse(terminal.written.stdout)
  t.strictSame(refused, { '418 Teapot': 1 })
  t.ok(Object.keys(failed).length > 0)
})

t.test('where nobody listens it ends after the ramp, and says why', async (t) => {
  const { code, report } = await runLoad(`ws://127.0.0.1:${await freePort()}`, '--duration', '10m')
  t.equal(code, 1)
  t.match(Object.keys(report.connections.failed), [/^ECONNREFUSED/])
  t.strictSame(report.problems, ['4 of 4 clients never connected', 'nothing was published'])
})

t.test('each client gets a token of its own, or all get the same', async (t) => {
  const users = new Set<string>()
  const { url } = await startApp(t, {
    redis: false, token: { secret: SECRET, audience: 'chat' }, channels: { load: open }, onConnect: ({ user }) => { users.add(user) }
  })
  const { code } = await runLoad(url, '--token-secret', SECRET, '--token-claims', '{"aud":"chat"}')
  t.equal(code, 0)
  t.equal(users.size, 4)
  const { code: wrong, report } = await runLoad(url, '--token', 'a.b.c')
  t.equal(wrong, 1)
  t.match(report.connections, { opened: 0, gone: 4, closed: { '3500 invalid token': 4 } })
})

t.test('headers and an origin go with the upgrade', async (t) => {
  const seen: unknown[] = []
  const { url } = await startApp(t, {
    redis: false,
    channels: { load: open },
    allowedOrigins: ['https://chat.example.com'],
    authenticate: ({ headers: { cookie, origin } }) => {
      seen.push([cookie, origin])
      return { user: 'one' }
    }
  })
  const args = ['--connections', '1', '--header', 'cookie: session=1', '--header', 'x-more: 2', '--origin', 'https://chat.example.com']
  t.equal((await runLoad(url, ...args)).code, 0)
  t.strictSame(seen, [['session=1', 'https://chat.example.com']])
})

t.test('subscriptions and publications that rules refuse are named', async (t) => {
  const { url } = await startApp(t, { redis: false, channels: { closed: { publish: true }, silent: { subscribe: true } } })
  const closed = await runLoad(url, '--channel-prefix', 'closed:')
  t.strictSame(closed.report.subscriptions.errors, { '103 permission denied': 4 })
  t.match(closed.report.problems, [/^subscriptions were refused: does the option channels have the namespace/, 'nothing was published'])
  const silent = await runLoad(url, '--channel-prefix', 'silent:')
  t.equal(silent.report.publications.errors['103 permission denied'], silent.report.publications.sent)
  t.match(silent.report.problems, [/^publications were refused: /, 'nothing was delivered'])
  t.strictSame([closed.code, silent.code], [1, 1])
})

t.test('a subscription that the server ends is not expected to get more, and messages of others are counted apart', async (t) => {
  const { app, url } = await startApp(t, {
    redis: false,
    channels: { load: open },
    authenticate: () => ({ user: 'one', channels: ['other'] })
  })
  const running = runLoad(url, '--duration', '2s')
  const [one = '', other = ''] = await until(() => {
    const all = connectionsOf(app).flatMap(connection => Array.from(connection.subscriptions.keys())).filter(name => name.startsWith('load:'))
    return all.length === 4 ? Array.from(new Set(all)) : undefined
  }, 'all are subscribed') ?? []
  await app.realtime.publish('other', 1)
  await app.realtime.publish(one, { load: 'not a list' })
  await app.realtime.publish(other, { load: ['another run', 0, 0, 0, 0] })
  await app.realtime.unsubscribe('one', one)
  const { report } = await running
  t.match(report.subscriptions, { ended: { '2000 server unsubscribe': 2 } })
  t.match(report.deliveries, { lost: 0, foreign: 4 + 2 + 2 })
  t.ok(report.publications.unsent > 0, 'nobody is left in one of the channels')
})

t.test('Ctrl-C ends a run early, with its report', async (t) => {
  let published = 0
  const { url } = await startApp(t, { redis: false, channels: { load: open }, onPublish: () => { published++ } })
  const child = spawn(process.execPath, ['--import=tsx', 'cli.ts', 'load', '--url', url, '--connections', '3', '--duration', '10m'], {
    cwd: new URL('../..', import.meta.url), stdio: ['ignore', 'pipe', 'pipe']
  })
  t.teardown(() => child.kill('SIGKILL'))
  const [stdout, stderr] = [text(child.stdout), text(child.stderr)]
  await until(() => published > 0, 'there is traffic', 30_000)
  child.kill('SIGINT')
  const [code] = await once(child, 'exit')
  t.equal(code, 0)
  t.match(await stdout, /ended early[^]*connected +3 of 3[^]*lost +0\n[^]*\nOK\n$/)
  t.match(await stderr, `Connecting 3 sdk clients to ${url}/connection/websocket`)
})

t.test('a run goes on without those who read its progress', async (t) => {
  const { url } = await startApp(t, { redis: false, channels: { load: open } })
  const child = spawn(process.execPath, ['--import=tsx', 'cli.ts', 'load', '--url', url, '--connections', '2', '--ramp', '1ms', '--duration', '1s'], {
    cwd: new URL('../..', import.meta.url), stdio: ['ignore', 'pipe', 'pipe']
  })
  t.teardown(() => child.kill('SIGKILL'))
  child.stderr.destroy()
  const stdout = text(child.stdout)
  t.strictSame(await once(child, 'exit'), [0, null])
  t.match(await stdout, /\nOK\n$/)
})

t.test('a server that never answers is named, and so is why', async (t) => {
  const url = await startScripted(t, () => undefined)
  // The run's clock goes in steps, between which the sockets have their turn.
  let now = 0
  t.intercept(performance, 'now', { value: () => now })
  const clock = setInterval(() => { now += 200 }, 20)
  t.teardown(() => clearInterval(clock))
  const { code, report } = await runLoad(url, '--connections', '3')
  t.equal(code, 1)
  t.match(report.connections, { opened: 0, failed: { 'connect timeout': 3 } })
})

t.test('on a terminal the progress is one line that changes', async (t) => {
  const { url } = await startApp(t, { redis: false, channels: { load: open } })
  const terminal = fakeTerminal(true)
  t.equal(await load(['--url', url, '--connections', '2', '--ramp', '1ms', '--duration', '2s'], terminal), 0)
  const [announcement, progress, rest] = terminal.written.stderr.split('\n')
  t.match(announcement, /^Connecting 2 sdk clients/)
  t.match(progress, /\r1 s traffic {2}open 2\/2 {2}connects \d\/s {2}published \d+\/s {2}delivered \d+\/s {2}p99 [\d.]+ ms {2}reconnects 0 {2}lost 0/)
  t.equal(rest, '')
  t.match(terminal.written.stdout, /^Load test of ws:[^]*\nOK\n$/)
})

t.test('--help lists the options on stdout', async (t) => {
  const terminal = fakeTerminal()
  t.equal(await load(['--help'], terminal), 0)
  t.match(terminal.written, { stdout: /^Usage: [^]*--url URL/, stderr: '' })
})
