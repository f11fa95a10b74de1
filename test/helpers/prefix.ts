import { randomBytes } from 'node:crypto'

/** A prefix for the keys of one test, so that tests can share a Redis and none needs FLUSHALL. */
export function randomPrefix (): string {
  return `test-${randomBytes(6).toString('hex')}`
}
