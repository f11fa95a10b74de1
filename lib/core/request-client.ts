import { inspect } from 'node:util'
import { checkFields } from '../model/arguments.ts'
import type { RequestOptions } from '../model/connection.ts'
import { ConnectionClosedError, InvalidArgumentError, RequestUnsupportedError } from '../model/errors.ts'
import { milliseconds } from '../options/checks.ts'
import type { Connection } from './connection.ts'

/** Milliseconds that a client has to answer, unless the app says otherwise. */
const TIMEOUT = 10_000

/** Asks a client on behalf of the app, and checks the arguments. */
export function requestClient (connection: Connection, method: string, data?: unknown, options: RequestOptions = {}): Promise<unknown> {
  const { session } = connection
  if (session.ask === undefined) throw new RequestUnsupportedError(connection.id)
  if (typeof method !== 'string' || method === '') throw new InvalidArgumentError('method', inspect(method), 'a non-empty string')
  checkFields('options of request', options, ['timeout'])
  const timeout = options.timeout === undefined ? TIMEOUT : milliseconds(options.timeout)
  if (timeout === undefined || timeout < 1) {
    throw new InvalidArgumentError('timeout', inspect(options.timeout), "a duration of at least 1 ms: a number of milliseconds or a string such as '10s'")
  }
  if (!connection.open) throw new ConnectionClosedError(connection.id)
  return session.ask(method, data, timeout)
}
