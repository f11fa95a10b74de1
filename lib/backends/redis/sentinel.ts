import { createClient } from 'redis'
import type { RedisClientOptions } from 'redis'
import type { SentinelOptions } from '../../options/redis-source.ts'
import { withTimeout } from '../../util/timeout.ts'
import { describeError, linkOptions } from './client.ts'
import type { RedisClient } from './client.ts'
import { objectionToRole } from './endpoint.ts'
import type { Endpoint } from './endpoint.ts'
import { Login } from './login.ts'

/** Milliseconds that a Sentinel has to answer, before the next one is asked. */
const ASK_TIMEOUT = 1_000

interface Address { host: string, port: number }

/**
 * The primary that Redis Sentinels name, looked up for each connection as Redis' guidelines for clients say.
 *
 * node-redis' own client for Sentinel sends a command again when its connection breaks, whether or not it has taken
 * effect. Publications would come twice.
 */
export class SentinelEndpoint implements Endpoint {
  readonly login: Login
  readonly #options: SentinelOptions
  /** The Sentinel that answered last is the first. */
  readonly #sentinels: Address[]

  constructor (options: SentinelOptions) {
    this.#options = options
    this.login = new Login({ kind: 'sentinel', options })
    this.#sentinels = [...options.sentinelRootNodes]
  }

  async newClient (): Promise<RedisClient> {
    const { nodeClientOptions } = this.#options
    const options = linkOptions(nodeClientOptions as RedisClientOptions)
    // The client must not reconnect by itself: the primary may have moved.
    return createClient({ ...options, socket: { ...options.socket, ...await this.#primary(), reconnectStrategy: false } }) as RedisClient
  }

  /** Objects also to a primary that the Sentinels have replaced, though it does not know: it is cut off from them. */
  async objection (client: RedisClient): Promise<string | undefined> {
    const objection = await objectionToRole(client)
    if (objection !== undefined) return objection
    const { host, port } = client.options.socket as Address
    const named = await this.#primary().catch(() => undefined)
    if (named === undefined || (named.host === host && named.port === port)) return undefined
    return `the Sentinels name ${named.host}:${named.port} as the primary now, not ${host}:${port}`
  }

  /** Asks one Sentinel after the other. */
  async #primary (): Promise<Address> {
    const failures: string[] = []
    for (const sentinel of [...this.#sentinels]) {
      try {
        const address = await this.#ask(sentinel)
        this.#sentinels.splice(this.#sentinels.indexOf(sentinel), 1)
        this.#sentinels.unshift(sentinel)
        return address
      } catch (error) {
        failures.push(`${sentinel.host}:${sentinel.port}: ${describeError(error)}`)
      }
    }
    throw new Error(`no Sentinel names a primary (${failures.join('; ')})`)
  }

  async #ask ({ host, port }: Address): Promise<Address> {
    const { name, sentinelClientOptions } = this.#options
    const options = sentinelClientOptions as RedisClientOptions | undefined
    // RESP 2, because Sentinels older than the server may not speak 3.
    const sentinel = createClient({ ...options, RESP: 2, socket: { ...options?.socket, host, port, reconnectStrategy: false } })
    sentinel.on('error', () => {}) // the promise below rejects
    let done = false
    // A client that is destroyed while it connects would keep that connection forever.
    sentinel.on('connect', () => { if (done) sentinel.destroy() })
    try {
      const asking = sentinel.connect().then(() => sentinel.sendCommand(['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name]))
      const reply = await withTimeout<unknown>(asking, ASK_TIMEOUT, 'no answer') as [string, string] | null
      if (reply === null) throw new Error(`it knows no primary named ${name}`)
      return this.#mapped({ host: reply[0], port: Number(reply[1]) })
    } finally {
      done = true
      sentinel.destroy()
    }
  }

  /** Sentinels may name addresses of another network. */
  #mapped (address: Address): Address {
    const { nodeAddressMap } = this.#options
    const key = `${address.host}:${address.port}`
    return (typeof nodeAddressMap === 'function' ? nodeAddressMap(key) : nodeAddressMap?.[key]) ?? address
  }
}
