import type { FastifyRequest } from 'fastify'
import { checkChannel } from '../../model/channel-rules.ts'
import { ClientError } from '../../model/client-error.ts'
import { StreamRequestError } from '../../model/errors.ts'
import { FINAL_ID, readId } from './ids.ts'
import type { ReturningPositions } from './ids.ts'

/** Channels of one request. Each may be in every id, which the client sends in a header. */
const MAX_CHANNELS = 32

/** What stands for `channel` in other servers. Without this check the client would get a stream with nothing in it. */
const MISTAKEN = ['channels', 'channel[]', 'cf_connect']
const CHANNEL_USE = 'channel must be in the query once for each channel: ?channel=news&channel=chat:lobby'

/** What a client asks for. */
export interface EventSourceRequest {
  /** Without duplicates. */
  readonly channels: readonly string[]
  /** Where the client was. */
  readonly positions: ReturningPositions
  /** True if the client was told not to come back. */
  readonly over: boolean
}

/**
 * Reads the query and the headers: `channel` for each channel, and `Last-Event-ID` or `lastEventId`.
 * @throws FST_CRWS_STREAM_REQUEST
 */
export function readRequest ({ url, query, headers }: Pick<FastifyRequest, 'url' | 'query' | 'headers'>): EventSourceRequest {
  if (!isEncoded(url)) throw new StreamRequestError('its query must be in percent-encoded UTF-8: ?channel=caf%C3%A9')
  const { channel, lastEventId } = (query ?? {}) as Record<string, unknown>
  if (channel === undefined && MISTAKEN.some(name => Object.hasOwn(query ?? {}, name))) throw new StreamRequestError(CHANNEL_USE)
  const channels = new Set(listOf(channel))
  if (channels.size > MAX_CHANNELS) throw new StreamRequestError(`${channels.size} channels, at most ${MAX_CHANNELS} are allowed`)
  channels.forEach(checkName)
  // A client that began with the id in its URL sends a newer one in the header.
  const id = textOf('Last-Event-ID', headers['last-event-id']) || textOf('lastEventId', lastEventId)
  return { channels: Array.from(channels), positions: readId(id), over: id === FINAL_ID }
}

/**
 * The connection token, of the query or the header; undefined: there is none.
 * @throws ClientError if there are several: the client is not somebody without a token
 */
export function tokenOf ({ query, headers: { authorization = '' } }: Pick<FastifyRequest, 'query' | 'headers'>): string | undefined {
  const { token } = (query ?? {}) as Record<string, unknown>
  if (token !== undefined && typeof token !== 'string') throw new ClientError(400, 'token must be given once')
  return token || /^Bearer +(\S+) *$/i.exec(authorization)?.[1]
}

/** Other URLs are read too, but as other names than the client means: it would get a stream with nothing in it. */
function isEncoded (url: string): boolean {
  try {
    decodeURIComponent(url)
    return /^[!-~]+$/.test(url)
  } catch {
    return false
  }
}

function listOf (value: unknown): string[] {
  if (value === undefined) return []
  const list: unknown[] = Array.isArray(value) ? value : [value]
  if (list.every(one => typeof one === 'string')) return list
  throw new StreamRequestError(CHANNEL_USE)
}

function checkName (channel: string): void {
  try {
    checkChannel(channel)
  } catch (error) {
    throw new StreamRequestError((error as Error).message)
  }
}

function textOf (name: string, value: unknown): string | undefined {
  if (value === undefined || typeof value === 'string') return value
  throw new StreamRequestError(`${name} must be given once`)
}
