import Fastify from 'fastify'
import type { FastifyServerOptions } from 'fastify'
import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import t from 'tap'
import { remoteAddress } from '../../lib/google/client-address.ts'
import type { TrustedProxies } from '../../lib/google/client-address.ts'
import { setEnvironment } from '../helpers/environment.ts'

const SOCKET = '127.0.0.1'

async function addressOf (forwarded: string | string[] | undefined, trustedProxies: TrustedProxies, options: FastifyServerOptions = {}) {
  const app = Fastify(options)
  app.get('/', async (request) => ({ address: remoteAddress(request, trustedProxies) }))
  const response = await app.inject({ url: '/', ...(forwarded !== undefined && { headers: { 'x-forwarded-for': forwarded } }) })
  return response.json().address
}

/** What a header may be that tells nothing: too few entries, and entries that are no addresses. */
const useless = [undefined, '', ' ', ',', ', ,', 'unknown', 'unknown, x', '203.0.113.1:80, x:1', '256.1.1.1, 1.1.1', '_hidden, "[::1]"', '\u0000, \u00ff']

t.test('on Cloud Run the front end has added the last entry, and each trusted proxy one before it', async (t) => {
  setEnvironment(t, { K_SERVICE: 'chat' })
  const forwarded = '192.0.2.1, 203.0.113.1, 198.51.100.1'
  t.equal(await addressOf(forwarded, 0), '198.51.100.1', 'run.app')
  t.equal(await addressOf(forwarded, 1), '203.0.113.1', "Google's external load balancer")
  t.equal(await addressOf(forwarded, 2), '192.0.2.1')
  t.equal(await addressOf(forwarded, 3), SOCKET, 'too few entries')
  t.equal(await addressOf('203.0.113.1', 1), SOCKET)
  t.equal(await addressOf('2001:db8::1,  2001:db8::2', 1), '2001:db8::1')
  t.equal(await addressOf('::ffff:203.0.113.1', 0), '::ffff:203.0.113.1')
  for (const header of useless) for (const proxies of [0, 1, 1_000]) t.equal(await addressOf(header, proxies), SOCKET)
})

t.test('elsewhere only what trusted proxies have added counts', async (t) => {
  setEnvironment(t, { K_SERVICE: undefined })
  t.equal(await addressOf('192.0.2.1, 203.0.113.1', 0), SOCKET)
  t.equal(await addressOf('192.0.2.1, 203.0.113.1', 1), '203.0.113.1', 'what the client wrote before it does not help')
  t.equal(await addressOf('192.0.2.1, 203.0.113.1', 2), '192.0.2.1')
  for (const header of useless) for (const proxies of [0, 1, 1_000]) t.equal(await addressOf(header, proxies), SOCKET)
})

t.test("on GKE and App Engine Google's load balancer has added the client and itself, and what comes before may be forged", async (t) => {
  for (const env of [{ KUBERNETES_SERVICE_HOST: '10.0.0.1' }, { GAE_SERVICE: 'chat' }]) {
    await t.test(JSON.stringify(env), async (t) => {
      setEnvironment(t, { K_SERVICE: undefined, ...env })
      t.equal(await addressOf('203.0.113.1, 198.51.100.1', 2), '203.0.113.1')
      t.equal(await addressOf('192.0.2.1, 203.0.113.1, 198.51.100.1', 2), '203.0.113.1')
      t.equal(await addressOf('203.0.113.1, 198.51.100.1, 10.0.0.9', 3), '203.0.113.1', 'the proxy of the instance has appended one more')
    })
  }
})

t.test("while no proxies are trusted here Fastify's trustProxy decides, else it does not", async (t) => {
  for (const K_SERVICE of ['chat', undefined]) {
    setEnvironment(t, { K_SERVICE })
    t.equal(await addressOf('192.0.2.1, 203.0.113.1', 0, { trustProxy: true }), '192.0.2.1')
    t.equal(await addressOf('192.0.2.1, 203.0.113.1', 0, { trustProxy: SOCKET }), '203.0.113.1')
  }
  t.equal(await addressOf('192.0.2.1, 203.0.113.1', 1, { trustProxy: true }), '203.0.113.1')
})

t.test('a function says what the address is; where it does not, the address of the socket counts', async (t) => {
  const header: TrustedProxies = ({ headers }) => headers['x-forwarded-for'] as string
  t.equal(await addressOf('203.0.113.1', header), '203.0.113.1')
  t.equal(await addressOf('x', header), SOCKET)
  t.equal(await addressOf(undefined, header), SOCKET)
  t.equal(await addressOf('203.0.113.1', () => { throw new Error('no') }), SOCKET)
  t.equal(await addressOf('203.0.113.1', (() => Symbol('x')) as never), SOCKET)
  t.equal(await addressOf('203.0.113.1', (async () => { throw new Error('no') }) as never), SOCKET, 'which ends no process')
})

t.test("requests of Node's, and injected ones, have an address or none", async (t) => {
  setEnvironment(t, { K_SERVICE: 'chat' })
  const request = new IncomingMessage(new Socket())
  t.equal(remoteAddress(request, 0), undefined)
  t.equal(remoteAddress(request, () => '203.0.113.1'), undefined)
  request.headers['x-forwarded-for'] = '203.0.113.1'
  t.equal(remoteAddress(request, 0), '203.0.113.1')
  t.equal(remoteAddress({ headers: {} } as never, 0), undefined)
})
