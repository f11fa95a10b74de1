import Fastify from 'fastify'
import t from 'tap'
import cloudRunWebSocket from '../../index.ts'
import type { Options } from '../../index.ts'

const quiet: Options = { redis: false, shutdown: false }

t.test('a route that the app has already is named together with the option that moves ours', async (t) => {
  for (const [option, path] of Object.entries({ path: '/ws', sdkPath: '/connection/websocket', healthPath: '/health', readyPath: '/ready' })) {
    const app = Fastify()
    t.teardown(() => app.close())
    app.get(path, async () => 'mine')
    const error = await t.rejects(async () => await app.register(cloudRunWebSocket, quiet), { code: 'FST_CRWS_ROUTE_TAKEN' }) as unknown as Error
    t.equal(error.message, `The route GET ${path} already exists. Choose another path with the option ${option}, or leave the route out with ${option}: false`)
  }
})

t.test('the prefix of a scope counts, and other methods and paths do not', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/ws', async () => 'mine')
  app.post('/api/ws', async () => 'mine')
  app.get('/api/*', async () => 'mine')
  await app.register(async scope => { await scope.register(cloudRunWebSocket, quiet) }, { prefix: '/api' })
  t.equal((await app.inject('/api/health')).json().status, 'ok')

  const other = Fastify()
  t.teardown(() => other.close())
  other.get('/api/health', async () => 'mine')
  other.register(async scope => { await scope.register(cloudRunWebSocket, quiet) }, { prefix: '/api' })
  await t.rejects(async () => await other.ready(), { code: 'FST_CRWS_ROUTE_TAKEN', message: /GET \/api\/health .*healthPath/ })
})

t.test('two options with one path are both named', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(async () => await app.register(cloudRunWebSocket, { ...quiet, readyPath: '/health' }), {
    code: 'FST_CRWS_INVALID_OPTION', message: 'Invalid option "readyPath": got \'/health\', expected a path other than that of healthPath'
  })
})

t.test('the routes of fallback are named by their option, whatever the method is', async (t) => {
  const paths = { httpStreamPath: '/connection/http_stream', ssePath: '/connection/sse', emulationPath: '/emulation', uniSsePath: '/connection/uni_sse' }
  for (const [option, url] of Object.entries(paths)) {
    for (const method of ['GET', 'POST', 'OPTIONS', 'DELETE']) {
      const app = Fastify()
      t.teardown(() => app.close())
      app.route({ method, url, handler: async () => 'mine' })
      await t.rejects(async () => await app.register(cloudRunWebSocket, { ...quiet, fallback: true }), {
        code: 'FST_CRWS_ROUTE_TAKEN',
        message: `The route ${method} ${url} already exists. Choose another path with the option fallback.${option}, or leave the route out with fallback.${option}: false`
      })
    }
  }
  const app = Fastify()
  t.teardown(() => app.close())
  await t.rejects(async () => await app.register(cloudRunWebSocket, { ...quiet, fallback: { ssePath: '/ws' } }), {
    code: 'FST_CRWS_INVALID_OPTION', message: /"fallback\.ssePath": got '\/ws', expected a path other than that of path/
  })
})
