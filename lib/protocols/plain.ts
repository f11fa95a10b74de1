import type { FastifyRequest } from 'fastify'
import type { Connection } from '../core/connection.ts'
import type { Connections } from '../core/connections.ts'
import type { Protocol } from '../core/protocol.ts'
import type { Session } from '../core/session.ts'
import { topOf } from '../hub/recovery.ts'
import type { Subscription } from '../hub/subscription.ts'
import { closeCodes } from '../model/close-codes.ts'
import type { SubscribeResult } from '../model/connection.ts'
import type { Encoder, Frame } from '../model/encoder.ts'
import { MessageRateError } from '../model/errors.ts'
import { encodePayload } from '../model/publication.ts'
import type { Observer } from '../observability/observer.ts'
import type { Identity } from '../options/identity.ts'
import type { ResolvedOptions } from '../options/resolve.ts'

/**
 * No protocol at all: your app says what messages mean. Only two messages are ours, both JSON with a `type`:
 * `shutdown` before we close for a drain or the deadline, and `error` for a message that was dropped.
 */
const plainEncoder: Encoder = {
  name: 'plain',
  index: 0,
  endOf (how) {
    const { code, reason, cause } = typeof how === 'string' ? closeCodes[how] : how
    return { code, reason, cause }
  },
  publication (_channel, { payload, kind }) {
    return { payload, binary: kind === 'binary' }
  },
  event: () => undefined,
  message (data) {
    const { payload, kind } = encodePayload(data)
    return { payload, binary: kind === 'binary' }
  },
  closingMessage ({ reason, cause }) {
    if (cause !== 'drain' && cause !== 'deadline') return undefined
    return plainEncoder.message({ type: 'shutdown', message: reason, reconnect: true })
  }
}

export class PlainProtocol implements Protocol<Connection> {
  readonly encoder = plainEncoder
  readonly options: ResolvedOptions
  readonly observer: Observer
  /** Tells a client that a message was dropped. */
  readonly tooFast: Frame
  readonly connections: Connections

  constructor (options: ResolvedOptions, connections: Connections, observer: Observer) {
    this.options = options
    this.observer = observer
    this.connections = connections
    const { messages } = options.rateLimit
    const { code, message } = messages === false ? new MessageRateError(0, 0) : new MessageRateError(messages.max, messages.timeWindow)
    this.tooFast = plainEncoder.message({ type: 'error', code, message })
  }

  open (connection: Connection): Session {
    return new PlainSession(connection, this)
  }
}

/** A plain connection. It has no state of its own. */
class PlainSession implements Session {
  readonly #connection: Connection
  readonly #protocol: PlainProtocol

  constructor (connection: Connection, protocol: PlainProtocol) {
    this.#connection = connection
    this.#protocol = protocol
  }

  get positioned (): boolean { return false }
  get connected (): boolean { return true }

  start (identity: Identity = {}, request: FastifyRequest): void {
    const connection = this.#connection
    const { connections, options: { onConnect } } = this.#protocol
    if (identity.expiresAt !== undefined) connection.closeAt(identity.expiresAt * 1_000, 'expired')
    connections.identified(connection, identity, request)
    for (const channel of identity.channels ?? []) connection.inbox.run('subscribe', () => connection.subscribe(channel))
    if (onConnect !== undefined) connection.inbox.run('onConnect', () => onConnect(connection, request, {}))
  }

  handle (data: Buffer, binary: boolean): unknown {
    const { onMessage } = this.#protocol.options
    if (onMessage === undefined) return this.#connection.end('unsupported')
    const { inbox } = this.#connection
    if (inbox.rate === undefined || inbox.rate.take(inbox.now)) return onMessage(this.#connection, binary ? data : data.toString())
    inbox.refused()
    // Sent once per burst, so that a flood is not answered by a flood.
    if (inbox.rate.refused === 1) this.#connection.write(this.#protocol.tooFast)
  }

  ping (): void {
    this.#connection.ping()
  }

  closed (): void {}

  sweep (): void {}

  positionOf (): undefined {}

  subscribed (subscription: Subscription): SubscribeResult {
    const recovery = subscription.admit()
    if (recovery === undefined) return {}
    for (const publication of [...recovery.missed, ...recovery.live]) {
      this.#connection.write(plainEncoder.publication(subscription.channel, publication))
    }
    if (subscription.since === undefined) return {}
    const { recovered, epoch } = recovery
    this.#protocol.observer.recovered(recovered)
    return { recovered, offset: topOf(recovery), epoch }
  }

  unsubscribed (): void {}

  /** A plain client knows no positions. What was lost is counted and logged. */
  positionLost (): void {}
}
