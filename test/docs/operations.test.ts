import t from 'tap'
import { startApp } from '../helpers/app.ts'
import { importBlock } from '../helpers/docs.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { freePort } from '../helpers/free-port.ts'
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
