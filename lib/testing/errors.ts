import createError from '@fastify/error'

/** When a test client asks for a message and the socket closes first. */
export const ClosedBeforeMessageError = createError<[number, string, string]>(
  'FST_CRWS_TEST_CLOSED', 'The socket was closed with %d "%s" before another message came. %s', 500
)
/** When a test client asks for a message and none comes in time. */
export const NoMessageError = createError<[number, string]>('FST_CRWS_TEST_NO_MESSAGE', 'No message came within %d ms. %s', 500)
/** When `nextJson` finds a message that is not JSON. */
export const NotJsonError = createError<[string]>('FST_CRWS_TEST_NOT_JSON', 'The next message is not JSON: %s. Use next() for it', 500)
const RefusedCommandError = createError<[string, number, string]>('FST_CRWS_TEST_REPLY', '%s was answered with error %d: %s', 500)

/** When the server answers a command of a test client with an error. */
export interface CommandRefusedError extends Error {
  readonly code: 'FST_CRWS_TEST_REPLY'
  /** Code and message of the error. */
  readonly reply: { readonly code: number, readonly message: string }
}

export function commandRefused (command: string, reply: CommandRefusedError['reply']): CommandRefusedError {
  return Object.assign(new RefusedCommandError(command, reply.code, reply.message), { reply }) as Error as CommandRefusedError
}

/** When `fakeTime` is called a second time. */
export const TimeIsFakeError = createError('FST_CRWS_TEST_TIME', 'Time is already fake. Call restore() before another fakeTime()', 500)

const RefusedError = createError<[string, number, string]>('FST_CRWS_TEST_REFUSED', 'The upgrade of %s was refused with %d: %s')

/** Why `testClient` has no connection: the answer to its upgrade. */
export interface UpgradeRefusedError extends Error {
  readonly code: 'FST_CRWS_TEST_REFUSED'
  readonly statusCode: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** Parsed where it is JSON, as the plugin's own answers are. */
  readonly body: unknown
}

export function upgradeRefused (path: string, statusCode: number, headers: UpgradeRefusedError['headers'], text: string): UpgradeRefusedError {
  const error = Object.assign(new RefusedError(path, statusCode, text), { statusCode, headers, body: parsed(text) })
  return error as Error as UpgradeRefusedError
}

/** The value of a text that is JSON, else the text. */
export function parsed (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
