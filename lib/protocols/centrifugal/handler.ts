import type { Context } from './context.ts'
import type { CommandName, RequestOf } from './schema.ts'
import type { SdkSession } from './session.ts'

/**
 * Handles one command.
 * @throws ReplyError, DisconnectError, or any error of the app.
 */
export type Handler<Name extends CommandName> =
  (context: Context, session: SdkSession, request: RequestOf<Name>, reply: SendReply, next?: () => void) => Promise<void>

/** Writes the reply at once: whatever the handler writes next follows it. */
export type SendReply = (result: object) => void
