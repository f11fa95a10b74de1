import { connect } from './connect.ts'
import type { Context } from './context.ts'
import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import { refresh, subRefresh } from './expiry.ts'
import { dataOf, payloadOf } from './payloads.ts'
import { publish } from './publish.ts'
import { history, presence, presenceStats } from './queries.ts'
import type { SendReply } from './replies.ts'
import type { CommandName, RequestOf } from './schema.ts'
import type { SdkSession } from './session.ts'
import { subscribe, unsubscribe } from './subscribe.ts'

/** Handles one command. @throws ReplyError, DisconnectError, or any error of the app. */
type Handler<Name extends CommandName> =
  (context: Context, session: SdkSession, request: RequestOf<Name>, reply: SendReply, next: () => void) => Promise<void>

interface CommandOf<Name extends CommandName> {
  readonly handle: Handler<Name>
  /** True if the next command of the connection waits until this one is done or calls `next`. Others overlap. */
  readonly ordered: boolean
}

/** All commands [Command-Reply]. If a message sets several, the first one in this order counts, as in Centrifuge. */
export const commands: { readonly [Name in CommandName]: CommandOf<Name> } = {
  connect: { handle: connect, ordered: true },
  ping: { handle: ping, ordered: false },
  subscribe: { handle: subscribe, ordered: false },
  unsubscribe: { handle: unsubscribe, ordered: false },
  publish: { handle: publish, ordered: true },
  presence: { handle: presence, ordered: false },
  presence_stats: { handle: presenceStats, ordered: false },
  history: { handle: history, ordered: false },
  rpc: { handle: rpc, ordered: false },
  send: { handle: send, ordered: true },
  refresh: { handle: refresh, ordered: false },
  sub_refresh: { handle: subRefresh, ordered: false }
}

export const commandNames = Object.keys(commands) as readonly CommandName[]

/** Refuses `ping`: in version 2 of the protocol a ping is an empty reply and a pong an empty command [Ping Pong]. */
async function ping (): Promise<never> {
  throw new ReplyError(clientErrors.notAvailable)
}

/** Handles `rpc`: the app's `onRpc` answers. */
async function rpc ({ options }: Context, { connection }: SdkSession, request: RequestOf<'rpc'>, reply: SendReply): Promise<void> {
  const { onRpc } = options
  if (onRpc === undefined) throw new ReplyError(clientErrors.notAvailable)
  const data = payloadOf(await onRpc(connection, request.method ?? '', dataOf(request.data)))
  reply(data === undefined ? {} : { data })
}

/** Handles `send`: a message for the app's `onMessage`. It has no id and no reply [Command-Reply]. */
async function send ({ options }: Context, { connection }: SdkSession, request: RequestOf<'send'>): Promise<void> {
  const { onMessage } = options
  if (onMessage === undefined) throw new DisconnectError('unsupported')
  await onMessage(connection, dataOf(request.data))
}
