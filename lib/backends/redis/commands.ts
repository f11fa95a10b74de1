import { RESP_TYPES } from 'redis'
import { RedisNoAnswerError, RedisRefusedError, RedisUnavailableError } from '../../model/errors.ts'
import { describeError, newClient, RedisLink } from './link.ts'
import { loadScripts } from './scripts.ts'
import type { RedisSource } from '../../options/redis-source.ts'

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
  /** Starts connecting. Calls `changed` whenever `ready` has changed. */
  open (changed: () => void): void
  /** Sends a command to the node that owns `key`. */
  send (key: string, args: RedisArgument[], buffers?: boolean): Promise<unknown>
  close (): Promise<void>
}

export class StandaloneCommands implements RedisCommands {
  readonly publishCommand = 'PUBLISH'
  readonly #link: RedisLink

  constructor (source: RedisSource & { kind: 'standalone' | 'client' }) {
    this.#link = new RedisLink(newClient(source))
  }

  get ready (): boolean { return this.#link.ready }
  get reason (): string { return this.#link.reason }

  open (changed: () => void): void {
    this.#link.open({
      linkReady: () => {
        loadScripts(args => this.send('', args))
        changed()
      },
      linkLost: changed
    })
  }

  send (_key: string, args: RedisArgument[], buffers = false): Promise<unknown> {
    if (!this.ready) return Promise.reject(new RedisUnavailableError(this.reason))
    return withDeadline(this.#link.client.sendCommand(args, buffers ? BUFFERS : undefined))
  }

  close (): Promise<void> { return this.#link.close() }
}

/**
 * Resolves with the reply, or rejects with a coded error after `COMMAND_TIMEOUT` at the latest. The clock starts in the
 * immediate after this turn, when node-redis has written the command. When time is up, another immediate lets Node.js
 * read the socket first. So a blocked event loop is never taken for a Redis that does not answer.
 */
export function withDeadline<T> (reply: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const late = () => reject(new RedisNoAnswerError(`no reply within ${COMMAND_TIMEOUT} ms`))
    let timer: NodeJS.Timeout | undefined
    const written = setImmediate(() => { timer = setTimeout(() => setImmediate(late), COMMAND_TIMEOUT) })
    const settled = () => {
      clearImmediate(written)
      clearTimeout(timer)
    }
    reply.then(value => {
      settled()
      resolve(value)
    }, (error: unknown) => {
      settled()
      reject(codedError(error))
    })
  })
}

/** Names of error classes, not classes: a client that the app passed in may come from another copy of node-redis. */
const NOTHING_SENT = new Set(['ClientOfflineError', 'ClientClosedError'])
const REFUSED = new Set(['ErrorReply', 'SimpleError', 'BlobError', 'MultiErrorReply'])

function isCoded (error: unknown): error is Error {
  return [RedisNoAnswerError, RedisRefusedError, RedisUnavailableError].some(coded => error instanceof coded)
}

/** Returns the coded error: nothing was sent, Redis refused the command, or the outcome is unknown. */
function codedError (error: unknown): Error {
  if (isCoded(error)) return error
  const text = describeError(error)
  const name = error instanceof Error ? error.constructor.name : ''
  if (REFUSED.has(name)) return new RedisRefusedError(text)
  return NOTHING_SENT.has(name) || text === 'The queue is full' ? new RedisUnavailableError(text) : new RedisNoAnswerError(text)
}
