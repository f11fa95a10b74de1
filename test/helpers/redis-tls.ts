import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import type { Authority, Certificate } from './certificates.ts'
import { freePort } from './free-port.ts'
import { findProgram } from './programs.js'
import { command, startRedis } from './redis.ts'
import type { RedisOptions, RedisServer } from './redis.ts'
import { until } from './until.ts'

export interface TlsRedis extends RedisServer {
  /** `port` takes connections without TLS, for the test's own commands. */
  readonly tlsPort: number
}

/** Starts a redis-server that takes TLS connections at `tlsPort`. */
export async function startTlsRedis (
  t: Test, authority: Authority, { cert, key }: Certificate, options: RedisOptions = {}
): Promise<TlsRedis> {
  const tlsPort = await freePort()
  const tls = [
    '--tls-port', String(tlsPort), '--tls-cert-file', cert, '--tls-key-file', key, '--tls-ca-cert-file', authority.file, '--tls-auth-clients', 'no'
  ]
  return Object.assign(await startRedis(t, { ...options, args: [...tls, ...options.args ?? []] }), { tlsPort })
}

/** Starts a cluster of three masters that talk TLS, among each other too. */
export async function startTlsCluster (t: Test, authority: Authority, certificate: Certificate): Promise<TlsRedis[]> {
  const args = ['--cluster-enabled', 'yes', '--tls-cluster', 'yes', '--cluster-node-timeout', '2000']
  const nodes = await Promise.all([1, 2, 3].map(() => startTlsRedis(t, authority, certificate, { args })))
  const addresses = nodes.map(({ tlsPort }) => `127.0.0.1:${tlsPort}`)
  await promisify(execFile)(findProgram('redis-cli')!, ['--tls', '--cacert', authority.file, '--cluster', 'create', ...addresses, '--cluster-yes'])
  for (const { port } of nodes) {
    await until(async () => {
      const info = await command(port, ['CLUSTER', 'INFO'])
      return /cluster_state:ok/.test(info) && /cluster_known_nodes:3/.test(info) && /cluster_size:3/.test(info)
    }, `the cluster node on port ${port} is ready`, 30_000)
  }
  return nodes
}
