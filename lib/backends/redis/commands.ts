import { RESP_TYPES } from 'redis'
import { RedisNoAnswerError, RedisRefusedError, RedisUnavailableError } from '../../model/errors.ts'
import { describeError, newClient, RedisLink } from './link.ts'
import { loadScripts } from './scripts.ts'
import type { RedisSource } from '../../options/redis-source.ts'

/**
 * ms that a command may take. node-redis' own command timeout ends when the command is written, not when it is
 * answered.
 */
export const COMMAND_TIMEOUT = 2_000

export type RedisArgument = string | Buffer

/** Replies as bytes instead of text. */
export const BUFFERS = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } }

/**
 * Sends commands and answers each within two seconds: with the reply or with a coded error. Nothing waits for Redis
 * to come back.
 */
export interface RedisCommands {
  readonly ready: boolean
  /** Why it is not ready. */
  readonly reason: string
  /** Name of the command that publishes: sharded Pub/Sub in a cluster. */
  readonly publishCommand: 'PUBLISH' | 'SPUBLISH'
  /** Starts connecting; `changed` is called whenever `ready` has changed. */
  open (changed: () => void): void
  /** `key` chooses the node. */
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
 * The reply, or a coded error after `COMMAND_TIMEOUT` at the latest. The time begins when node-redis has written the
 * command, at the end of this turn; and when it is over, what lies unread in the socket is read before the second
 * immediate runs. So a turn that takes long is never taken for a Redis that does not answer.
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

/** Told apart by name: a client that the host passed in may come from another copy of node-redis. */
const NOTHING_SENT = new Set(['ClientOfflineError', 'ClientClosedError'])
const REFUSED = new Set(['ErrorReply', 'SimpleError', 'BlobError', 'MultiErrorReply'])

/** Whether nothing was sent, whether it is open what happened, or whether Redis said no. */
function codedError (error: unknown): Error {
  if (error instanceof RedisUnavailableError) return error
  const text = describeError(error)
  const name = error instanceof Error ? error.constructor.name : ''
  if (REFUSED.has(name)) return new RedisRefusedError(text)
  return NOTHING_SENT.has(name) || text === 'The queue is full' ? new RedisUnavailableError(text) : new RedisNoAnswerError(text)
}
