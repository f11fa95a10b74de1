import { RESP_TYPES } from 'redis'
import { RedisNoAnswerError, RedisRefusedError, RedisUnavailableError } from '../../model/errors.ts'
import { describeError } from './client.ts'
import type { RedisClient } from './client.ts'
import type { Endpoint } from './endpoint.ts'
import type { RedisKeys } from './keys.ts'
import { RedisLink } from './link.ts'
import { isAway, isUnusable } from './replies.ts'
import { requireRights } from './rights.ts'
import { loadScripts } from './scripts.ts'

/** Milliseconds that a command may take until its reply. node-redis' own timeout ends when the command is written. */
export const COMMAND_TIMEOUT = 2_000

export type RedisArgument = string | Buffer

/** Makes replies Buffers instead of strings. */
export const BUFFERS = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } }

/**
 * Sends commands. Each settles within `COMMAND_TIMEOUT`: with the reply, or with a coded error. Nothing is queued while
 * Redis is down.
 */
export interface RedisCommands {
  readonly ready: boolean
  /** Why it is not ready. */
  readonly reason: string
  /** Name of the command that publishes. A cluster has sharded Pub/Sub. */
  readonly publishCommand: 'PUBLISH' | 'SPUBLISH'
  /** Starts connecting. Calls `changed` whenever `ready` has changed, and when `reason` may have. */
  open (changed: () => void): void
  /** Sends a command to the node that owns `key`. */
  send (key: string, args: RedisArgument[], buffers?: boolean): Promise<unknown>
  close (): Promise<void>
}

export class StandaloneCommands implements RedisCommands {
  readonly publishCommand = 'PUBLISH'
  readonly #link: RedisLink
  readonly #keys: RedisKeys
  readonly #unusable: (reason: string) => void
  #hasRights = false

  /** @param unusable Called when the server turns out to be of no use: a replica now, for example. Calls `giveUp`. */
  constructor (endpoint: Endpoint, keys: RedisKeys, unusable: (reason: string) => void) {
    this.#link = new RedisLink(endpoint)
    this.#keys = keys
    this.#unusable = unusable
  }

  get ready (): boolean { return this.#link.ready }
  get reason (): string { return this.#link.reason }

  open (changed: () => void): void {
    const listener = { linkReady: changed, linkLost: changed, attemptFailed: changed, unusable: this.#unusable }
    this.#link.open({ ...listener, prepare: client => this.#prepare(client) })
  }

  send (_key: string, args: RedisArgument[], buffers = false): Promise<unknown> {
    if (!this.ready) return Promise.reject(new RedisUnavailableError(this.reason))
    return withDeadline(this.#link.client!.sendCommand(args, buffers ? BUFFERS : undefined), this.#unusable)
  }

  async #prepare (client: RedisClient): Promise<void> {
    const send = (args: string[]) => client.sendCommand(args)
    loadScripts(send)
    if (this.#hasRights) return
    await requireRights(send, this.publishCommand, this.#keys)
    this.#hasRights = client.isReady // else the connection broke, and nothing was tried
  }

  /** Connects anew. */
  giveUp (reason: string): void {
    this.#link.giveUp(new Error(reason))
  }

  close (): Promise<void> { return this.#link.close() }
}

/**
 * Resolves with the reply, or rejects with a coded error after `COMMAND_TIMEOUT` at the latest. The clock starts in the
 * immediate after this turn, when node-redis has written the command. When time is up, another immediate lets Node.js
 * read the socket first. So a blocked event loop is never taken for a Redis that does not answer.
 * @param unusable Called with an error reply that says that the server takes no commands.
 * @param timeout Milliseconds. `@default` COMMAND_TIMEOUT
 */
export function withDeadline<T> (
  reply: Promise<T>, unusable?: (reply: string) => void, timeout = COMMAND_TIMEOUT
): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new RedisNoAnswerError(`no reply within ${timeout} ms`))
    let timer: NodeJS.Timeout | undefined
    const written = setImmediate(() => { timer = setTimeout(() => setImmediate(late), timeout) })
    const settled = () => {
      clearImmediate(written)
      clearTimeout(timer)
    }
    reply.then(value => {
      settled()
      resolve(value)
    }, (error: unknown) => {
      settled()
      reject(codedError(error, unusable))
    })
  })
}

/** Names of error classes, not classes: a client that the app passed in may come from another copy of node-redis. */
const NOTHING_SENT = new Set(['ClientOfflineError', 'ClientClosedError'])
const REFUSED = new Set(['ErrorReply', 'SimpleError', 'BlobError', 'MultiErrorReply'])

function isCoded (error: unknown): error is Error {
  return [RedisNoAnswerError, RedisRefusedError, RedisUnavailableError].some(coded => error instanceof coded)
}

/** Returns the coded error: nothing was sent or stored, Redis refused the command, or the outcome is unknown. */
function codedError (error: unknown, unusable?: (reply: string) => void): Error {
  if (isCoded(error)) return error
  const text = describeError(error)
  const name = error instanceof Error ? error.constructor.name : ''
  if (REFUSED.has(name)) {
    if (isUnusable(text)) unusable?.(text)
    return isAway(text) ? new RedisUnavailableError(text) : new RedisRefusedError(text)
  }
  return NOTHING_SENT.has(name) || text === 'The queue is full' ? new RedisUnavailableError(text) : new RedisNoAnswerError(text)
}
