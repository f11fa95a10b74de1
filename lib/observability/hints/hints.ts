import type { End } from '../../model/close-codes.ts'
import { isPromise } from '../../util/task-queue.ts'
import { platformKind, serviceOf, workloadName } from '../../google/platform.ts'
import { commandFor, hintCommands } from './commands.ts'
import type { Hint } from './commands.ts'
import { CommonAge } from './common-age.ts'
import { asKey, UnkeptReads } from './unkept.ts'
import type { Kept } from './unkept.ts'
import type { Logs } from '../logs.ts'
import type { ResolvedOptions } from '../../options/resolve.ts'

/** Options of `ws`, by name. */
type Bounds = { readonly [name: string]: number | undefined }

/** ms between two entries of the same hint. */
const REPEAT_AFTER = 3_600_000
/** A stalled sweep: this many ms late, while the process used the CPU for less than this share of the delay. */
const STALL = 1_000
const IDLE_SHARE = 0.25
/** Stalled sweeps, and ms within which they must occur. A single one may have been a migration to another machine. */
const MIN_STALLS = 3
const STALLS_WITHIN = 600_000
/** Connections without a pong in two heartbeat intervals (pings are spread over one): their number and share of all. */
const MIN_DEAD = 20
const DEAD_SHARE = 0.1
/** ms for which `/ready` must have answered 503. */
const NOT_READY = 120_000
/** Share of the request timeout after which a cut connection is expected: Cloud Run keeps none longer. */
const FULL_AGE = 0.98

/**
 * Warns about likely misconfigurations of the service, at most once an hour each. It has no timer: its callers report
 * what happened and when (`now`, Unix time in ms).
 */
export class Hints {
  readonly #options: ResolvedOptions
  readonly #logs: Logs
  readonly #env: NodeJS.ProcessEnv
  readonly #givenAt = new Map<Hint, number>()
  readonly #commonAge = new CommonAge()
  readonly #unkept: UnkeptReads
  /** Times of the stalled sweeps. */
  #stalls: number[] = []
  /** ms of CPU time that this process had used at the last sweep. */
  #cpuTime = 0
  /** Connections closed for a missing pong in this heartbeat interval, and in the one before. */
  #dead = 0
  #deadBefore = 0
  #deadSince = 0
  #notReadySince: number | undefined

  constructor (options: ResolvedOptions, logs: Logs, env: NodeJS.ProcessEnv = process.env) {
    this.#options = options
    this.#logs = logs
    this.#env = env
    this.#unkept = new UnkeptReads(options.channels)
  }

  /** Checks the settings alone. */
  started (now: number): void {
    const { path, token, authenticate, onConnect, onMessage } = this.#options
    if (path !== false && token !== undefined && authenticate === undefined && (onConnect ?? onMessage) !== undefined) {
      this.#give('open_path', now, { path }, `Anybody can connect to ${path} and reach your handlers: the option token guards only ` +
        'the SDK route. Set authenticate to say who may connect, or leave this route out')
    }
    this.#checkIam(now)
    if (this.#onCloudRun) this.#startedOnCloudRun(now)
  }

  #checkIam (now: number): void {
    const { redis } = this.#options
    if (redis === undefined || !('iam' in redis)) return
    const { socket } = (redis.kind === 'cluster' ? redis.options.defaults : redis.options) ?? {}
    if (socket !== undefined && 'tls' in socket) return
    this.#give('iam_without_tls', now, {}, 'REDIS_AUTH=iam sends the access token of the service account to Redis without TLS. Whoever reads ' +
      'it can use the rights of that account for an hour. Name the CA of Redis, or use a REDIS_URL that starts with rediss://')
  }

  #startedOnCloudRun (now: number): void {
    const { CLOUD_RUN_CONCURRENCY: concurrency, CLOUD_RUN_MAX_INSTANCES: maxInstances } = this.#env
    const { redis, maxConnections, fallback } = this.#options
    if (redis === undefined && maxInstances !== '1') {
      const only = `gcloud run services update ${this.#service} --max-instances=1 --update-env-vars=CLOUD_RUN_MAX_INSTANCES=1`
      this.#give('no_redis', now, {}, 'No Redis is set (option redis, env REDIS_URL), so instances do not get what the others publish. ' +
        `Keep to one instance (${only}), or set a Redis`)
    }
    const posts = fallback === false ? 0 : 1
    if (concurrency && Number(concurrency) < maxConnections + posts) {
      this.#give('concurrency', now, { concurrency: Number(concurrency), maxConnections }, 'Cloud Run sends an instance at most ' +
        `${concurrency} requests at a time (env CLOUD_RUN_CONCURRENCY). Each connection is one, ` +
        `${posts > 0 ? 'so is each post of fallback, ' : ''}and maxConnections is ${maxConnections}`)
    }
  }

  /** Checks `trustProxy`, Fastify's option. */
  trustsProxies (trustProxy: unknown, now: number): void {
    if (!this.#onCloudRun || this.#options.trustedProxies !== 0) return
    if (trustProxy !== true && typeof trustProxy !== 'number') return
    const effect = trustProxy === true ? 'a client can choose its own address' : 'all clients have the same address in recent versions of Fastify'
    this.#give('trust_proxy', now, { trustProxy }, `With Fastify's trustProxy: ${trustProxy}, ${effect}, and upgrades are limited by address. ` +
      "Behind Google's external load balancer, set the option trustedProxies to 1. On run.app, leave trustProxy out, or set it to a list of addresses")
  }

  /** The function `trustedProxies` has returned or thrown this in place of an address. */
  addressUnknown (told: unknown, now: number): void {
    const type = typeOf(told)
    this.#give('trusted_proxies', now, { type }, `The function trustedProxies has to return an IP address synchronously. It gave ${type}. Upgrades ` +
      'are limited by the address of the socket instead, which may be one proxy for all clients')
  }

  /** Checks the bounds of the WebSocket server, which may be the app's own. undefined: its `ws` does not know it. */
  webSocketServer (wanted: Bounds, actual: Bounds, uncompressed: boolean, now: number): void {
    const names = Object.keys(wanted)
    const unknown = names.filter(name => actual[name] === undefined)
    const wide = names.filter(name => actual[name] === 0 || actual[name]! > wanted[name]!)
    if (unknown.length > 0) {
      this.#give('websocket_version', now, { unknown }, `The installed ws does not know ${unknown.join(' and ')}. Without such bounds, a client can ` +
        'use up all memory with fragments or pings. It has to be 8.23.0 or newer')
    }
    if (wide.length > 0) {
      const options = names.map(name => `${name}: ${wanted[name]}`).join(', ')
      const differences = wide.map(name => `${name} ${actual[name] || 'without limit'} instead of ${wanted[name]}`)
      this.#give('websocket_bounds', now, { wanted, actual }, "Your app's own @fastify/websocket decides what is read into memory, before any " +
        `limit of this plugin. It allows more: ${differences.join(', ')}`, hintCommands.websocket_bounds.replace(/maxPayload.*\d/, options))
    }
    if (uncompressed) {
      this.#give('websocket_compression', now, {}, "The option compression is on, but your app's own @fastify/websocket decides what clients are " +
        'offered, and it offers no permessage-deflate: nothing is compressed')
    }
  }

  /** The app reads what is kept of a channel. Told once for each namespace, not once an hour. */
  readsKept (kept: Kept, channel: string): void {
    const unkept = this.#unkept.find(kept, channel)
    if (unkept === undefined) return
    const { text, namespace, namespaces } = unkept
    const command = hintCommands[`no_${kept}`].replace('NAMESPACE', () => asKey(namespace))
    this.#logs.hint(`no_${kept}`, command, { channel, namespaces }, text)
  }

  /** A connection has ended. `age`: ms since it was opened. */
  ended ({ cause }: End, age: number, now: number): void {
    if (cause === 'heartbeat') this.#dead++
    if (cause !== 'abnormal' || age > this.#options.requestTimeout * FULL_AGE) return
    const common = this.#commonAge.add(age, now)
    if (common === undefined) return
    const seconds = Math.round(common / 1_000)
    this.#give('request_timeout', now, { age: seconds }, `Most connections break at an age of ${seconds} s. This is probably the request ` +
      'timeout of the service, or of a proxy in front of it. The plugin assumes ' +
      `${this.#options.requestTimeout / 1_000} s and cannot close them in time`, this.#commandFor('request_timeout').replace('300s', `${seconds}s`))
  }

  /** The heartbeat has swept, `late` ms after it was due. `cpuTime`: ms of CPU time that this process has used. */
  swept (now: number, late: number, connections: number, cpuTime: number = usedCpuTime()): void {
    const used = cpuTime - this.#cpuTime
    this.#cpuTime = cpuTime
    if (this.#onCloudRun && late >= STALL && used < late * IDLE_SHARE) this.#stalled(now, late)
    const dead = this.#dead + this.#deadBefore
    if (dead >= MIN_DEAD && dead >= (connections + dead) * DEAD_SHARE) {
      this.#give('dead_connections', now, { dead, connections }, `${dead} connections were closed at about the same time because no pong came; ` +
        `${connections} are left. The network is broken, or this instance could not run`)
    }
    if (now - this.#deadSince < this.#options.heartbeat.interval) return
    this.#deadSince = now
    this.#deadBefore = this.#dead
    this.#dead = 0
  }

  /** `/ready` was requested. An empty list of reasons means that it answered 200. */
  probed (reasons: readonly string[], now: number): void {
    if (reasons.length === 0) this.#notReadySince = undefined
    else this.#notReadySince ??= now
    if (this.#notReadySince === undefined || now - this.#notReadySince < NOT_READY) return
    const seconds = Math.round((now - this.#notReadySince) / 1_000)
    const details = { reasons, seconds }
    if (reasons.includes('redis')) {
      this.#give('not_ready_redis', now, details, `Not ready for ${seconds} s: Redis cannot be reached, probably because the service ` +
        'has no route to its network')
    } else if (reasons.includes('memory')) {
      this.#give('not_ready_memory', now, details, `Not ready for ${seconds} s: memory is running out`)
    } else if (reasons.includes('full')) {
      this.#give('not_ready_full', now, details, `Not ready for ${seconds} s: all ${this.#options.maxConnections} places ` +
        '(maxConnections) are taken, and the service may not start more instances', this.#commandForFull())
    }
  }

  /** A hook of the app has answered a probe, before our handler could. */
  probeRefused (path: string, status: number, now: number): void {
    this.#give('probe_refused', now, { path, status }, `A hook of your app has answered ${path} with ${status}. If a probe asked, this ` +
      'instance gets no clients, or is restarted. Register the plugin outside the scope of that hook, or let the hook skip this route',
    hintCommands.probe_refused.replace('PATH', `'${path}'`))
  }

  get #onCloudRun (): boolean { return platformKind(this.#env) === 'cloud_run' }

  /** What commands call the service: on Kubernetes its workload. */
  get #service (): string {
    const name = platformKind(this.#env) === 'kubernetes' ? workloadName(this.#env) : serviceOf(this.#env).service
    return name ?? 'SERVICE'
  }

  #commandFor (hint: Hint): string {
    return commandFor(hint, platformKind(this.#env))
  }

  /** Twice as much as there is now, where that is known. */
  #commandForFull (): string {
    const { CLOUD_RUN_MAX_INSTANCES: maxInstances } = this.#env
    const command = this.#commandFor('not_ready_full').replace('maxConnections: 1900', `maxConnections: ${this.#options.maxConnections * 2}`)
    return Number(maxInstances) > 0 ? command.replaceAll('=100', `=${Number(maxInstances) * 2}`) : command
  }

  #stalled (now: number, late: number): void {
    this.#stalls = [...this.#stalls.filter(at => now - at < STALLS_WITHIN), now]
    if (this.#stalls.length < MIN_STALLS) return
    this.#give('cpu_throttling', now, { late }, `${this.#stalls.length} times within ${STALLS_WITHIN / 60_000} minutes, this process ` +
      'was paused for a second or more, although it had little to do. It probably gets CPU only while it handles a request')
    this.#stalls = []
  }

  #give (hint: Hint, now: number, details: object, message: string, command: string = this.#commandFor(hint)): void {
    if (now - (this.#givenAt.get(hint) ?? -Infinity) < REPEAT_AFTER) return
    this.#givenAt.set(hint, now)
    this.#logs.hint(hint, command.replaceAll('SERVICE', this.#service), details, message)
  }
}

function typeOf (told: unknown): string {
  if (isPromise(told)) return 'a promise'
  if (told instanceof Error) return `an exception (${told.name})`
  return told === null ? 'null' : typeof told === 'string' ? 'a string that is not an address' : typeof told
}

function usedCpuTime (): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}
