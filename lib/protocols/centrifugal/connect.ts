import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { Position, Publication } from '../../model/publication.ts'
import type { ConnectDetails, Identity } from '../../options/options.ts'
import type { Answer, LateAnswer } from './answer.ts'
import type { Context } from './context.ts'
import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import { expireConnection } from './expiry.ts'
import { dataOf, payloadOf } from './payloads.ts'
import { subscribeReply } from './replies.ts'
import { positionOf } from './requests.ts'
import type { Expiry, RequestOf, SubscribeReply } from './schema.ts'
import { NO_POSITIONS } from './session.ts'
import type { SdkSession } from './session.ts'
import { expiresAt, verifyConnectionToken } from './tokens.ts'
import type { Tokens } from './tokens.ts'

/** Version of the server, as clients see it. */
const VERSION = 'fastify-cloud-run-websocket'

/**
 * Handles `connect`: authenticate, set the expiry, subscribe to the identity's channels, call `onConnect`, reply, then
 * send what was published meanwhile. SDKs send subscribes in the same frame, so all other commands wait for it.
 */
export async function connect (context: Context, session: SdkSession, request: RequestOf<'connect'>): Promise<LateAnswer> {
  begin(session, request)
  const identity = await authenticate(context.tokens, session, request)
  context.instance.identified(session.connection, identity, session.request!)
  const expiry = expireConnection(session, identity.expiresAt)
  await subscribeServerSide(session, identity.channels)
  const answer = await callOnConnect(context, session, request)
  return () => welcome(context, session, expiry, answer)
}

function begin (session: SdkSession, { subs = {} }: RequestOf<'connect'>): void {
  if (session.phase !== 'new') throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
  session.phase = 'connecting'
  const recovering = Object.entries(subs).filter(([, { recover }]) => recover)
  session.positions = new Map(recovering.map(([channel, request]): [string, Position] => [channel, positionOf(request)]))
}

/** The token decides; without one, the identity that `authenticate` returned for the upgrade. */
async function authenticate (tokens: Tokens | undefined, session: SdkSession, { token = '' }: RequestOf<'connect'>): Promise<Identity> {
  const { identity } = session
  if (token === '' || tokens === undefined) {
    if (identity !== undefined) return identity
    // A token that nobody can verify must not make an anonymous user, nor must a missing one where tokens are required.
    if (token !== '') throw new DisconnectError(sdkOnlyCloseCodes.invalidToken)
    if (tokens !== undefined) throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
    return {}
  }
  const claims = await verifyConnectionToken(tokens, token, new ReplyError(clientErrors.tokenExpired))
  session.refreshable = true
  session.tokenChannels = claims.channels?.toSorted() ?? []
  return {
    user: claims.sub ?? '',
    info: claims.info,
    meta: claims.meta ?? identity?.meta,
    channels: session.tokenChannels,
    expiresAt: expiresAt(claims)
  }
}

async function subscribeServerSide ({ connection }: SdkSession, channels: readonly string[] = []): Promise<void> {
  await Promise.all(channels.map(channel => connection.subscribe(channel)))
}

async function callOnConnect ({ options: { onConnect } }: Context, session: SdkSession, request: RequestOf<'connect'>): Promise<unknown> {
  const upgrade = session.request!
  session.request = undefined // a connection does not keep it: memory
  session.welcomed = true
  return onConnect?.(session.connection, upgrade, connectDetails(request))
}

function connectDetails ({ data, name, version }: RequestOf<'connect'>): ConnectDetails {
  return {
    ...(data !== undefined && { data: dataOf(data) }),
    ...(name !== undefined && { name }),
    ...(version !== undefined && { version })
  }
}

/** Admits the connection to the channels that it was subscribed to meanwhile, and replies. */
function welcome (context: Context, session: SdkSession, expiry: Expiry, answer: unknown): Answer | undefined {
  const { connection, nativePing } = session
  if (!connection.open) return undefined
  const { instance, options: { heartbeat } } = context
  const data = typeof answer === 'object' && answer !== null && 'data' in answer ? payloadOf(answer.data) : undefined
  const admitted = admitDeferred(context, session)
  session.phase = 'connected'
  return {
    result: {
      client: connection.id,
      version: VERSION,
      ...expiry,
      ...(!nativePing && { ping: Math.ceil(heartbeat.interval / 1_000), pong: true }),
      ...(admitted.length > 0 && { subs: Object.fromEntries(admitted.map(({ channel, reply }) => [channel, reply])) }),
      ...(data !== undefined && { data })
    },
    after () {
      for (const { channel, live } of admitted) session.pushAll(channel, live)
      for (const { channel } of admitted) instance.joined(connection, channel)
    }
  }
}

interface Admitted {
  readonly channel: string
  readonly reply: SubscribeReply
  /** Publications that follow the reply. */
  readonly live: Publication[]
}

/** Admits the connection to its server-side subscriptions. Together they recover at most half of `maxBufferedBytes`. */
function admitDeferred ({ instance, options }: Context, session: SdkSession): Admitted[] {
  const admitted: Admitted[] = []
  let bytes = 0
  for (const [channel, joining] of session.deferred) {
    bytes += joining.bytes
    if (bytes > options.maxBufferedBytes / 2) joining.giveUp()
    const recovering = session.positions.has(channel)
    const caughtUp = joining.admit()
    if (caughtUp === undefined) throw new DisconnectError(sdkOnlyCloseCodes.insufficientState)
    if (recovering) instance.recovery(caughtUp.recovered)
    admitted.push({ channel, reply: subscribeReply(caughtUp, recovering), live: caughtUp.live })
  }
  session.deferred.clear()
  session.positions = NO_POSITIONS
  return admitted
}
