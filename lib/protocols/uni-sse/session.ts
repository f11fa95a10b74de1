import type { FastifyRequest } from 'fastify'
import { subscribeClient } from '../../core/client-subscribe.ts'
import type { Admitted, SubscribingSession } from '../../core/client-subscribe.ts'
import type { Connection } from '../../core/connection.ts'
import type { Session } from '../../core/session.ts'
import { topOf } from '../../hub/recovery.ts'
import type { Recovery } from '../../hub/recovery.ts'
import type { Subscription } from '../../hub/subscription.ts'
import { startOf } from '../../model/channel-rules.ts'
import { ClientError } from '../../model/client-error.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { SubscribeResult } from '../../model/connection.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import { ALREADY_REPORTED } from '../../model/errors.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Payload, Position } from '../../model/publication.ts'
import { unsubscribeCodes } from '../../model/unsubscribe-codes.ts'
import type { Identity } from '../../options/identity.ts'
import { describe, readable } from '../../util/thrown.ts'
import { payloadOf } from '../centrifugal/replies.ts'
import { jsonField } from '../plain/json-field.ts'
import { arrivalOf } from './arrival.ts'
import type { UniSseContext } from './context.ts'
import { channelFrame, connectedEvent, heartbeat, positionFrame } from './encoder.ts'
import type { EventStream } from './event-stream.ts'
import { givenByToken } from './identity.ts'
import { channelRefusal, connectionRefusal } from './refusals.ts'
import type { EventSourceRequest } from './request.ts'

/** One client that only listens. Its request has said all that it will ever ask. */
export class UniSseSession implements Session, SubscribingSession {
  readonly positioned = true
  connected = false
  readonly connection: Connection
  left: undefined
  readonly #context: UniSseContext
  readonly #stream: EventStream
  readonly #request: EventSourceRequest
  /** Kept until the first event, for what the token gives the client in its channels. */
  #identity: Identity | undefined
  /** Fields of the first event, by channel; undefined once it was written. */
  #fields: Map<string, string> | undefined = new Map()
  /** What `onConnect` has returned for the client. */
  #data: Payload | undefined
  /** Bytes that were recovered for the first event. */
  #recovered = 0
  /** Unix time in milliseconds at which the first subscription ends, or earlier. */
  #nextExpiry = Infinity

  constructor (connection: Connection, context: UniSseContext, stream: EventStream, request: EventSourceRequest) {
    this.connection = connection
    this.#context = context
    this.#stream = stream
    this.#request = request
  }

  /** The stream begins when the client has all of its channels: a refusal is an HTTP status, at which clients stop. */
  start (identity: Identity = {}, request: FastifyRequest): void {
    const { connection } = this
    const { inbox } = connection
    const { connections } = this.#context
    this.#identity = identity
    if (identity.expiresAt !== undefined) connection.closeAt(identity.expiresAt * 1_000, 'expired')
    connections.identified(connection, identity, request)
    for (const channel of identity.channels ?? []) {
      inbox.run('subscribe', () => connections.subscribe(connection, channel, {}, givenByToken(identity, channel)))
    }
    inbox.run('onConnect', () => this.#connect(request))
    inbox.run('subscribe', () => this.#open())
  }

  /** A client that only listens sends nothing. */
  handle (): void {}

  /** No answer can come. */
  ping (): void {
    this.connection.pongBy = 0
    if (this.#fields === undefined) this.connection.write(heartbeat)
  }

  closed (): void {}

  sweep (now: number): void {
    if (now < this.#nextExpiry) return
    const subscriptions = Array.from(this.connection.subscriptions.values())
    this.#nextExpiry = Math.min(...subscriptions.map(({ expiresAt }) => expiresAt > now ? expiresAt : Infinity))
    for (const subscription of subscriptions) {
      if (subscription.expiresAt > now) continue
      this.#context.subscriptions.end(this.connection, subscription)
      this.#tellUnsubscribed(subscription.channel, unsubscribeCodes.expired)
    }
  }

  positionOf (channel: string): Position | undefined {
    const { history } = this.#context.namespaces.rules(channel)
    return history === undefined ? undefined : this.#request.positions.of(channel)
  }

  subscribed (subscription: Subscription): SubscribeResult {
    const { observer, subscriptions } = this.#context
    const { since, channel } = subscription
    const recovery = subscription.admit()
    if (recovery === undefined) return this.#startAgain() // a gap
    const data = this.#identity && givenByToken(this.#identity, channel)?.data
    const recovered = this.#arrive(subscription, recovery, since, payloadOf(data))
    subscriptions.announceJoin(this.connection, subscription)
    if (since === undefined) return {}
    observer.recovered(recovered)
    return { recovered, offset: topOf(recovery), epoch: recovery.epoch }
  }

  unsubscribed (channel: string): void {
    this.#tellUnsubscribed(channel, unsubscribeCodes.server)
  }

  positionLost (): void {
    this.#startAgain()
  }

  /** The client comes back with its positions, and is told what cannot be recovered. */
  #startAgain (): SubscribeResult {
    this.connection.end(sdkOnlyCloseCodes.insufficientState)
    return {}
  }

  async #connect (request: FastifyRequest): Promise<void> {
    const { connection } = this
    if (!connection.open) return
    this.connected = true
    try {
      const answer = await this.#context.options.onConnect?.(connection, request, {})
      if (typeof answer === 'object' && answer !== null && 'data' in answer) this.#data = encodePayload(answer.data)
    } catch (error) {
      if (error instanceof ClientError) this.#stream.refuse(connectionRefusal(error))
      throw error // the inbox ends the connection
    }
  }

  async #open (): Promise<void> {
    const { connection } = this
    const { channels } = this.#request
    // All of them, so that the client is told of the same one each time.
    const outcomes = await Promise.allSettled(channels.map(channel => this.#subscribe(channel)))
    if (!connection.open) return
    const refused = outcomes.findIndex(({ status }) => status === 'rejected')
    if (refused !== -1) return this.#refuse(channels[refused]!, (outcomes[refused] as PromiseRejectedResult).reason)
    const fields = Array.from(this.#fields ?? [], ([channel, fields]) => `${JSON.stringify(channel)}:${fields}`)
    const data = this.#data === undefined ? '' : `,${jsonField('data', this.#data)}`
    this.#fields = this.#identity = undefined
    this.#stream.begin(connectedEvent(`{"client":"${connection.id}","channels":{${fields.join()}}${data}}`, this.#stream.ids.line))
  }

  async #subscribe (channel: string): Promise<void> {
    if (!this.connection.open) return
    if (this.connection.subscriptions.has(channel)) return // the app has subscribed it
    const since = this.#request.positions.of(channel)
    await subscribeClient(this.#context, this, { channel, since, rejectsUnrecovered: false, details: {}, byToken: undefined }, admitted => {
      this.#admitted(admitted)
    })
  }

  #admitted ({ subscription, recovery, recovering, data, expiresAt }: Admitted): void {
    if (recovery === undefined) throw new ReplyError(clientErrors.internal, 'publications arrived with a gap while the client subscribed')
    if (expiresAt !== undefined) {
      subscription.expiresAt = expiresAt * 1_000
      this.#nextExpiry = Math.min(this.#nextExpiry, subscription.expiresAt)
    }
    const own = recovering ? this.#request.positions.of(subscription.channel) : undefined
    this.#arrive(subscription, recovery, own, data)
  }

  /** Sends what a subscription starts with. Returns false if there is a gap, which the client is told of. */
  #arrive ({ channel }: Subscription, given: Recovery, since: Position | undefined, data?: Payload): boolean {
    const { namespaces, options } = this.#context
    const fields = this.#fields
    let recovery = given
    if (fields !== undefined && since !== undefined && given.recovered) {
      this.#recovered += given.missed.reduce((sum, { payload }) => sum + payload.length, 0)
      // All channels together recover what one may: more could be too much for a client that has not read anything.
      if (this.#recovered > options.maxBufferedBytes / 2) recovery = withoutMissed(given)
    }
    const streams = startOf(namespaces.rules(channel)) === 'streams'
    const arrival = arrivalOf(channel, recovery, since, streams, data)
    fields?.set(channel, arrival.fields)
    if (arrival.segment !== undefined) {
      if (fields === undefined) this.connection.write(positionFrame(channel, arrival.segment))
      else this.#stream.ids.set(channel, arrival.segment)
    }
    for (const frame of arrival.frames) this.connection.write(frame)
    return recovery.recovered
  }

  #refuse (channel: string, reason: unknown): void {
    const { connection } = this
    const { observer, permissions } = this.#context
    const error = readable(reason)
    const { error: refusal, end, code } = channelRefusal(channel, error)
    if (code === clientErrors.internal.code && !(error instanceof ReplyError) && !isReported(error)) {
      observer.failed(connection, error, permissions.deciderOf('subscribe', channel) ?? 'subscribe')
    }
    if (observer.debugs) {
      const text = error instanceof ReplyError ? error.detail : describe(error)
      observer.refused('command.refused', connection, { command: 'subscribe', channel, method: undefined, code, reason: text })
    }
    this.#stream.refuse(refusal)
    connection.disconnect(end)
  }

  #tellUnsubscribed (channel: string, unsubscribed: { code: number, reason: string }): void {
    this.connection.write(channelFrame(channel, { unsubscribed }, undefined))
  }
}

/** The client goes on from where it would be if it had recovered. */
function withoutMissed (recovery: Recovery): Recovery {
  return { ...recovery, recovered: false, missed: [], live: [], offset: topOf(recovery) }
}

function isReported (error: unknown): boolean {
  return ALREADY_REPORTED.has(String((error as { code?: unknown } | undefined)?.code))
}
