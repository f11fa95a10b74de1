import t from 'tap'
import { startEntry } from '../../lib/observability/start-entry.ts'
import { resolveOptions } from '../../lib/options/resolve.ts'
import { startApp } from '../helpers/app.ts'
import { collectLog } from '../helpers/log.ts'
import type { Options } from '../../index.ts'

const entryOf = (options: Options, prefix = '') => startEntry(resolveOptions(options, {}), prefix)

t.test('one entry at the start says which broker, which routes and which origins', async (t) => {
  const { logger, entries } = collectLog()
  await startApp(t, { redis: false, maxConnections: 77 }, { logger })
  const started = entries.filter(({ event }) => event === 'plugin.started')
  t.match(started, [{
    level: 30,
    broker: 'memory',
    routes: ['/ws', '/connection/websocket', '/health', '/ready'],
    origins: 'same-host',
    maxConnections: 77,
    msg: 'WebSockets at /ws and /connection/websocket; in-process broker: instances are not joined; browsers may connect from the same host'
  }])
  t.equal(started.length, 1)
})

t.test('an HTTP API is told, and none of its keys', async (t) => {
  const { fields, text } = entryOf({ apiPath: '/api', api: { key: 'a-key-that-is-a-secret' } }, '/v1')
  t.match(fields, { routes: ['/v1/ws', '/v1/connection/websocket', '/v1/health', '/v1/ready', '/v1/api'] })
  t.match(text, /; HTTP API at \/v1\/api; browsers/)
  t.notMatch(JSON.stringify(fields) + text, /secret/)
})

t.test('Redis is named without credentials', async (t) => {
  const { fields, text } = entryOf({ redis: 'redis://ada:hush@10.0.0.3:6380', path: false, allowedOrigins: '*', maxConnections: 950 }, '/api')
  t.strictSame(fields, {
    broker: 'redis', redis: '10.0.0.3:6380', routes: ['/api/connection/websocket', '/api/health', '/api/ready'], origins: '*', maxConnections: 950
  })
  t.equal(text, 'WebSockets at /api/connection/websocket; instances are joined by Redis at 10.0.0.3:6380; browsers may connect from anywhere')
})

t.test('origins are listed, and an app without WebSocket routes is told so', async (t) => {
  t.match(entryOf({ allowedOrigins: ['https://a.example', /\.b\.example$/] }), {
    fields: { origins: ['https://a.example', '/\\.b\\.example$/'] }, text: /browsers may connect from https:\/\/a\.example, \/\\\.b\\\.example\$\/$/
  })
  t.match(entryOf({ allowedOrigins: [] }), { text: /browsers may connect from nowhere$/ })
  const headless = entryOf({ path: false, sdkPath: false, healthPath: false, readyPath: false, maxConnections: 1 })
  t.strictSame(headless, { fields: { broker: 'memory', routes: [], origins: 'same-host', maxConnections: 1 }, text: 'No WebSocket route; in-process broker: instances are not joined' })
})

t.test('the routes of fallback are told', async (t) => {
  const streams = ['/v1/connection/http_stream', '/v1/connection/sse', '/v1/emulation', '/v1/connection/uni_sse']
  const { fields, text } = entryOf({ fallback: true, path: false, sdkPath: false, healthPath: false, readyPath: false }, '/v1')
  t.match(fields, { routes: streams })
  t.equal(text, `No WebSocket route; fallback at ${streams.join(', ')}; in-process broker: instances are not joined; browsers may connect from the same host`)
})
