import { randomBytes } from 'node:crypto'

// Every test has its own keys, so that tests can share a Redis and none needs FLUSHALL.
export function randomPrefix (): string {
  return `test-${randomBytes(6).toString('hex')}`
}
