import { once } from 'node:events'
import { createServer, request as httpRequest } from 'node:http'
import type { IncomingMessage } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import t from 'tap'
import type { Test } from 'tap'
import { cloudLogging } from '../../index.ts'
import { startApp } from '../helpers/app.ts'
import { setEnvironment } from '../helpers/environment.ts'
import { collectLog } from '../helpers/log.ts'
import { until } from '../helpers/until.ts'
import { connect, rejected } from '../helpers/ws-client.ts'

/** The address of the load balancer's forwarding rule. */
const LOAD_BALANCER = '198.51.100.7'

/**
 * Google's external Application Load Balancer: it appends the client's address and its own to what the client wrote
 * into X-Forwarded-For, and forwards the upgrade. Returns its URL.
 */
async function startLoadBalancer (t: Test, target: string): Promise<string> {
  const server = createServer()
  server.on('upgrade', (request, client: Socket, head) => {
    const { 'x-forwarded-for': written, ...headers } = request.headers
    const forwarded = [written, client.remoteAddress, LOAD_BALANCER].filter(entry => entry !== undefined).join(',')
    const forward = httpRequest(target.replace('ws', 'http') + request.url, { headers: { ...headers, 'x-forwarded-for': forwarded } })
    const write = ({ statusCode, statusMessage, rawHeaders }: IncomingMessage, body = '') => {
      const lines = Array.from({ length: rawHeaders.length / 2 }, (_, i) => `${rawHeaders[2 * i]}: ${rawHeaders[2 * i + 1]}\r\n`)
      client.write(`HTTP/1.1 ${statusCode} ${statusMessage}\r\n${lines.join('')}\r\n${body}`)
    }
    forward.on('upgrade', (upgraded, backend, first) => {
      write(upgraded)
      client.write(first)
      backend.write(head)
      client.pipe(backend).pipe(client)
      client.on('close', () => backend.destroy())
      backend.on('close', () => client.destroy())
    })
    forward.on('response', async (refused) => {
      write(refused, Buffer.concat(await refused.toArray()).toString())
      client.end()
    })
    forward.end()
    t.teardown(() => client.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}`
}

t.test("behind Google's load balancer the rate limit and the log see the client, whatever it writes into the header", async (t) => {
  setEnvironment(t, { K_SERVICE: 'chat', GOOGLE_CLOUD_PROJECT: 'project-1', GCE_METADATA_HOST: '127.0.0.1:1', CLOUD_RUN_MAX_INSTANCES: '1' })
  const { logger, entries } = collectLog(cloudLogging())
  const limited = { rateLimit: { connections: { max: 2, timeWindow: 60_000 } }, redis: false, telemetry: false } as const
  const { url } = await startApp(t, { ...limited, trustedProxies: 1 }, { logger })
  const balancer = await startLoadBalancer(t, url)
  const from = (localAddress: string, written?: string) => ({ localAddress, ...written && { headers: { 'x-forwarded-for': written } } })

  const opened = [
    await connect(t, `${balancer}/ws`, from('127.0.0.2')),
    await connect(t, `${balancer}/ws`, from('127.0.0.2', '203.0.113.1')),
    await connect(t, `${balancer}/ws`, from('127.0.0.3', '127.0.0.2, 127.0.0.2'))
  ]
  t.equal(opened.length, 3, 'each client has a limit of its own')
  t.equal((await rejected(`${balancer}/ws`, from('127.0.0.2'))).statusCode, 429)
  t.equal((await rejected(`${balancer}/ws`, from('127.0.0.2', '203.0.113.9, 203.0.113.10'))).statusCode, 429, 'which it cannot escape')

  const logged = () => entries.filter(({ httpRequest }) => httpRequest?.status === 101).map(({ httpRequest }) => httpRequest.remoteIp)
  await until(() => logged().length === 3, 'every connection is logged')
  t.strictSame(logged(), ['127.0.0.2', '127.0.0.2', '127.0.0.3'])

  await t.test('an app that trusts no proxy takes the load balancer for the client of everybody', async (t) => {
    const wrong = await startApp(t, limited)
    const balancer = await startLoadBalancer(t, wrong.url)
    for (const client of ['127.0.0.2', '127.0.0.3']) await connect(t, `${balancer}/ws`, from(client))
    t.equal((await rejected(`${balancer}/ws`, from('127.0.0.4'))).statusCode, 429)
  })
})
