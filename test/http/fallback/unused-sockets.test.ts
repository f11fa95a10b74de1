import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import t from 'tap'
import { UnusedSockets } from '../../../lib/http/fallback/unused-sockets.ts'
import type { App } from '../../helpers/app.ts'
import { startInstances } from '../../helpers/sdk.ts'
import { httpOf, streamClient } from '../../helpers/streams.ts'

t.test('app.close() waits neither for the spare socket of a fetch that was ended, nor for one on which nothing came', { timeout: 30_000 }, async (t) => {
  const [{ app, url }] = await startInstances(t, 1, { fallback: true }) as [App]
  const client = await streamClient(t, url, 'http_stream', 'json').connected()
  client.client.disconnect()
  const { port } = new URL(httpOf(url))
  const silent = connect(Number(port), '127.0.0.1')
  const closed = once(silent, 'close')
  await once(silent, 'connect')
  await app.close()
  await closed
  t.pass('it has closed, well before Node.js gives up such a socket')
})

t.test('a server that is not of HTTP/1.1 is left alone', async (t) => {
  const server = createServer()
  new UnusedSockets(server).destroy()
  t.strictSame(server.listenerCount('connection'), 0)
})
