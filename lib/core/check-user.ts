import { inspect } from 'node:util'
import { InvalidArgumentError } from '../model/errors.ts'

/**
 * @param name What the error calls it.
 * @throws FST_CRWS_INVALID_ARGUMENT unless it is the id of a user, or of a client.
 */
export function checkUser (user: unknown, name = 'user'): string {
  if (typeof user === 'string' && user !== '' && user.isWellFormed()) return user
  throw new InvalidArgumentError(name, inspect(user), 'a non-empty string of well-formed Unicode')
}
