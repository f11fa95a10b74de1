import type { Answer } from './answer.ts'
import type { Context } from './context.ts'
import type { RequestOf } from './schema.ts'
import type { SdkSession } from './session.ts'

/**
 * Handles `unsubscribe`. It succeeds for any channel but leaves only client-side subscriptions: SDKs take an error here
 * for a broken connection.
 */
export async function unsubscribe ({ instance }: Context, session: SdkSession, request: RequestOf<'unsubscribe'>): Promise<Answer> {
  const { channel = '' } = request // checked before its turn
  const { connection, subscriptions } = session
  if (subscriptions.get(channel)?.serverSide === false) {
    const left = instance.leave(connection, channel)
    subscriptions.delete(channel)
    await left
  }
  return { result: {} }
}

/** Ends a client-side subscription on behalf of the server, and tells the client why. */
export function drop ({ instance }: Context, session: SdkSession, channel: string, why: { code: number, reason: string }): void {
  instance.leave(session.connection, channel)
  session.subscriptions.delete(channel)
  session.push({ channel, unsubscribe: why })
}
