import { inspect } from 'node:util'
import { InvalidArgumentError } from '../model/errors.ts'

/** @throws FST_CRWS_INVALID_ARGUMENT unless it is the id of a user. */
export function checkUser (user: unknown): string {
  if (typeof user === 'string' && user !== '' && user.isWellFormed()) return user
  throw new InvalidArgumentError('user', inspect(user), 'a non-empty string of well-formed Unicode')
}
