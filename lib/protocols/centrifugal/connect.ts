import { clientErrors, DisconnectError, ReplyError } from './errors.ts'
import type { ConnectRequest, Expiry, SubscribeReply } from './schema.ts'
import { sdkOnlyCloseCodes } from '../../model/close-codes.ts'
import type { Commands } from './commands.ts'
import type { ConnectDetails, Identity } from '../../options/options.ts'
import type { Publication } from '../../model/publication.ts'
import { payloadOf, subscribeReply, ttl } from './replies.ts'
import { dataOf, EXPIRY_GRACE } from './requests.ts'
import type { Done } from './requests.ts'
import type { SdkSession } from './session.ts'
import { expiresAt } from './tokens.ts'
import type { ConnectionClaims, Tokens } from './tokens.ts'

/** What clients see as the version of the server. */
const VERSION = 'fastify-cloud-run-websocket'

/** Who is it, what is it subscribed to, and what does the host say? */
export async function connect (commands: Commands, session: SdkSession, request: ConnectRequest, done: Done): Promise<void> {
  if (session.phase !== 'new') throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
  session.phase = 'connecting'
  session.positions = request.subs ?? {}
  const { instance, tokens } = commands
  const { connection } = session
  const upgrade = session.request!
  const identity = await credentials(tokens, session, request)
  instance.identified(connection, identity, upgrade)
  const expiry = setExpiry(session, identity.expiresAt)
  await Promise.all((identity.channels ?? []).map(channel => connection.subscribe(channel)))
  session.welcomed = true
  const answer = await instance.options.onConnect?.(connection, upgrade, connectDetails(request))
  session.request = undefined // the host has seen it; nobody else needs it
  if (!connection.open) return
  const { subs, live } = admitDeferred(commands, session)
  const { interval } = instance.options.heartbeat
  session.phase = 'connected'
  done({
    client: connection.id,
    version: VERSION,
    ...expiry,
    ...(!session.nativePing && { ping: Math.ceil(interval / 1_000), pong: true }),
    ...(Object.keys(subs).length > 0 && { subs }),
    ...dataOfAnswer(answer)
  })
  for (const [channel, publications] of live) session.pushAll(channel, publications)
  for (const channel of Object.keys(subs)) instance.joined(connection, channel)
}

/** A new token for a connection that lives by one. */
export async function refresh ({ tokens }: Commands, session: SdkSession, { token }: { token?: string }, done: Done): Promise<void> {
  if (token === undefined || token === '' || !session.refreshable || tokens === undefined) throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
  const claims = await verify(tokens, token, new DisconnectError('expired'))
  if ((claims.sub ?? '') !== session.connection.user) throw new DisconnectError(sdkOnlyCloseCodes.invalidToken)
  // It must connect again to get what the new token names.
  if (String(claims.channels?.toSorted() ?? []) !== String(session.tokenChannels)) throw new DisconnectError(sdkOnlyCloseCodes.insufficientState)
  done({ ...setExpiry(session, expiresAt(claims)) })
}

/** The token decides; without one, what `authenticate` said. */
async function credentials (tokens: Tokens | undefined, session: SdkSession, { token = '' }: ConnectRequest): Promise<Identity> {
  const { identity } = session
  if (token === '' || tokens === undefined) {
    if (identity !== undefined) return identity
    // A token that nobody can verify, or none where one is asked for: nobody must be taken for somebody, or for anybody.
    if (token !== '') throw new DisconnectError(sdkOnlyCloseCodes.invalidToken)
    if (tokens !== undefined) throw new DisconnectError(sdkOnlyCloseCodes.badRequest)
    return {}
  }
  const claims = await verify(tokens, token, new ReplyError(clientErrors.tokenExpired))
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

async function verify (tokens: Tokens, token: string, expired: Error): Promise<ConnectionClaims> {
  const invalid = new DisconnectError(sdkOnlyCloseCodes.invalidToken)
  const claims = await tokens.verify<ConnectionClaims>(token, { expired, invalid })
  if (claims.channel !== undefined) throw invalid // a subscription token
  return claims
}

/** Seconds. A client that lives by a token is told to bring a new one in time; another one is closed. */
function setExpiry (session: SdkSession, at: number | undefined): Expiry {
  const { connection, refreshable } = session
  if (at === undefined) {
    connection.closeAt(Infinity, 'expired')
    return {}
  }
  if (at * 1_000 <= Date.now()) throw new ReplyError(clientErrors.expired)
  connection.closeAt(at * 1_000 + (refreshable ? EXPIRY_GRACE : 0), 'expired')
  return refreshable ? { expires: true, ttl: ttl(at * 1_000) } : {}
}

function connectDetails ({ data, name, version }: ConnectRequest): ConnectDetails {
  return { ...(data !== undefined && { data: dataOf(data) }), ...(name !== undefined && { name }), ...(version !== undefined && { version }) }
}

/** The host may give the client something to begin with. */
function dataOfAnswer (answer: unknown) {
  const data = typeof answer === 'object' && answer !== null && 'data' in answer ? payloadOf(answer.data) : undefined
  return data === undefined ? {} : { data }
}

/** Synchronous, so that nothing is published between the reply and what comes live. */
function admitDeferred ({ instance }: Commands, session: SdkSession): { subs: Record<string, SubscribeReply>, live: [string, Publication[]][] } {
  const subs: Record<string, SubscribeReply> = {}
  const live: [string, Publication[]][] = []
  let bytes = 0
  for (const [channel, joining] of session.deferred) {
    bytes += joining.bytes
    if (bytes > instance.options.maxBufferedBytes / 2) joining.giveUp()
    const recovering = session.positions[channel]?.recover === true
    const caughtUp = joining.admit()
    if (caughtUp === undefined) throw new DisconnectError(sdkOnlyCloseCodes.insufficientState)
    if (recovering) instance.recovery(caughtUp.recovered)
    subs[channel] = subscribeReply(caughtUp, recovering)
    live.push([channel, caughtUp.live])
  }
  session.deferred.clear()
  session.positions = {}
  return { subs, live }
}
