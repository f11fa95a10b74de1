import t from 'tap'
import type { Test } from 'tap'
import { history, startNode } from '../broker-contract.ts'
import type { Node } from '../broker-contract.ts'
import { createAuthority } from '../../helpers/certificates.ts'
import { randomPrefix } from '../../helpers/prefix.ts'
import { command } from '../../helpers/redis.ts'
import { startTlsCluster, startTlsRedis } from '../../helpers/redis-tls.ts'
import { until } from '../../helpers/until.ts'

const HOST = '127.0.0.1'
const authority = await createAuthority(t)

/** Starts an instance that has Redis from its environment. */
const startWith = (t: Test, env: NodeJS.ProcessEnv) => startNode(t, undefined, randomPrefix(), undefined, env)

/** Waits until a publish is refused for this reason. */
const refusedFor = (node: Node, reason: RegExp) =>
  until(() => node.publish('room', 1).catch(({ cause }) => reason.test(cause.message)), `it is refused: ${reason}`, 30_000)

t.test('a certificate that has the address as an alternative name, or as the common name, is taken', async (t) => {
  for (const request of [{ cn: 'redis', san: [`IP:${HOST}`] }, { cn: HOST }]) {
    const redis = await startTlsRedis(t, authority, await authority.issue(request))
    const node = await startWith(t, { REDIS_URL: `rediss://${HOST}:${redis.tlsPort}`, REDIS_CA_FILE: authority.file })
    await node.up()
    await node.subscribe('room', true)
    await node.publish('room', 'hello', { history })
    await node.arrived('room', 1)
    t.strictSame(node.data('room'), ['hello'], JSON.stringify(request))
  }
})

t.test('any other certificate is refused, and bridge.down says why', async (t) => {
  const other = await createAuthority(t)
  const [wrong, foreign, expired] = await Promise.all([
    authority.issue({ cn: '10.0.0.3', san: ['IP:10.0.0.3'] }), other.issue({ cn: HOST, san: [`IP:${HOST}`] }),
    authority.issue({ cn: HOST, san: [`IP:${HOST}`], days: -1 })
  ])
  for (const [certificate, ca, reason] of [
    [wrong, authority, /the certificate of Redis is for IP Address:10\.0\.0\.3, CN 10\.0\.0\.3, not for 127\.0\.0\.1/],
    [foreign, authority, /certificate/],
    [expired, authority, /certificate has expired/]
  ] as const) {
    const redis = await startTlsRedis(t, ca, certificate)
    const node = await startWith(t, { REDISHOST: HOST, REDISPORT: String(redis.tlsPort), REDIS_CA_FILE: ca.file })
    await refusedFor(node, reason)
    t.match(node.states, [{ up: false, reason }])
  }
})

t.test('without REDIS_CA_FILE the CAs of Node.js decide', async (t) => {
  const redis = await startTlsRedis(t, authority, await authority.issue({ cn: HOST, san: [`IP:${HOST}`] }))
  await refusedFor(await startWith(t, { REDIS_URL: `rediss://${HOST}:${redis.tlsPort}` }), /certificate/)
})

t.test('a server that has a wrong certificate from now on is told once the connection has broken, and taken when it is right again', async (t) => {
  const [right, wrong] = [await authority.issue({ cn: HOST }), await authority.issue({ cn: '10.0.0.3' })]
  const redis = await startTlsRedis(t, authority, right)
  const node = await startWith(t, { REDIS_URL: `rediss://${HOST}:${redis.tlsPort}`, REDIS_CA_FILE: authority.file })
  await node.up()
  const use = async ({ cert, key }: typeof right) => {
    await command(redis.port, ['CONFIG', 'SET', 'tls-cert-file', cert, 'tls-key-file', key])
    await command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'normal'])
    await command(redis.port, ['CLIENT', 'KILL', 'TYPE', 'pubsub'])
  }
  await use(wrong)
  await until(() => node.reasons.length > 0, 'the new reason is told', 30_000)
  t.match(node.reasons, [/the certificate of Redis is for CN 10\.0\.0\.3/])
  await use(right)
  await node.up()
})

t.test('every node of a cluster is reached over TLS, and its certificate is checked', async (t) => {
  const nodes = await startTlsCluster(t, authority, await authority.issue({ cn: HOST }))
  for (const { port } of nodes) await command(port, ['ACL', 'SETUSER', 'app', 'on', '>hush', '~*', '&*', '+@all'])
  const REDIS_URL = `rediss://app:hush@${HOST}:${nodes[0]!.tlsPort}`
  const node = await startWith(t, { REDIS_URL, REDIS_CLUSTER: 'true', REDIS_CA_FILE: authority.file })
  await node.up()
  const channels = Array.from({ length: 12 }, (_, i) => `room-${i}`)
  await Promise.all(channels.map(channel => node.subscribe(channel, true)))
  await Promise.all(channels.map(channel => node.publish(channel, channel, { history })))
  for (const channel of channels) await node.arrived(channel, 1)
  const other = await createAuthority(t)
  const stranger = await startWith(t, { REDIS_URL, REDIS_CLUSTER: 'true', REDIS_CA_FILE: other.file })
  await refusedFor(stranger, /certificate/)
})
