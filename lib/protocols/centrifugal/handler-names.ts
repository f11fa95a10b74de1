import type { Context } from './context.ts'
import type { CommandName } from './schema.ts'
import type { SdkSession } from './session.ts'

/**
 * Names the app's code that a command calls, for the log entry of its failure: a handler, or a rule. Names the command
 * where it calls none.
 */
export function handlerOf ({ methods, permissions }: Context, session: SdkSession, command: CommandName, request: object): string {
  switch (command) {
    case 'connect': return session.connected ? 'onConnect' : command
    case 'rpc': return methods.handlerOf((request as { method?: string }).method ?? '') ?? 'onRpc'
    case 'send': return 'onMessage'
    case 'subscribe':
    case 'publish': return permissions.deciderOf(command, (request as { channel?: string }).channel ?? '') ?? command
    case 'presence':
    case 'presence_stats': return permissions.deciderOf('presenceFor', (request as { channel?: string }).channel ?? '') ?? command
    default: return command
  }
}
