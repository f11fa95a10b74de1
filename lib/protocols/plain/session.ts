import type { FastifyRequest } from 'fastify'
import type { Connection } from '../../core/connection.ts'
import type { Connections } from '../../core/connections.ts'
import type { Session } from '../../core/session.ts'
import type { Subscriptions } from '../../core/subscriptions.ts'
import { topOf } from '../../hub/recovery.ts'
import type { Subscription } from '../../hub/subscription.ts'
import { closeCodes } from '../../model/close-codes.ts'
import type { SubscribeResult } from '../../model/connection.ts'
import type { Encoder, Frame } from '../../model/encoder.ts'
import { encodePayload } from '../../model/publication.ts'
import { unsubscribeCodes } from '../../model/unsubscribe-codes.ts'
import type { Observer } from '../../observability/observer.ts'
import type { Identity } from '../../options/identity.ts'
import type { ResolvedOptions } from '../../options/resolve.ts'
import type { Deadlines } from '../../util/deadlines.ts'
import type { CommandState } from './command-state.ts'
import { Requests } from './requests.ts'

/** What `PlainCommands.handle` returns for a message that is no command: your app says what it means. */
export const NO_COMMAND = Symbol('no command')

/** What clients may ask in messages of a set form, if the app has the option `plain.envelope` or methods. */
export interface PlainCommands {
  /** Handles one message as a command. Returns what the next message waits for, or NO_COMMAND. */
  handle (session: PlainSession, data: Buffer, binary: boolean): unknown
}

/** Shared by all sessions. A contract, as commands import the session: without it they would form a circle. */
export interface PlainSessionOwner {
  readonly options: ResolvedOptions
  readonly observer: Observer
  readonly connections: Connections
  readonly subscriptions: Subscriptions
  readonly encoder: Encoder
  /** Time-outs of what clients are asked. */
  readonly deadlines: Deadlines
  /** Tells a client that a message was dropped. */
  readonly tooFast: Frame
  /** undefined: all messages are the app's, and nothing is parsed. */
  readonly commands: PlainCommands | undefined
}

/**
 * No protocol at all: your app says what messages mean. Only two messages are ours, both JSON with a `type`:
 * `shutdown` before we close for a drain or the deadline, and `error` for a message that was dropped.
 */
export const plainEncoder: Encoder = {
  name: 'plain',
  transport: 'websocket',
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

/** A plain connection. It has no state of its own until it uses commands, or the app asks it something. */
export class PlainSession implements Session {
  readonly connection: Connection
  /** Made with the first command. */
  commands: CommandState | undefined
  readonly #owner: PlainSessionOwner
  #requests: Requests | undefined

  constructor (connection: Connection, owner: PlainSessionOwner) {
    this.connection = connection
    this.#owner = owner
  }

  get positioned (): boolean { return this.#owner.options.plain.envelope }
  get connected (): boolean { return true }

  start (identity: Identity = {}, request: FastifyRequest): void {
    const { connection } = this
    const { connections, options: { onConnect } } = this.#owner
    if (identity.expiresAt !== undefined) connection.closeAt(identity.expiresAt * 1_000, 'expired')
    connections.identified(connection, identity, request)
    for (const channel of identity.channels ?? []) connection.inbox.run('subscribe', () => connection.subscribe(channel))
    if (onConnect !== undefined) connection.inbox.run('onConnect', () => onConnect(connection, request, {}))
  }

  handle (data: Buffer, binary: boolean): unknown {
    const { commands, options: { onMessage } } = this.#owner
    if (commands !== undefined) {
      const result = commands.handle(this, data, binary)
      if (result !== NO_COMMAND) return result
    }
    if (onMessage === undefined) return this.connection.end('unsupported')
    const { inbox } = this.connection
    if (inbox.rate === undefined || inbox.rate.take(inbox.now)) return onMessage(this.connection, binary ? data : data.toString())
    inbox.refused()
    // Sent once per burst, so that a flood is not answered by a flood.
    if (inbox.rate.refused === 1) this.connection.write(this.#owner.tooFast)
  }

  ping (): void {
    this.connection.ping()
  }

  closed (): void {
    this.commands?.closed()
    this.#requests?.closed()
  }

  sweep (now: number): void {
    if (this.commands === undefined || now < this.commands.nextExpiry) return
    for (const subscription of this.commands.expired(now)) this.#drop(subscription, unsubscribeCodes.expired)
  }

  positionOf (): undefined {}

  subscribed (subscription: Subscription): SubscribeResult {
    const { encoder, observer, subscriptions } = this.#owner
    const { channel, since } = subscription
    const recovery = subscription.admitAcrossGap()
    subscriptions.announceJoin(this.connection, subscription)
    for (const publication of [...recovery.missed, ...recovery.live]) this.connection.write(encoder.publication(channel, publication))
    if (since === undefined) return {}
    const { recovered, epoch } = recovery
    observer.recovered(recovered)
    return { recovered, offset: topOf(recovery), epoch }
  }

  unsubscribed (channel: string): void {
    this.#tell(channel, unsubscribeCodes.server)
  }

  /**
   * A client that has subscribed itself does so again. Where the app has subscribed it, or where clients know no
   * positions, what was lost is counted and logged.
   */
  positionLost (subscription: Subscription): void {
    if (!subscription.serverSide) this.#drop(subscription, unsubscribeCodes.insufficientState)
  }

  ask (method: string, data: unknown, timeout: number): Promise<unknown> {
    this.#requests ??= new Requests(this.connection, this.#owner.deadlines)
    return this.#requests.ask(method, data, timeout)
  }

  /** Ends a subscription of the client's own on behalf of the server. */
  #drop (subscription: Subscription, why: { code: number, reason: string }): void {
    this.#owner.subscriptions.end(this.connection, subscription)
    this.#tell(subscription.channel, why)
  }

  #tell (channel: string, unsubscribed: { code: number, reason: string }): void {
    if (this.#owner.options.plain.envelope) this.connection.write(plainEncoder.message({ channel, unsubscribed }))
  }
}
