import type { FastifyRequest } from 'fastify'
import type { ResolvedOptions } from '../../options/resolve.ts'
import type { TokenBucket } from '../../util/token-bucket.ts'
import { TokenBuckets } from '../../util/token-buckets.ts'
import { clientAddress } from '../rate-limit.ts'

/** Addresses that are remembered, some 10 MB of them at the most. */
const MAX_BUCKETS = 50_000

/**
 * Limits posts that no stream takes, per address: whoever invents sessions, or goes on after the end, must not make
 * Redis work for it. Posts that one takes are limited as messages are. A client connects again after a post that has
 * failed, so both have one limit.
 */
export class FailedPosts {
  readonly #rate: ResolvedOptions['rateLimit']['connections']
  readonly #trustedProxies: ResolvedOptions['trustedProxies']
  readonly #buckets = new TokenBuckets(MAX_BUCKETS)

  constructor ({ rateLimit, trustedProxies }: ResolvedOptions) {
    this.#rate = rateLimit.connections
    this.#trustedProxies = trustedProxies
  }

  /** Runs a post if its address has not failed too often. undefined: it has. */
  async run<Answer> (
    request: FastifyRequest, post: () => Promise<Answer>, failed: (answer: Answer) => boolean
  ): Promise<Answer | undefined> {
    if (this.#rate === false) return post()
    const now = Date.now()
    const bucket: TokenBucket = this.#buckets.of(clientAddress(request, this.#trustedProxies), this.#rate, now)
    if (!bucket.take(now)) return undefined
    bucket.charge(-1) // until it has failed: others of the same address may be many at once
    const answer = await post()
    if (failed(answer)) bucket.charge(1)
    return answer
  }
}
