import { metrics } from '@opentelemetry/api'
import type { MeterProvider } from '@opentelemetry/sdk-metrics'
import t from 'tap'
import { parse } from 'yaml'
import { startApp } from '../helpers/app.ts'
import { block, importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { freePort } from '../helpers/free-port.ts'
import { startMetadataServer } from '../helpers/metadata.ts'
import { startOtlpServer } from '../helpers/otlp.ts'
import { connect } from '../helpers/ws-client.ts'

t.test('Prometheus reads the metrics of an app that has its exporter', async (t) => {
  const port = await freePort()
  setEnvironment(t, { OTEL_EXPORTER_PROMETHEUS_PORT: String(port) })
  await importBlock(t, 'docs/operations.md', 'prometheus')
  const { url } = await startApp(t, { onConnect: connection => connection.send('hello') })
  const client = await connect(t, `${url}/ws`)
  await client.next()
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  t.match(text, /^websocket_server_connection_active\{.*websocket_protocol="plain".*\} 1$/m)
})

t.test("an app's own SDK sends what Google needs, by application default credentials", async (t) => {
  metrics.disable() // that of the block before
  const otlp = await startOtlpServer(t)
  const metadata = await startMetadataServer(t)
  setEnvironment(t, { K_SERVICE: 'chat', K_REVISION: 'chat-7', ...metadata.env, OTEL_EXPORTER_OTLP_ENDPOINT: otlp.url })
  const { sdk } = await importBlock(t, 'docs/operations.md', 'own-sdk', 'sdk')
  const { url, app } = await startApp(t, { redis: false })
  await connect(t, `${url}/ws`)
  await (metrics.getMeterProvider() as MeterProvider).forceFlush()
  t.match(otlp.requests.at(-1), {
    path: '/v1/metrics',
    headers: { authorization: /^Bearer token-/ },
    resource: {
      'gcp.project_id': 'project-1',
      'cloud.platform': 'gcp_cloud_run',
      'cloud.region': 'europe-west1',
      'service.name': 'chat',
      'service.instance.id': '00bf4bf02d'
    }
  })
  t.match(otlp.latest('websocket.server.connection.active'), { plain: 1 })
  await app.close()
  await sdk.shutdown()
  metrics.disable()
})

t.test('the collector hands metrics on by OTLP, in batches that Google takes', async (t) => {
  const { receivers, processors, exporters, extensions, service } = parse(block('docs/operations.md', 'collector'))
  const { metrics: pipeline } = service.pipelines
  for (const [parts, used] of [[receivers, pipeline.receivers], [processors, pipeline.processors], [exporters, pipeline.exporters]]) {
    t.strictSame(Object.keys(parts), used)
  }
  t.strictSame(Object.keys(extensions), service.extensions)
  t.match(exporters.otlphttp, { endpoint: 'https://telemetry.googleapis.com', auth: { authenticator: service.extensions[0] } })
  t.equal(processors.batch.send_batch_max_size, 200)
  t.match(receivers.otlp.protocols.http.endpoint, /:4318$/)
})

t.test('a global hook that asks for a login lets probes pass', async (t) => {
  const { app } = await importBlock(t, 'docs/operations.md', 'probes', 'app')
  t.teardown(() => app.close())
  app.get('/private', async () => 'secret')
  const statusOf = async (url: string, cookie?: string) => (await app.inject({ url, headers: cookie ? { cookie } : {} })).statusCode
  t.equal(await statusOf('/health'), 200)
  t.equal(await statusOf('/ready'), 200)
  t.equal(await statusOf('/private'), 401)
  t.equal(await statusOf('/private', 'session=42'), 200)
})
