import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import { connect } from './connect.ts'
import { DisconnectError } from './errors.ts'
import type { Context } from './context.ts'
import { refresh, subRefresh } from './expiry.ts'
import type { Handler } from './handler.ts'
import { publish } from './publish.ts'
import { history, presence, presenceStats } from './queries.ts'
import { payloadOf } from './replies.ts'
import { dataOf } from './requests.ts'
import type { Command, CommandName } from './schema.ts'
import { subscribe, unsubscribe } from './subscribe.ts'

/** Refuses `ping`: in version 2 of the protocol a ping is an empty reply and a pong an empty command [Ping Pong]. */
const ping: Handler<'ping'> = async () => {
  throw new ReplyError(clientErrors.notAvailable, 'a ping of version 2 of the protocol is an empty command')
}

/** Handles `rpc`: a method of the app answers, else its `onRpc`. */
const rpc: Handler<'rpc'> = async ({ methods, options: { onRpc } }, { connection }, { method = '', data }, reply) => {
  const own = onRpc === undefined || methods.has(method)
  if (own && !methods.any) throw new ReplyError(clientErrors.notAvailable, 'the app has neither methods nor onRpc')
  const answer = payloadOf(await (own ? methods.call(connection, method, dataOf(data)) : onRpc(connection, method, dataOf(data))))
  reply(answer === undefined ? {} : { data: answer })
}

/** Handles `send`: a message for the app's `onMessage`. It has no id and no reply [Command-Reply]. */
const send: Handler<'send'> = async ({ options: { onMessage } }, { connection }, { data }) => {
  if (onMessage === undefined) throw new DisconnectError('unsupported')
  await onMessage(connection, dataOf(data))
}

/** All commands [Command-Reply]. If a message sets several, the first one in this order counts, as in Centrifuge. */
export const handlers: { readonly [Name in CommandName]: Handler<Name> } = {
  connect,
  ping,
  subscribe,
  unsubscribe,
  publish,
  presence,
  presence_stats: presenceStats,
  history,
  rpc,
  send,
  refresh,
  sub_refresh: subRefresh
}

export const commandNames = Object.keys(handlers) as readonly CommandName[]

const ordered: ReadonlySet<CommandName> = new Set(['connect', 'publish', 'send'])

/**
 * True if the next command of the connection waits until this one is done or calls `next`. All others overlap: also
 * calls of methods that are `concurrent`, and those that `onRpc` answers.
 */
export function isOrdered ({ methods }: Context, name: CommandName, { rpc }: Command): boolean {
  if (name !== 'rpc') return ordered.has(name)
  const { method = '' } = rpc!
  return methods.has(method) && !methods.concurrent(method)
}
