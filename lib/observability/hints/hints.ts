import type { End } from '../../model/close-codes.ts'
import { CommonAge } from './common-age.ts'
import type { Logs } from '../logs.ts'
import type { ResolvedOptions } from '../../options/options.ts'
import { Plateau } from './plateau.ts'

/** What may be set wrong, and the command that mends it; SERVICE stands for the service's name. A test compares this list with the README's. */
export const hintCommands = {
  no_redis: 'gcloud run services update SERVICE --update-env-vars=REDIS_URL=redis://HOST:6379',
  concurrency: 'gcloud run services update SERVICE --concurrency=1000',
  request_timeout: 'gcloud run services update SERVICE --timeout=3600',
  cpu_throttling: 'gcloud run services update SERVICE --no-cpu-throttling',
  dead_connections: 'gcloud run services update SERVICE --no-cpu-throttling --cpu=2',
  not_ready_redis: 'gcloud run services update SERVICE --network=NETWORK --subnet=SUBNET --vpc-egress=private-ranges-only',
  not_ready_memory: 'gcloud run services update SERVICE --memory=1Gi',
  not_ready_full: 'gcloud run services update SERVICE --max-instances=100'
} as const satisfies Record<string, string>

export type Hint = keyof typeof hintCommands

/** ms after which the same hint may be given again. */
const AGAIN = 3_600_000
/** ms that a sweep must come too late, and the share of that for which this process used the CPU below which it was not its own work that kept it. */
const LATE = 1_000
const IDLE_SHARE = 0.25
/** So many such sweeps within so many ms: one may have been a move to another machine. */
const LATE_SWEEPS = 3
const LATE_WITHIN = 600_000
/** Connections that were given up within two heartbeat intervals (pings are spread over one): so many, and this share of all. */
const MIN_DEAD = 20
const DEAD_SHARE = 0.1
/** ms for which `/ready` may say no. */
const NOT_READY = 120_000
/** Share of the request timeout from which on a connection may break: nobody has promised it more. */
const FULL_AGE = 0.98

/**
 * Says what is likely set wrong about the service, at most once an hour each. Has no timer: it is told what happens, and when (Unix time in ms).
 */
export class Hints {
  readonly #options: ResolvedOptions
  readonly #logs: Logs
  readonly #env: NodeJS.ProcessEnv
  readonly #givenAt = new Map<Hint, number>()
  readonly #commonAge = new CommonAge()
  readonly #plateau = new Plateau()
  /** Of the sweeps that came late for want of CPU. */
  #lateAt: number[] = []
  /** ms of CPU that this process had used at the last sweep. */
  #cpu = 0
  /** Connections given up in this interval, and in the one before. */
  #dead = 0
  #deadBefore = 0
  #deadSince = 0
  #notReadySince: number | undefined

  constructor (options: ResolvedOptions, logs: Logs, env: NodeJS.ProcessEnv = process.env) {
    this.#options = options
    this.#logs = logs
    this.#env = env
  }

  /** What the settings alone say. */
  started (now: number): void {
    if (!this.#onCloudRun) return
    const { CLOUD_RUN_CONCURRENCY: concurrency, CLOUD_RUN_MAX_INSTANCES: maxInstances } = this.#env
    const { redis, maxConnections } = this.#options
    if (redis === undefined && maxInstances !== '1') {
      const only = `gcloud run services update ${this.#service} --max-instances=1 --update-env-vars=CLOUD_RUN_MAX_INSTANCES=1`
      this.#give('no_redis', now, {}, `There is no Redis (option redis, env REDIS_URL): what one instance publishes the others do not get. Keep to one instance (${only}), or give it a Redis`)
    }
    if (concurrency && Number(concurrency) < maxConnections) {
      this.#give('concurrency', now, { concurrency: Number(concurrency), maxConnections }, `Cloud Run gives an instance ${concurrency} requests at a time (env CLOUD_RUN_CONCURRENCY), each connection is one, and maxConnections is ${maxConnections}`)
    }
  }

  /** A connection has ended, at this age in ms. */
  ended ({ cause }: End, age: number, now: number): void {
    this.#plateau.ended()
    if (cause === 'heartbeat') this.#dead++
    if (cause !== 'abnormal' || age > this.#options.requestTimeout * FULL_AGE) return
    const common = this.#commonAge.add(age, now)
    if (common === undefined) return
    const seconds = Math.round(common / 1_000)
    this.#give('request_timeout', now, { age: seconds }, `Most connections break at an age of ${seconds} s. Likely this is the request timeout of the service, or of a proxy ahead of it; the plugin takes it for ${this.#options.requestTimeout / 1_000} s and can not end them in time`)
  }

  /** The heartbeat has swept, `late` ms later than it should have; `cpu`: ms of CPU that this process has used. */
  swept (now: number, late: number, connections: number, cpu: number = cpuTime()): void {
    const used = cpu - this.#cpu
    this.#cpu = cpu
    if (this.#onCloudRun) {
      if (late >= LATE && used < late * IDLE_SHARE) this.#starved(now, late)
      const level = this.#env.CLOUD_RUN_CONCURRENCY ? undefined : this.#plateau.swept(connections, now)
      if (level !== undefined && level < this.#options.maxConnections) {
        this.#give('concurrency', now, { concurrency: level, maxConnections: this.#options.maxConnections }, `For minutes there have been ${level} connections, and one that ends is replaced at once: likely ${level} is the concurrency of the service, and Cloud Run keeps more away although maxConnections is ${this.#options.maxConnections}`)
      }
    }
    const dead = this.#dead + this.#deadBefore
    if (dead >= MIN_DEAD && dead >= (connections + dead) * DEAD_SHARE) {
      this.#give('dead_connections', now, { dead, connections }, `${dead} connections were given up together because no pong came, ${connections} are left: the network is broken, or this instance is kept from its work`)
    }
    if (now - this.#deadSince < this.#options.heartbeat.interval) return
    this.#deadSince = now
    this.#deadBefore = this.#dead
    this.#dead = 0
  }

  /** `/ready` was asked for; without reasons it has said yes. */
  probed (reasons: readonly string[], now: number): void {
    if (reasons.length === 0) this.#notReadySince = undefined
    else this.#notReadySince ??= now
    if (this.#notReadySince === undefined || now - this.#notReadySince < NOT_READY) return
    const seconds = Math.round((now - this.#notReadySince) / 1_000)
    if (reasons.includes('redis')) this.#give('not_ready_redis', now, { reasons, seconds }, `Not ready for ${seconds} s: Redis can not be reached, likely for want of a way into its network`)
    else if (reasons.includes('memory')) this.#give('not_ready_memory', now, { reasons, seconds }, `Not ready for ${seconds} s: memory runs out`)
    else if (reasons.includes('full')) this.#give('not_ready_full', now, { reasons, seconds }, `Not ready for ${seconds} s: all ${this.#options.maxConnections} places (maxConnections) are taken, and the service may have no more instances`)
  }

  get #onCloudRun (): boolean { return this.#env.K_SERVICE !== undefined && this.#env.K_SERVICE !== '' }

  get #service (): string { return this.#env.K_SERVICE || 'SERVICE' }

  #starved (now: number, late: number): void {
    this.#lateAt = [...this.#lateAt.filter(at => now - at < LATE_WITHIN), now]
    if (this.#lateAt.length < LATE_SWEEPS) return
    this.#give('cpu_throttling', now, { late }, `${this.#lateAt.length} times within ${LATE_WITHIN / 60_000} minutes this process stood still for a second or more, though it had little to do: likely it only gets CPU while a request is under way`)
    this.#lateAt = []
  }

  #give (hint: Hint, now: number, details: object, message: string): void {
    if (now - (this.#givenAt.get(hint) ?? -Infinity) < AGAIN) return
    this.#givenAt.set(hint, now)
    this.#logs.hint(hint, hintCommands[hint].replace('SERVICE', this.#service), details, message)
  }
}

function cpuTime (): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}
