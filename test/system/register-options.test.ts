import Fastify from 'fastify'
import t from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Options } from '../../index.ts'
import { cloudLogging } from '../../lib/google/cloud-logging.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { collectLog } from '../helpers/log.ts'
import { rejected } from '../helpers/ws-client.ts'
import { startApp } from '../helpers/app.ts'

const quiet: Options = { redis: false, shutdown: false }

t.test('logLevel holds for the routes and the entries of the plugin, and for nothing else', async (t) => {
  const { logger, entries } = collectLog()
  const { app, url } = await startApp(t, { ...quiet, logLevel: 'warn', allowedOrigins: [] }, { logger })
  t.strictSame(entries.filter(({ event }) => event !== undefined), [], 'plugin.started is an info')
  await app.inject('/ws')
  t.strictSame(entries.filter(({ req }) => req?.url === '/ws'), [], 'nor are requests to our routes logged')
  await app.inject('/elsewhere')
  t.match(entries.filter(({ req }) => req?.url === '/elsewhere'), [{ level: 30 }])
  await rejected(`${url}/ws`, { origin: 'https://a.example' })
  t.match(entries.filter(({ event }) => event === 'connection.rejected'), [{ level: 40 }], 'warnings are')
})

t.test('a lower logLevel than that of the app shows more of the plugin', async (t) => {
  const { logger, entries } = collectLog({ level: 'warn' })
  const { app } = await startApp(t, { ...quiet, logLevel: 'info' }, { logger })
  await app.inject('/ws')
  t.match(entries.map(({ event, req }) => event ?? req?.url).filter(Boolean), ['plugin.started', '/ws'])
})

t.test('on Cloud Run our own logger has the level, too', async (t) => {
  setEnvironment(t, { K_SERVICE: 'chat', GCE_METADATA_HOST: '127.0.0.1:1' })
  const lines = t.capture(process.stdout, 'write').args
  await startApp(t, { ...quiet, logLevel: 'error' }, { logger: collectLog().logger })
  t.notMatch(lines().flat().join(''), /plugin\.started|"hint"/)
  const { logger, entries } = collectLog(cloudLogging())
  await startApp(t, { ...quiet, logLevel: 'error' }, { logger })
  t.strictSame(entries.filter(({ event }) => event !== undefined), [], 'so has the app\'s own, made with cloudLogging()')
})

t.test('logSerializers hold for the routes of the plugin', async (t) => {
  const { logger, entries } = collectLog()
  const app = Fastify({ logger })
  t.teardown(() => app.close())
  await app.register(cloudRunWebSocket, { ...quiet, logSerializers: { tenant: (value: string) => `tenant ${value}` } })
  app.addHook('onRequest', async request => { request.log.info({ tenant: 'a' }, 'seen') })
  app.get('/own', async () => 'ok')
  await app.inject('/ws')
  await app.inject('/own')
  t.strictSame(entries.filter(({ msg }) => msg === 'seen').map(({ tenant }) => tenant), ['tenant a', 'a'])
})

t.test('the probes stay silent whatever logLevel is', async (t) => {
  const { logger, entries } = collectLog({ level: 'trace' })
  const { app } = await startApp(t, { ...quiet, logLevel: 'trace' }, { logger })
  await app.inject('/health')
  t.strictSame(entries.filter(({ req }) => req !== undefined), [])
})

t.test('prefix gives no route a prefix: it is the old name of keyPrefix', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  const warning = new Promise<Error>(resolve => process.once('warning', resolve))
  await app.register(cloudRunWebSocket, { ...quiet, prefix: '/api' })
  t.match(await warning, { code: 'FST_CRWS_DEP001', message: /It prefixes Redis keys\. For routes under a path, register the plugin in a scope/ })
  t.ok(app.hasRoute({ method: 'GET', url: '/ws' }))
})
