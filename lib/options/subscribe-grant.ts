import { inspect } from 'node:util'
import { checkFields, checkUnixTime } from '../model/arguments.ts'
import { InvalidArgumentError } from '../model/errors.ts'
import { isPosition } from '../model/publication.ts'
import type { Position } from '../model/publication.ts'

/**
 * What a subscription gets: a result of `onSubscribe`. A field that is left out keeps the value of the subscription
 * token.
 */
export interface SubscribeGrant {
  /**
   * Data for the client, sent with the reply to its subscribe command. A snapshot of what is published in the channel
   * needs `since`: without it the client misses what is published between your read and the end of `onSubscribe`.
   */
  data?: unknown
  /**
   * Position of the channel before `data` was read: what `realtime.history(channel, { limit: 0 })` returned. The client
   * gets all that was published after it, right after `data`. Some of that may be in `data` already. It needs a
   * namespace with history.
   *
   * A client that recovers from a position of its own does so, and `since` is used only if it cannot. If the history no
   * longer has everything since then, the client gets error 100 and asks again.
   * @default undefined (the client gets what is published from now on)
   */
  since?: Position | undefined
  /** What other clients see of this subscriber in this channel. */
  info?: unknown
  /**
   * Unix time in seconds at which the subscription ends with code 2501.
   * @default undefined (never)
   */
  expiresAt?: number | undefined
}

const GRANT_FIELDS: readonly (keyof SubscribeGrant)[] = ['data', 'since', 'info', 'expiresAt']

/**
 * Checks what `onSubscribe` has returned for a channel. `history`: whether its namespace keeps one.
 * @throws FST_CRWS_INVALID_ARGUMENT
 */
export function checkGrant (grant: SubscribeGrant, channel: string, history: boolean): SubscribeGrant {
  checkFields('result of onSubscribe', grant, GRANT_FIELDS)
  checkUnixTime('expiresAt from onSubscribe', grant.expiresAt)
  const { since } = grant
  if (since === undefined) return grant
  if (!history) {
    throw new InvalidArgumentError('since from onSubscribe', inspect(since), `undefined: the namespace of channel ${channel} keeps no history`)
  }
  if (!isPosition(since)) {
    throw new InvalidArgumentError('since from onSubscribe', inspect(since), '{ offset, epoch } as realtime.history(channel, { limit: 0 }) returns it')
  }
  return grant
}
