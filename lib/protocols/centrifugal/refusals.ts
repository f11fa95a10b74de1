import type { Connection } from '../../core/connection.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { Observer } from '../../observability/observer.ts'
import { DisconnectError, reasonOf } from './errors.ts'
import type { CommandName } from './schema.ts'

/** Characters of a channel or method in an entry. Valid channels have no more, and a client may send any string. */
const MAX_NAME = 255

/** What is thrown in place of a command that came too fast. One for all: a flood must not make errors. */
export const tooFast = new ReplyError(clientErrors.tooManyRequests, 'commands come faster than rateLimit.messages allows')

/** Writes to the log why a command was refused, while it takes entries of level debug. `code`: what the client gets. */
export function explain (
  observer: Observer, connection: Connection, command: CommandName, request: object | undefined, error: unknown, { code }: { code: number }
): void {
  if (!observer.debugs) return
  const { channel, method } = (request ?? {}) as { channel?: string, method?: string }
  const refusal = { command, channel: channel?.slice(0, MAX_NAME), method: method?.slice(0, MAX_NAME), code, reason: reasonOf(error) }
  const disconnects = error instanceof DisconnectError
  if ((disconnects || error instanceof ReplyError) && error.ofToken) observer.refused('token.refused', connection, refusal)
  if (!disconnects) observer.refused('command.refused', connection, refusal)
}
