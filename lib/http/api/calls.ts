import { checkUser } from '../../core/check-user.ts'
import type { CommandSender, Whose } from '../../core/control.ts'
import type { Publisher } from '../../core/publisher.ts'
import type { Survey } from '../../core/survey.ts'
import { checkUnixTime } from '../../model/arguments.ts'
import type { Broker } from '../../model/broker.ts'
import { namespaceOf } from '../../model/channel-rules.ts'
import type { ChannelNamespaces, ChannelRules } from '../../model/channel-rules.ts'
import { checkClose, closeCodes } from '../../model/close-codes.ts'
import { clientErrors, ReplyError } from '../../model/error-replies.ts'
import type { Member, Presence } from '../../model/presence.ts'
import { decodePayload, encodePayload } from '../../model/publication.ts'
import type { Payload, Position, Publication } from '../../model/publication.ts'
import { compileGlob } from '../../util/glob.ts'
import { countChannels, listNodes, MAX_LISTED } from './nodes.ts'
import { badRequest, Params } from './params.ts'

/** Channels of one broadcast at most. */
const MAX_CHANNELS = 10_000
/** Bytes of a broadcast that are on their way to Redis at once: each channel gets the data of its own. */
const MAX_BYTES_AT_ONCE = 8_388_608
/** Ids of a whitelist at most, and characters of such an id. */
const MAX_WHITELIST = 1_000
const MAX_ID = 255
/** Characters of a pattern at most. */
const MAX_PATTERN = 255

/** What the calls need. */
export interface ApiContext {
  readonly namespaces: ChannelNamespaces
  readonly publisher: Publisher
  readonly broker: Broker
  readonly presence: Presence
  readonly control: CommandSender
  readonly survey: Survey
  /** Runs one of the calls of a broadcast; its failure is an answer of its own. */
  attempt (method: string, run: () => Promise<object>): Promise<object>
}

/** Carries a call out, and returns its result as Centrifugo has it. */
export type ApiCall = (context: ApiContext, params: unknown) => Promise<object>

const PUBLISH = ['data', 'b64data', 'skip_history', 'tags', 'idempotency_key', 'delta'] // without delta everybody gets all of the data
const VERSION = ['version', 'version_epoch']

/**
 * The methods by name. In namespaces that the option `channels` does not have they answer 102, as Centrifugo does;
 * channels without a namespace are always known.
 */
export const apiCalls: Readonly<Record<string, ApiCall>> = {
  async publish (context, given) {
    const params = new Params(given, ['channel', ...PUBLISH], VERSION)
    return publish(context, params.channel(), payloadOf(params), params)
  },

  async broadcast (context, given) {
    const params = new Params(given, ['channels', ...PUBLISH], VERSION)
    const channels = params.texts('channels')
    if (channels.length === 0) throw badRequest('channels is empty')
    if (channels.length > MAX_CHANNELS) throw new ReplyError(clientErrors.limitExceeded, `a broadcast to more than ${MAX_CHANNELS} channels`)
    const payload = payloadOf(params)
    const one = (channel: string) => context.attempt('broadcast', async () => {
      return { result: await publish(context, new Params({ channel }, ['channel']).channel(), payload, params) }
    })
    const together = Math.max(1, Math.floor(MAX_BYTES_AT_ONCE / Math.max(1, payload.payload.length)))
    const responses: object[] = []
    for (let i = 0; i < channels.length; i += together) responses.push(...await Promise.all(channels.slice(i, i + together).map(one)))
    return { responses }
  },

  async subscribe ({ control, namespaces }, given) {
    const params = new Params(given, ['user', 'channel', 'client', 'recover_since'], [
      'session', 'info', 'b64info', 'data', 'b64data', 'expire_at', 'override'
    ])
    const channel = params.channel()
    const rules = rulesOf(namespaces, channel)
    const since = params.position('recover_since')
    if (since !== undefined && rules.history === undefined) throw unavailable('history')
    await control.send({ type: 'subscribe', ...whose(params), channel, ...(since !== undefined && { since }) })
    return {}
  },

  async unsubscribe ({ control, namespaces }, given) {
    const params = new Params(given, ['user', 'channel', 'client'], ['session'])
    const channel = params.channel()
    rulesOf(namespaces, channel)
    await control.send({ type: 'unsubscribe', ...whose(params), channel })
    return {}
  },

  async disconnect ({ control }, given) {
    const params = new Params(given, ['user', 'client', 'whitelist', 'disconnect'], ['session'])
    const { code, reason } = closeOf(params)
    const keep = whitelistOf(params)
    const target = whose(params)
    if (keep.length === 0) await control.send({ type: 'disconnect', ...target, code, reason })
    else if ('user' in target) await control.send({ type: 'disconnect-others', ...target, keep, code, reason })
    else if (!keep.includes(target.client)) await control.send({ type: 'disconnect', ...target, code, reason })
    return {}
  },

  async refresh ({ control }, given) {
    const params = new Params(given, ['user', 'client', 'expired', 'expire_at'], ['session', 'info'])
    const expireAt = params.integer('expire_at')
    checkUnixTime('expire_at', expireAt)
    const until = expireAt > 0 ? expireAt : null
    await control.send({ type: 'refresh', ...whose(params), expiresAt: params.flag('expired') ? 0 : until })
    return {}
  },

  async presence ({ namespaces, presence }, given) {
    const channel = new Params(given, ['channel']).channel()
    if (!rulesOf(namespaces, channel).presence) throw unavailable('presence')
    return { presence: Object.fromEntries((await presence.list(channel)).map(member => [member.client, clientInfo(member)])) }
  },

  async presence_stats ({ namespaces, presence }, given) {
    const channel = new Params(given, ['channel']).channel()
    if (!rulesOf(namespaces, channel).presence) throw unavailable('presence')
    const { clients, users } = await presence.stats(channel)
    return { num_clients: clients, num_users: users }
  },

  async history ({ namespaces, publisher }, given) {
    const params = new Params(given, ['channel', 'limit', 'since', 'reverse'])
    const channel = params.channel()
    if (rulesOf(namespaces, channel).history === undefined) throw unavailable('history')
    const limit = params.integer('limit')
    const query = { limit: limit < 0 ? Number.MAX_SAFE_INTEGER : limit, since: params.position('since'), reverse: params.flag('reverse') }
    const { publications, offset, epoch } = await publisher.read(channel, query)
    return { publications: publications.map(published), offset, epoch }
  },

  async history_remove ({ namespaces, broker }, given) {
    const channel = new Params(given, ['channel']).channel()
    if (rulesOf(namespaces, channel).history === undefined) throw unavailable('history')
    await broker.removeHistory(channel)
    return {}
  },

  async channels ({ survey }, given) {
    const pattern = new Params(given, ['pattern']).text('pattern')
    if (pattern.length > MAX_PATTERN || compileGlob(pattern) === undefined) {
      throw badRequest(`pattern is not valid, or longer than ${MAX_PATTERN} characters`)
    }
    const counts = await countChannels(survey, pattern === '' ? '*' : pattern)
    if (counts.size > MAX_LISTED) {
      throw badRequest(`more than ${MAX_LISTED} channels match ${pattern || '*'}. Ask with a narrower pattern, such as chat:*, or use ` +
        'app.realtime.channels, which lists any number of them in pages')
    }
    return { channels: Object.fromEntries(Array.from(counts, ([channel, clients]) => [channel, { num_clients: clients }])) }
  },

  async info ({ survey }, given) {
    new Params(given, []) // eslint-disable-line no-new -- it checks that nothing is asked for
    return { nodes: await listNodes(survey) }
  }
}

async function publish (
  { namespaces, publisher }: ApiContext, channel: string, payload: Payload, params: Params
): Promise<Partial<Position>> {
  rulesOf(namespaces, channel)
  const tags = params.tags()
  const idempotencyKey = params.text('idempotency_key')
  return publisher.publish(channel, payload, {
    history: !params.flag('skip_history'), ...(tags !== undefined && { tags }), ...(idempotencyKey !== '' && { idempotencyKey })
  })
}

function payloadOf (params: Params): Payload {
  return encodePayload(params.data())
}

/** @throws ReplyError (102) */
function rulesOf (namespaces: ChannelNamespaces, channel: string): ChannelRules {
  if (namespaceOf(channel) === '') return namespaces.rules(channel)
  const rules = namespaces.find(channel)
  if (rules === undefined) throw new ReplyError(clientErrors.unknownChannel, `the option channels has no namespace ${namespaceOf(channel)}`)
  return rules
}

function unavailable (feature: 'history' | 'presence'): ReplyError {
  return new ReplyError(clientErrors.notAvailable, `the namespace keeps no ${feature}`)
}

/** Ids of connections that stay. Every instance gets the list, and compares it with each connection of the user. */
function whitelistOf (params: Params): string[] {
  const ids = params.texts('whitelist')
  if (ids.length > MAX_WHITELIST) throw badRequest(`whitelist has ${ids.length} ids; at most ${MAX_WHITELIST} are allowed`)
  if (ids.some(id => id.length > MAX_ID)) throw badRequest(`an id in whitelist is longer than ${MAX_ID} characters`)
  return ids
}

/** All connections of a user, or one of them. Clients without a login have the user ''. */
function whose (params: Params): Whose {
  const [user, client] = [params.text('user'), params.text('client')]
  return client === '' ? { user: checkUser(user) } : { client, of: user }
}

function closeOf (params: Params): { code: number, reason: string } {
  const given = params.object('disconnect')
  if (given === undefined) return closeCodes.forceDisconnect
  const disconnect = new Params(given, ['code', 'reason'])
  return checkClose(disconnect.integer('code'), disconnect.text('reason'))
}

function clientInfo ({ client, user, info, channelInfo }: Member): object {
  return { client, user, ...(info !== undefined && { conn_info: info }), ...(channelInfo !== undefined && { chan_info: channelInfo }) }
}

function published (publication: Publication): object {
  const { kind, payload, offset, tags, publisher } = publication
  const data = kind === 'binary' ? { b64data: payload.toString('base64') } : { data: decodePayload(publication) }
  return { ...data, offset, ...(tags !== undefined && { tags }), ...(publisher !== undefined && { info: clientInfo(publisher) }) }
}
