import Fastify from 'fastify'
import t from 'tap'
import cloudRunWebSocket from '../../index.ts'
import { startServer } from '../helpers/server-process.ts'
import { until } from '../helpers/until.ts'
import { connect } from '../helpers/ws-client.ts'

t.setTimeout(300_000)
const parallel = { timeout: 240_000 }

const listeners = () => (['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR2', 'uncaughtException', 'unhandledRejection', 'beforeExit'] as const).map(event => process.listenerCount(event))

await t.test('only SIGTERM and SIGINT are listened to, once for all apps, until the last one is closed', async (t) => {
  const before = listeners()
  const apps = [Fastify(), Fastify()] as const
  t.teardown(() => Promise.all(apps.map(app => app.close())))
  for (const app of apps) {
    await app.register(cloudRunWebSocket)
    t.strictSame(listeners(), before.map((count, i) => i < 2 ? count + 1 : count))
  }
  await apps[0].close()
  t.strictSame(listeners(), before.map((count, i) => i < 2 ? count + 1 : count))
  await apps[1].close()
  t.strictSame(listeners(), before)
  const again = Fastify()
  t.teardown(() => again.close())
  await again.register(cloudRunWebSocket)
  t.strictSame(listeners(), before.map((count, i) => i < 2 ? count + 1 : count), 'and again for the next one')
})

await t.test('without shutdown.signals, or without shutdown, nothing is listened to', async (t) => {
  const before = listeners()
  for (const shutdown of [false, { signals: false }] as const) {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(cloudRunWebSocket, { shutdown })
    t.strictSame(listeners(), before)
  }
})

// Starting a process takes a while on a busy machine; what these wait for overlaps.
t.jobs = 4

t.test('with shutdown.signals false a signal keeps its meaning', parallel, async (t) => {
  const server = await startServer(t, { options: { shutdown: { signals: false } } })
  server.child.kill('SIGTERM')
  t.strictSame(await server.exited, { code: null, signal: 'SIGTERM' })
})

t.test('other signals keep their meaning', parallel, async (t) => {
  const server = await startServer(t)
  server.child.kill('SIGHUP')
  t.strictSame(await server.exited, { code: null, signal: 'SIGHUP' })
})

t.test('an uncaught exception of the app still ends the process', parallel, async (t) => {
  const server = await startServer(t)
  server.child.send('throw')
  t.strictSame(await server.exited, { code: 1, signal: null })
})

t.test('a hook of the app that fails is logged, and the process exits with 0', parallel, async (t) => {
  const server = await startServer(t, { fail: true, sources: true })
  const client = await connect(t, `${server.urls[0]}/ws`)
  server.child.kill('SIGTERM')
  t.strictSame(await server.exited, { code: 0, signal: null })
  t.equal((await client.closed).code, 1001)
  t.match(server.log.find(({ msg }) => msg === 'Shutdown failed'), { level: 50, err: { message: 'the hook failed', stack: /server\.mjs/ } })
})

t.test('an app that does not listen ends too', parallel, async (t) => {
  const server = await startServer(t, { listen: false })
  server.child.kill('SIGINT')
  t.strictSame(await server.exited, { code: 0, signal: null })
})

t.test('a signal that comes again during the drain changes nothing', parallel, async (t) => {
  const server = await startServer(t, { sources: true })
  const clients = await Promise.all(Array.from({ length: 40 }, () => connect(t, `${server.urls[0]}/ws`)))
  server.child.kill('SIGTERM')
  await until(() => server.log.some(({ event }) => event === 'drain.started'), 'the drain has begun')
  for (let i = 0; i < 3; i++) server.child.kill('SIGTERM')
  t.strictSame(await server.exited, { code: 0, signal: null })
  const ends = await Promise.all(clients.map(client => client.closed))
  t.strictSame(ends.map(({ code }) => code), clients.map(() => 1001))
})

t.test('a signal that comes again after the drain changes nothing either', parallel, async (t) => {
  const server = await startServer(t, { hang: 'onClose', options: { shutdown: { timeout: '5s' } } })
  await connect(t, `${server.urls[0]}/ws`)
  server.child.kill('SIGTERM')
  await until(() => server.log.some(({ event }) => event === 'drain.finished'), 'the drain has ended')
  server.child.kill('SIGTERM')
  t.strictSame(await server.exited, { code: 0, signal: null })
})

t.test('one Ctrl-C under npm start is two SIGINTs, and a drain all the same', parallel, async (t) => {
  const server = await startServer(t)
  const client = await connect(t, `${server.urls[0]}/ws`)
  server.child.send('SIGINT twice')
  t.strictSame(await server.exited, { code: 0, signal: null })
  t.equal((await client.closed).code, 1001)
})

t.test('a SIGINT from somebody who has waited for a while ends the process at once', parallel, async (t) => {
  const server = await startServer(t, { hang: 'onClose', options: { shutdown: { timeout: '1h' } }, sources: true })
  const client = await connect(t, `${server.urls[0]}/ws`)
  server.child.kill('SIGINT')
  t.equal((await client.closed).code, 1001)
  await until(() => {
    server.child.kill('SIGINT')
    return server.child.exitCode !== null
  }, 'it has ended', 60_000)
  t.strictSame(await server.exited, { code: 1, signal: null })
})
