import type { Answer, LateAnswer } from './answer.ts'
import { connect } from './connect.ts'
import type { Context } from './context.ts'
import { clientErrors, ReplyError } from './errors.ts'
import { history } from './history.ts'
import { presence, presenceStats } from './presence.ts'
import { publish } from './publish.ts'
import { refresh, subRefresh } from './refresh.ts'
import { anyChannelOf } from './requests.ts'
import { rpc, send } from './rpc.ts'
import type { CommandName, RequestOf } from './schema.ts'
import type { SdkSession } from './session.ts'
import { checkSubscribe, subscribe } from './subscribe.ts'
import { unsubscribe } from './unsubscribe.ts'

/** Publishes of one connection that Redis has not acknowledged yet. At this number, the next waits for the last. */
const MAX_PUBLISHING = 64

type Handler<Name extends CommandName> =
  (context: Context, session: SdkSession, request: RequestOf<Name>) => Promise<Answer | LateAnswer | undefined>

interface CommandOf<Name extends CommandName> {
  /** Returns the reply; undefined for none. @throws ReplyError, DisconnectError, or any error of the app. */
  readonly handle: Handler<Name>
  /** The next command of the connection waits until it is handled. All others may overlap. */
  readonly ordered?: boolean
  /** Answers that may be unacknowledged while the next command is handled. */
  readonly pipelined?: number
  /** Returns the channel whose earlier subscribes and unsubscribes are handled first, and later ones afterwards. */
  readonly turnOf?: (request: RequestOf<Name>) => string
}

/** All commands [Command-Reply]. If a message sets several, the first one in this order counts, as in Centrifuge. */
export const commands: { readonly [Name in CommandName]: CommandOf<Name> } = {
  connect: { handle: connect, ordered: true },
  ping: { handle: notAvailable },
  subscribe: { handle: subscribe, turnOf: checkSubscribe },
  unsubscribe: { handle: unsubscribe, turnOf: anyChannelOf },
  publish: { handle: publish, ordered: true, pipelined: MAX_PUBLISHING },
  presence: { handle: presence },
  presence_stats: { handle: presenceStats },
  history: { handle: history },
  rpc: { handle: rpc },
  send: { handle: send, ordered: true },
  refresh: { handle: refresh },
  sub_refresh: { handle: subRefresh }
}

export const commandNames = Object.keys(commands) as readonly CommandName[]

/** Refuses `ping`: in version 2 of the protocol a ping is an empty reply and a pong an empty command [Ping Pong]. */
async function notAvailable (): Promise<never> {
  throw new ReplyError(clientErrors.notAvailable)
}
