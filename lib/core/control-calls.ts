import { inspect } from 'node:util'
import { checkFields } from '../model/arguments.ts'
import { checkChannel } from '../model/channel-rules.ts'
import { checkClose, closeCodes } from '../model/close-codes.ts'
import { InvalidArgumentError } from '../model/errors.ts'
import type { Observer } from '../observability/observer.ts'
import { checkUser } from './check-user.ts'
import type { CommandSender, Recipients, Target } from './control.ts'
import { messageFields } from './direct-message.ts'
import { guarded } from './guard.ts'

/** Commands about connections, wherever they are. */
export interface ControlCalls {
  /**
   * Subscribes every connection that the user has now, on any instance. Resolves when the command is stored.
   * @throws FST_CRWS_INVALID_CHANNEL, FST_CRWS_INVALID_ARGUMENT, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER,
   * FST_CRWS_REDIS_REFUSED
   */
  subscribe (user: string, channel: string): Promise<void>
  /**
   * Unsubscribes every connection that the user has now, on any instance. An SDK client is told, and may subscribe
   * again if the rules allow it; a plain client is told only with `plain.envelope`. Resolves when the command is
   * stored.
   * @throws as `subscribe`
   */
  unsubscribe (user: string, channel: string): Promise<void>
  /**
   * Closes every connection of a user, or one connection by its id, on any instance. Resolves when the command is
   * stored.
   * @param options `@default` code 3503 and reason 'force disconnect', which keep SDK clients out. So do 1000, 3500 to
   * 3999 and 4500 to 4999. After 3000 to 3499 and 4000 to 4499 they connect again at once.
   * @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_REDIS_UNAVAILABLE, FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  disconnect (target: string | Target, options?: { code?: number | undefined, reason?: string | undefined }): Promise<void>
  /**
   * Sends a message, as `connection.send` does, to every connection that a user has now, to one connection by its id,
   * or to everybody, on all instances: each connection gets it once, with no channel and no subscription. Resolves when
   * the message is stored; it does not say whether anybody was there. An instance that has lost Redis sends it when
   * Redis is back, to the connections that it then has.
   * @param target A user, `{ user }`, `{ client }`, or `{ everybody: true }`.
   * @param data Anything that JSON can carry, or a Buffer. At most 64 KiB. Publish larger messages to a channel, and
   * frequent ones for many clients. Messages share the thousand commands that are kept for instances without Redis.
   * @throws FST_CRWS_INVALID_ARGUMENT, FST_CRWS_INVALID_DATA, FST_CRWS_MESSAGE_TOO_LARGE, FST_CRWS_REDIS_UNAVAILABLE,
   * FST_CRWS_REDIS_NO_ANSWER, FST_CRWS_REDIS_REFUSED
   */
  send (target: string | Recipients, data: unknown): Promise<void>
}

const TARGETS = 'a user, { user } or { client }'
const SEND_TARGETS = 'a user, { user }, { client } or { everybody: true }'

export function controlCalls (control: CommandSender, observer: Observer): ControlCalls {
  return {
    subscribe: guarded(observer, 'control', (user, channel) => {
      return control.send({ type: 'subscribe', user: checkUser(user), channel: checkChannel(channel) })
    }),
    unsubscribe: guarded(observer, 'control', (user, channel) => {
      return control.send({ type: 'unsubscribe', user: checkUser(user), channel: checkChannel(channel) })
    }),
    disconnect: guarded(observer, 'control', (target, options = {}) => {
      checkFields('options of disconnect', options, ['code', 'reason'])
      const { code = closeCodes.forceDisconnect.code, reason = closeCodes.forceDisconnect.reason } = options
      return control.send({ type: 'disconnect', ...checkTarget(target), ...checkClose(code, reason) })
    }),
    send: guarded(observer, 'send', (target, data) => {
      return control.send({ type: 'message', ...checkRecipients(target), ...messageFields(data) })
    })
  }
}

function checkRecipients (target: string | Recipients): Recipients {
  if (typeof target !== 'object' || target === null || !('everybody' in target)) return checkTarget(target, SEND_TARGETS)
  if (target.everybody === true && Object.keys(target).length === 1) return { everybody: true }
  throw new InvalidArgumentError('target', inspect(target), SEND_TARGETS)
}

function checkTarget (target: string | Target, allowed = TARGETS): Target {
  if (typeof target === 'string') return { user: checkUser(target) }
  const { client, user } = Object(target) as { client?: unknown, user?: unknown }
  if (client !== undefined) return { client: checkUser(client, 'client') }
  if (user !== undefined) return { user: checkUser(user) }
  throw new InvalidArgumentError('target', inspect(target), allowed)
}
