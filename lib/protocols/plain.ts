import type { FastifyRequest } from 'fastify'
import { topOf } from '../hub/catch-up.ts'
import { closeCodes } from '../model/close-codes.ts'
import type { End } from '../model/close-codes.ts'
import type { Connection, SubscribeResult } from '../core/connection.ts'
import { MessageRateError } from '../model/errors.ts'
import type { Instance } from '../core/connections.ts'
import type { Joining } from '../hub/joining.ts'
import type { Identity } from '../options/options.ts'
import type { Frame, Protocol } from '../core/protocol.ts'
import { encodePayload } from '../model/publication.ts'
import type { Publication } from '../model/publication.ts'

/**
 * No protocol at all: the host says what messages mean. Only three are ours, all JSON with a `type`: `shutdown` before we close
 * for a drain or the deadline, and `error` for a message that was dropped.
 */
export class PlainProtocol implements Protocol {
  readonly name = 'plain'
  readonly index = 0
  readonly closes = closeCodes
  readonly #instance: Instance
  readonly #tooFast: Frame

  constructor (instance: Instance) {
    this.#instance = instance
    const { messages } = instance.options.rateLimit
    const { code, message } = messages === false ? new MessageRateError(0, 0) : new MessageRateError(messages.max, messages.timeWindow)
    this.#tooFast = this.message({ type: 'error', code, message })
  }

  opened (connection: Connection, identity: Identity = {}, request: FastifyRequest): void {
    const { onConnect } = this.#instance.options
    if (identity.expiresAt !== undefined) connection.closeAt(identity.expiresAt * 1_000, 'expired')
    this.#instance.identified(connection, identity, request)
    for (const channel of identity.channels ?? []) connection.run(() => connection.subscribe(channel))
    if (onConnect !== undefined) connection.run(() => onConnect(connection, request, {}))
  }

  handle (connection: Connection, data: Buffer, binary: boolean): void | Promise<void> {
    const { onMessage } = this.#instance.options
    if (onMessage === undefined) return connection.end('unsupported')
    if (connection.take()) return onMessage(connection, binary ? data : data.toString()) as void | Promise<void>
    // Said once per burst, so that a flood is not answered by a flood.
    if (connection.dropped === 1) connection.write(this.#tooFast)
  }

  ping (connection: Connection): void {
    connection.nativePing()
  }

  sweep (): void {}

  publication (_channel: string, { payload, kind }: Publication): Frame {
    return { payload, binary: kind === 'binary' }
  }

  /** A message of the host's is a message of WebSocket. */
  join (frames: readonly Frame[]): readonly Frame[] {
    return frames
  }

  event (): undefined {}

  message (data: unknown): Frame {
    const { payload, kind } = encodePayload(data)
    return { payload, binary: kind === 'binary' }
  }

  goodbye ({ reason, cause }: End): Frame | undefined {
    return cause === 'drain' || cause === 'deadline' ? this.message({ type: 'shutdown', message: reason, reconnect: true }) : undefined
  }

  subscribed (connection: Connection, channel: string, joining: Joining): SubscribeResult {
    const caughtUp = joining.admit()
    for (const publication of caughtUp === undefined ? [] : [...caughtUp.missed, ...caughtUp.live]) connection.write(this.publication(channel, publication))
    if (caughtUp === undefined || caughtUp.epoch === '') return {} // no position was read
    const { recovered, epoch } = caughtUp
    this.#instance.recovery(recovered)
    return { recovered, offset: topOf(caughtUp), epoch }
  }

  unsubscribed (): void {}

  /** A plain client knows no positions; what was lost is counted and logged. */
  renewed (): void {}
}
