import Fastify from 'fastify'
import { once } from 'node:events'
import { request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import cloudRunWebSocket from '../../../index.ts'
import { openRaw } from '../../helpers/raw-socket.ts'
import { wireClient, wires } from '../../helpers/streams.ts'

t.test("the app's timeouts cut no stream, and its parsers and limits are not for our bodies", async (t) => {
  const app = Fastify({
    connectionTimeout: 300, requestTimeout: 300, keepAliveTimeout: 300, bodyLimit: 100, http: { connectionsCheckingInterval: 50 }
  })
  t.teardown(() => app.close())
  app.addContentTypeParser('application/json', (_request, _payload, done) => done(new Error('not for our bodies')))
  app.setErrorHandler((_error, _request, reply) => reply.code(500).send('not for our errors'))
  app.addHook('onSend', async (_request, reply, payload) => { reply.header('x-app', 'set'); return payload })
  await app.register(cloudRunWebSocket, {
    fallback: true,
    shutdown: { signals: false, timeout: 500 },
    channels: { chat: { subscribe: true, publish: true, history: { size: 100, ttl: '1m' } } }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const url = `ws://127.0.0.1:${(app.server.address() as AddressInfo).port}`
  const clients = wires.map(wire => wireClient(t, url, wire))
  const subscriptions = await Promise.all(clients.map(client => client.subscribe('chat:1').subscribed()))

  const [silent, slow] = [await openRaw(t, url), await openRaw(t, url)]
  slow.socket.write('POST /any HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n')
  await Promise.all([silent, slow].map(({ socket }) => once(socket, 'close')))
  t.pass('the timeouts are over')

  const texts = wires.map((_wire, i) => `${i}${'x'.repeat(200)}`)
  for (const [i, client] of clients.entries()) await client.publish('chat:1', texts[i])
  for (const [i, subscription] of subscriptions.entries()) {
    await subscription.arrived(texts.length)
    t.strictSame(subscription.data, texts)
    t.equal(clients[i]!.events.connected.length, 1, 'it has connected once')
  }
})

t.test('an app that sets CORS headers itself, as @fastify/cors does, or Express middleware, doubles none of ours', async (t) => {
  const page = 'https://app.example'
  const app = Fastify()
  t.teardown(() => app.close())
  app.addHook('onRequest', async (_request, reply) => {
    reply.raw.setHeader('Access-Control-Allow-Origin', 'https://other.example')
    reply.raw.setHeader('Access-Control-Allow-Credentials', 'true')
    reply.header('Access-Control-Allow-Origin', 'https://other.example').header('vary', 'Origin')
  })
  app.setErrorHandler((_error, _request, reply) => reply.code(500).send('not for our errors'))
  await app.register(cloudRunWebSocket, {
    fallback: true, allowedOrigins: [page], shutdown: false, channels: { chat: { subscribe: true } }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const port = (app.server.address() as AddressInfo).port
  const json = { origin: page, 'content-type': 'application/json' }
  const asked = { origin: page, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' }
  const connect = '{"id":1,"connect":{}}'
  const requests: [method: string, path: string, headers: object, body: string, status: number, code?: string][] = [
    ['POST', '/connection/http_stream', json, connect, 200],
    ['POST', '/connection/http_stream', json, '', 400, 'FST_CRWS_STREAM_REQUEST'],
    ['GET', `/connection/sse?cf_connect=${encodeURIComponent(connect)}`, { origin: page }, '', 200],
    ['GET', '/connection/uni_sse?channel=chat:1', { origin: page }, '', 200],
    ['POST', '/emulation', json, '{"session":"x","node":"x","data":"{}"}', 404, 'FST_CRWS_SESSION_UNKNOWN'],
    ['POST', '/emulation', json, 'x'.repeat(200_000), 413, 'FST_CRWS_BODY_TOO_LARGE'],
    ['OPTIONS', '/emulation', asked, '', 204]
  ]
  for (const [method, path, headers, body, status, code] of requests) {
    const sent = request({ port, method, path, headers: { ...headers } }).end(body)
    const [response] = await once(sent, 'response') as [IncomingMessage]
    t.equal(response.statusCode, status, `${method} ${path}`)
    t.strictSame(response.headersDistinct['access-control-allow-origin'], [page], `${method} ${path}`)
    t.strictSame(response.headersDistinct['access-control-allow-credentials'], ['true'])
    if (code !== undefined) t.equal((JSON.parse(String(await once(response, 'data')))).code, code)
    sent.destroy()
  }
})
