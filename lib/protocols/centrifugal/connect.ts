import type { FastifyRequest } from 'fastify'
import type { Subscription } from '../../hub/subscription.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { Position, Publication } from '../../model/publication.ts'
import type { ConnectDetails } from '../../options/connect-details.ts'
import type { Identity } from '../../options/identity.ts'
import { takesNumbers } from './compact.ts'
import type { Context } from './context.ts'
import { DisconnectError, tokenRefused } from './errors.ts'
import { expireConnection } from './expiry.ts'
import type { Handler } from './handler.ts'
import { payloadOf, subscribeReply } from './replies.ts'
import { dataOf, positionOf } from './requests.ts'
import type { RequestOf, SubscribeReply } from './schema.ts'
import { NO_POSITIONS } from './session.ts'
import type { SdkSession } from './session.ts'
import type { TokenSubscription } from './token-subs.ts'
import { channelsOf, identityOf, verifyConnectionToken } from './tokens.ts'
import type { Tokens } from './tokens.ts'

/** Version of the server, as clients see it. */
const VERSION = 'fastify-cloud-run-websocket'

/**
 * Handles `connect`: authenticate, set the expiry, subscribe to the identity's channels, call `onConnect`, reply, then
 * send what was published meanwhile. SDKs send subscribes in the same frame, so all other commands wait for it.
 */
export const connect: Handler<'connect'> = async (context, session, request, reply) => {
  const { connections, subscriptions, options: { heartbeat, onConnect } } = context
  const { connection, nativePing } = session
  const upgrade = begin(session, request)
  const identity = await authenticate(context.tokens, session, request)
  if (!connection.open) return // it would never leave the lists of users
  connections.identified(connection, identity, upgrade)
  const expiry = expireConnection(session, identity.expiresAt)
  await Promise.all((identity.channels ?? []).map(channel => connections.subscribe(connection, channel, {}, identity.subs?.get(channel))))
  session.connected = true
  const answer = await onConnect?.(connection, upgrade, connectDetails(request))
  if (!connection.open) return
  const data = typeof answer === 'object' && answer !== null && 'data' in answer ? payloadOf(answer.data) : undefined
  // No `await` from here on: publications reach the client from its admission on, so the reply must leave first.
  const admitted = admitServerSide(context, session, identity)
  session.phase = 'connected'
  reply({
    client: connection.id,
    version: VERSION,
    ...expiry,
    ...(!nativePing && { ping: Math.ceil(heartbeat.interval / 1_000), pong: true }),
    ...(admitted.length > 0 && { subs: Object.fromEntries(admitted.map(({ subscription, reply }) => [subscription.channel, reply])) }),
    ...(data !== undefined && { data }),
    ...(session.secret !== undefined && { session: session.secret, node: context.instance })
  })
  for (const { subscription, live } of admitted) session.pushAll(subscription, live)
  for (const { subscription } of admitted) subscriptions.announceJoin(connection, subscription)
}

/** Returns the upgrade's request. The session keeps it no longer, to save memory. */
function begin (session: SdkSession, { subs = {}, name }: RequestOf<'connect'>): FastifyRequest {
  if (session.phase !== 'new') throw new DisconnectError(sdkOnlyCloseCodes.badRequest, 'connect came twice')
  session.phase = 'connecting'
  session.takesNumbers = takesNumbers(session.encoder, name)
  const recovering = Object.entries(subs).filter(([, { recover }]) => recover)
  session.positions = new Map(recovering.map(([channel, request]): [string, Position] => [channel, positionOf(request)]))
  const upgrade = session.request!
  session.request = undefined
  return upgrade
}

interface Authenticated extends Identity {
  /** What the token gives server-side subscriptions, by channel. */
  readonly subs?: ReadonlyMap<string, TokenSubscription>
}

/** The token decides; without one, the identity that `authenticate` returned for the upgrade. */
async function authenticate (tokens: Tokens | undefined, session: SdkSession, { token = '' }: RequestOf<'connect'>): Promise<Authenticated> {
  const { identity } = session
  if (token === '' || tokens === undefined) {
    if (identity !== undefined) return identity
    // A token that nobody can verify must not make an anonymous user, nor must a missing one where tokens are required.
    if (token !== '') {
      throw tokenRefused(new DisconnectError(sdkOnlyCloseCodes.invalidToken), 'the client sent a token, and the option token is not set')
    }
    if (tokens !== undefined) {
      throw tokenRefused(new DisconnectError(sdkOnlyCloseCodes.badRequest), 'the client sent no token, and the app has no authenticate')
    }
    return {}
  }
  const claims = await verifyConnectionToken(tokens, token, new ReplyError(clientErrors.tokenExpired))
  session.refreshable = true
  session.tokenChannels = channelsOf(claims)
  return { ...identityOf(claims, identity?.meta), channels: session.tokenChannels, subs: claims.subs }
}

function connectDetails ({ data, name, version }: RequestOf<'connect'>): ConnectDetails {
  return {
    ...(data !== undefined && { data: dataOf(data) }),
    ...(name !== undefined && { name }),
    ...(version !== undefined && { version })
  }
}

interface Admitted {
  readonly subscription: Subscription
  readonly reply: SubscribeReply
  /** Publications that are sent after the reply. */
  readonly live: Publication[]
}

/** Admits the server-side subscriptions. Together they recover at most half of `maxBufferedBytes`. */
function admitServerSide ({ observer, options }: Context, session: SdkSession, { subs }: Authenticated): Admitted[] {
  const admitted: Admitted[] = []
  let bytes = 0
  for (const subscription of session.joined) {
    if (subscription.state === 'ended') continue // the app has unsubscribed the connection again
    const { channel, recoveryBytes } = subscription
    bytes += recoveryBytes
    if (bytes > options.maxBufferedBytes / 2) subscription.giveUpRecovery()
    const recovering = session.positions.has(channel)
    const recovery = subscription.admit()
    if (recovery === undefined) throw new DisconnectError(sdkOnlyCloseCodes.insufficientState) // a gap
    if (recovering) observer.recovered(recovery.recovered)
    const data = payloadOf(subs?.get(channel)?.data)
    const reply = { ...subscribeReply(recovery, recovering), ...(data !== undefined && { data }) }
    admitted.push({ subscription, reply, live: recovery.live })
  }
  session.joined.length = 0
  session.positions = NO_POSITIONS
  return admitted
}
