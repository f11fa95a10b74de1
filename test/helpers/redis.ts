import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createClient } from 'redis'
import type { Test } from 'tap'
import { freePort } from './free-port.ts'
import { findProgram } from './programs.js'
import { until } from './until.ts'

export interface RedisOptions {
  /** Keeps every write across `kill()` and `restart()`. */
  persist?: boolean
  /** More arguments for redis-server. */
  args?: string[]
  /** Lines of a configuration file, with which it starts as a Sentinel. */
  sentinel?: string[]
}

export interface RedisServer {
  port: number
  url: string
  /** SIGKILL, as a crash; resolves when the process is gone. */
  kill (): Promise<void>
  /** SIGTERM, as a planned stop; resolves when the process is gone. */
  stop (): Promise<void>
  /** Starts again on the same port with the same data directory; kills first if it still runs. */
  restart (): Promise<void>
  /** Stops the process while its connections stay open, as on a half-open link. */
  freeze (): void
  thaw (): void
}

export interface RedisCluster {
  nodes: RedisServer[]
  rootNodes: Array<{ url: string }>
}

/** Starts a redis-server of the test's own on a free port. It ends with the test. */
export async function startRedis (t: Test, options: RedisOptions = {}): Promise<RedisServer> {
  const dir = await mkdtemp(join(tmpdir(), 'redis-'))
  const port = await freePort()
  const address = ['--port', String(port), '--bind', '127.0.0.1', '--dir', dir]
  const args = options.sentinel === undefined
    ? [...address, '--save', '', ...options.persist ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--appendonly', 'no'], ...options.args ?? []]
    : [join(dir, 'sentinel.conf'), '--sentinel', ...address]
  if (options.sentinel !== undefined) await writeFile(join(dir, 'sentinel.conf'), options.sentinel.join('\n'))

  let log = ''
  const launch = () => {
    // stderr is ignored: an orphan must not keep the test runner's output open.
    const child = spawn(findProgram('redis-server')!, args, { stdio: ['ignore', 'pipe', 'ignore'] })
    child.stdout.setEncoding('utf8').on('data', (chunk) => { log += chunk })
    return child
  }
  let child = launch()
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null
  const ready = async () => {
    await until(async () => hasEnded() || await ping(port), `redis-server on port ${port} answers PING`)
    if (hasEnded()) throw new Error(`redis-server ended:\n${log}`)
  }
  const end = async (signal: NodeJS.Signals) => {
    if (hasEnded()) return
    const exit = once(child, 'exit')
    child.kill(signal)
    // A frozen process handles SIGTERM only after SIGCONT.
    child.kill('SIGCONT')
    await exit
  }

  // Cleans up when the test process ends before its teardown.
  const onExit = () => {
    child.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  }
  process.once('exit', onExit)
  t.teardown(async () => {
    process.off('exit', onExit)
    await end('SIGKILL')
    await rm(dir, { recursive: true, force: true })
  })

  await ready()
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    restart: async () => {
      await end('SIGKILL')
      child = launch()
      await ready()
    },
    freeze: () => { child.kill('SIGSTOP') },
    thaw: () => { child.kill('SIGCONT') }
  }
}

/** Starts a real cluster of three masters without replicas. */
export async function startRedisCluster (t: Test, options: RedisOptions = {}): Promise<RedisCluster> {
  const args = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000', ...options.args ?? []]
  const nodes = await Promise.all([1, 2, 3].map(() => startRedis(t, { ...options, args })))
  const addresses = nodes.map(({ port }) => `127.0.0.1:${port}`)
  await promisify(execFile)(findProgram('redis-cli')!, ['--cluster', 'create', ...addresses, '--cluster-yes'])
  for (const { port } of nodes) {
    await until(async () => {
      const info = await command(port, ['CLUSTER', 'INFO'])
      return /cluster_state:ok/.test(info) && /cluster_known_nodes:3/.test(info) && /cluster_size:3/.test(info)
    }, `the cluster node on port ${port} is ready`, 30_000)
  }
  return { nodes, rootNodes: nodes.map(({ url }) => ({ url })) }
}

export interface Replicated {
  primary: RedisServer
  replica: RedisServer
  /** Resolves when the replica has all that the primary has acknowledged. */
  synced (): Promise<void>
}

/** Starts a primary and a replica of it. */
export async function startReplicated (t: Test, args: string[] = []): Promise<Replicated> {
  const primary = await startRedis(t, { args: ['--repl-diskless-sync-delay', '0', ...args] })
  const replica = await startRedis(t, { args: ['--repl-diskless-sync-delay', '0', '--replicaof', '127.0.0.1', String(primary.port), ...args] })
  const synced = async () => {
    const [, written] = await replication(primary.port)
    const [, , , state, copied] = await replication(replica.port)
    if (state !== 'connected' || Number(copied) < Number(written)) throw new Error('it is behind')
  }
  const whenSynced = async () => { await until(() => synced().then(() => true), 'the replica is in sync', 30_000) }
  await whenSynced()
  return { primary, replica, synced: whenSynced }
}

/** The reply to ROLE, with each list in it as one text. */
async function replication (port: number): Promise<string[]> {
  const client = createClient({ socket: { host: '127.0.0.1', port, reconnectStrategy: false } })
  client.on('error', () => {}) // the promise below rejects
  try {
    await client.connect()
    return (await client.sendCommand(['ROLE']) as unknown[]).map(String)
  } finally {
    client.destroy()
  }
}

/** Sentinels' name for the primary. */
export const PRIMARY = 'primary'

/** Starts three Sentinels, two of which decide. They take a primary that does not answer for half a second for dead. */
export async function startSentinels (t: Test, primary: RedisServer): Promise<RedisServer[]> {
  const sentinel = [
    `sentinel monitor ${PRIMARY} 127.0.0.1 ${primary.port} 2`, `sentinel down-after-milliseconds ${PRIMARY} 500`,
    `sentinel failover-timeout ${PRIMARY} 2000`
  ]
  const sentinels = await Promise.all([1, 2, 3].map(() => startRedis(t, { sentinel })))
  for (const { port } of sentinels) {
    await until(async () => {
      return /slaves=1,sentinels=3/.test(await command(port, ['INFO', 'sentinel']))
    }, 'the Sentinels know each other and the replica', 30_000)
  }
  return sentinels
}

/** Whether the server answers PING before the deadline. */
export async function ping (port: number, timeout = 1000): Promise<boolean> {
  return command(port, ['PING'], timeout).then((reply) => reply === 'PONG', () => false)
}

/** Sends one command over a connection of its own; rejects when there is no answer before the deadline. */
export async function command (port: number, args: string[], timeout = 1000): Promise<string> {
  const client = createClient({
    // The kernel accepts connections for a frozen server, so only the handshake waits. The deadline covers both.
    socket: { host: '127.0.0.1', port, reconnectStrategy: false }
  })
  client.on('error', () => {}) // the promise below rejects
  const deadline = AbortSignal.timeout(timeout)
  try {
    return await Promise.race([
      client.connect().then(() => client.sendCommand(args)).then(String),
      once(deadline, 'abort').then(() => { throw deadline.reason })
    ])
  } finally {
    client.destroy()
  }
}
