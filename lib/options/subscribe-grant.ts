import { checkFields, checkUnixTime } from '../model/arguments.ts'

/**
 * What a subscription gets: a result of `onSubscribe`. A field that is left out keeps the value of the subscription
 * token.
 */
export interface SubscribeGrant {
  /** Data for the client, sent with the reply to its subscribe command. */
  data?: unknown
  /** What other clients see of this subscriber in this channel. */
  info?: unknown
  /**
   * Unix time in seconds at which the subscription ends with code 2501.
   * @default undefined (never)
   */
  expiresAt?: number | undefined
}

const GRANT_FIELDS: readonly (keyof SubscribeGrant)[] = ['data', 'info', 'expiresAt']

/**
 * Checks what `onSubscribe` has returned.
 * @throws FST_CRWS_INVALID_ARGUMENT
 */
export function checkGrant (grant: SubscribeGrant): SubscribeGrant {
  checkFields('result of onSubscribe', grant, GRANT_FIELDS)
  checkUnixTime('expiresAt from onSubscribe', grant.expiresAt)
  return grant
}
