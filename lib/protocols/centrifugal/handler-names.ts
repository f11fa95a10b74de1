import { namespaceOf } from '../../model/channel-rules.ts'
import type { Context } from './context.ts'
import type { CommandName } from './schema.ts'
import type { SdkSession } from './session.ts'

/**
 * Names the app's code that a command calls, for the log entry of its failure: a handler, or a rule. Names the command
 * where it calls none.
 */
export function handlerOf ({ options, namespaces }: Context, session: SdkSession, command: CommandName, request: object): string {
  switch (command) {
    case 'connect': return session.connected ? 'onConnect' : command
    case 'rpc': return 'onRpc'
    case 'send': return 'onMessage'
    case 'subscribe':
    case 'publish': {
      const { channel = '' } = request as { channel?: string }
      const handler = command === 'subscribe' ? 'onSubscribe' : 'onPublish'
      const rule = typeof namespaces.rules(channel)[command] === 'function' && `channels['${namespaceOf(channel)}'].${command}`
      return [rule, options[handler] !== undefined && handler].filter(Boolean).join(' or ') || command
    }
    default: return command
  }
}
