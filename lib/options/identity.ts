import { inspect } from 'node:util'
import { checkFields, checkUnixTime } from '../model/arguments.ts'
import type { Connection } from '../model/connection.ts'
import { InvalidArgumentError } from '../model/errors.ts'
import { encodePayload } from '../model/publication.ts'

/** The user at the other end of a connection: what `authenticate` returns. */
export interface Identity {
  /**
   * The user's id.
   * @default '' (a user that is not known)
   */
  user?: string | undefined
  /**
   * JSON that other clients may see of this user, for example in presence lists.
   * @default undefined
   */
  info?: Connection['info'] | undefined
  /**
   * Channels that the connection is subscribed to at once. Channel rules do not apply to them.
   * @default []
   */
  channels?: readonly string[] | undefined
  /**
   * Unix time in seconds at which the connection is closed with 3005.
   * @default undefined (never)
   */
  expiresAt?: number | undefined
  /**
   * Anything that your app needs later, as `connection.meta`. It is never sent anywhere.
   * @default undefined
   */
  meta?: Connection['meta'] | undefined
}

const IDENTITY_FIELDS: readonly (keyof Identity)[] = ['user', 'info', 'channels', 'expiresAt', 'meta']

/**
 * Checks what `authenticate` has returned.
 * @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_INVALID_DATA
 */
export function checkIdentity (identity: Identity): Identity {
  checkFields('result of authenticate', identity, IDENTITY_FIELDS)
  const { user, info, channels, expiresAt } = identity
  if (user !== undefined && !(typeof user === 'string' && user.isWellFormed())) {
    throw new InvalidArgumentError('user from authenticate', inspect(user), 'a string of well-formed Unicode')
  }
  checkUnixTime('expiresAt from authenticate', expiresAt)
  if (channels !== undefined && !isListOfStrings(channels)) {
    throw new InvalidArgumentError('channels from authenticate', inspect(channels), 'a list of strings')
  }
  if (info !== undefined) encodePayload(info) // throws where JSON cannot carry it into presence lists
  return identity
}

function isListOfStrings (value: unknown): boolean {
  return Array.isArray(value) && value.every(one => typeof one === 'string')
}
