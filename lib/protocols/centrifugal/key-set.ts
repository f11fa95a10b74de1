import { createRemoteJWKSet, customFetch, errors } from 'jose'
import type { JWTVerifyGetKey } from 'jose'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { Observer } from '../../observability/observer.ts'

/** ms between two fetches of the set: for tokens that name an unknown key, and after a fetch that failed. */
const FETCH_INTERVAL = 5_000
/** ms for the key server to answer. SDKs give up on a command after 5 s. */
const FETCH_TIMEOUT = 3_000
/** Bytes of a set, a few hundred times what any has. */
const MAX_BYTES = 1_048_576

/**
 * Keys from a JSON Web Key Set at a URL. It is fetched again when a token names an unknown key: rotation needs no
 * restart. While it cannot be fetched, tokens that need it get a temporary error, at which clients try again.
 */
export class RemoteKeySet {
  /** The address as logs show it. The query may have a key in it. */
  readonly #address: string
  readonly #observer: Observer
  readonly #keys: ReturnType<typeof createRemoteJWKSet>
  /** Why the last fetch failed; undefined if it did not. */
  #failure: unknown
  /** Unix time in ms at which the set may be fetched again after a failure. Until then no token costs a fetch. */
  #retryAt = 0

  constructor (url: URL, observer: Observer) {
    this.#address = url.origin + url.pathname
    this.#observer = observer
    this.#keys = createRemoteJWKSet(url, {
      cooldownDuration: FETCH_INTERVAL, timeoutDuration: FETCH_TIMEOUT, [customFetch]: (...args) => this.#fetch(...args)
    })
  }

  /** @throws ReplyError (100) if the set cannot be had now; an error of jose if it has no key for this token. */
  readonly keyFor: JWTVerifyGetKey = async (header, token) => {
    const { coolingDown } = this.#keys
    try {
      const key = await this.#keys(header, token)
      this.#noteSuccess()
      return key
    } catch (error) {
      const unknown = error instanceof errors.JWKSNoMatchingKey
      // The key may be newer than our copy of the set. A temporary error makes the client try again.
      if (unknown && coolingDown) throw new ReplyError(clientErrors.internal, 'the key set has no such key yet')
      if (!unknown && !(error instanceof errors.JWKSMultipleMatchingKeys)) {
        this.#noteFailure(error)
        throw new ReplyError(clientErrors.internal, 'there is no key to verify the token with, see keys.failed')
      }
      this.#noteSuccess()
      throw error
    }
  }

  /** Fails at once for a while after a failure. Reads no more than `MAX_BYTES`, whatever answers at the address. */
  async #fetch (url: string, init: RequestInit): Promise<Response> {
    if (Date.now() < this.#retryAt) throw this.#failure
    const response = await fetch(url, init) // jose's `init` does not follow redirects: they may lead to anybody's keys
    if (response.status !== 200) {
      await response.body?.cancel()
      throw new Error(`it answers ${response.status}`)
    }
    const chunks: Uint8Array[] = []
    let bytes = 0
    for await (const chunk of response.body ?? []) {
      bytes += chunk.length
      if (bytes > MAX_BYTES) throw new Error(`it answers with more than ${MAX_BYTES} bytes`)
      chunks.push(chunk)
    }
    return new Response(Buffer.concat(chunks))
  }

  /** All tokens that one fetch has failed for come here with the same error. */
  #noteFailure (error: unknown): void {
    if (error === this.#failure) return
    if (this.#failure === undefined) this.#observer.keysFailed(this.#address, reasonOf(error as Error))
    this.#failure = error
    this.#retryAt = Date.now() + FETCH_INTERVAL
  }

  /** Tokens whose keys were known before the failure tell nothing; a set that was just fetched does. */
  #noteSuccess (): void {
    if (this.#failure === undefined || !this.#keys.coolingDown) return
    this.#failure = undefined
    this.#observer.keysRestored(this.#address)
  }
}

/** `fetch` says no more than that it failed; its cause has the code, such as ECONNREFUSED. */
function reasonOf ({ message, cause }: Error): string {
  const { code } = (cause ?? {}) as NodeJS.ErrnoException
  return code === undefined ? message : `${message}: ${code}`
}
