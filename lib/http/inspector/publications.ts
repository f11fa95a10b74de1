import type { Publisher } from '../../core/publisher.ts'
import type { ChannelNamespaces } from '../../model/channel-rules.ts'
import type { Publication } from '../../model/publication.ts'
import { redisError } from './redis-error.ts'
import type { RedisError } from './redis-error.ts'

/** Publications of a channel that are shown, and bytes that are read for them. */
const MAX_PUBLICATIONS = 20
const MAX_BYTES = 262_144
/** Bytes that are shown of one payload. */
const MAX_SHOWN = 1_024

/** One publication as the page shows it. */
export interface PublicationRow {
  readonly offset: number
  readonly time: number
  /** 'text', 'json', or 'binary', which is shown in base64. */
  readonly kind: string
  /** The beginning of the payload, and all bytes it has. */
  readonly shown: string
  readonly bytes: number
  /** The SDK client that published it; else the app did, on this instance. */
  readonly user?: string
  readonly client?: string
  readonly instance: string
}

/** The newest publications of a channel, which come first. */
export interface Publications {
  /** False if the namespace keeps no history. */
  readonly kept: boolean
  readonly offset?: number
  readonly rows: readonly PublicationRow[]
  /** Why they could not be read. */
  readonly failed?: RedisError
}

/** Reads what a channel keeps. One that keeps nothing is not read: Redis would begin a history for it. */
export async function publicationsOf (publisher: Publisher, namespaces: ChannelNamespaces, channel: string): Promise<Publications> {
  if (namespaces.rules(channel).history === undefined) return { kept: false, rows: [] }
  try {
    const { publications, offset } = await publisher.read(channel, { limit: MAX_PUBLICATIONS, reverse: true, maxBytes: MAX_BYTES })
    return { kept: true, offset, rows: publications.map(rowOf) }
  } catch (error) {
    return { kept: true, rows: [], failed: redisError(error) }
  }
}

function rowOf ({ offset, time, kind, payload, publisher, instance }: Publication): PublicationRow {
  const cut = payload.subarray(0, MAX_SHOWN)
  const shown = kind === 'binary' ? cut.toString('base64') : cut.toString()
  return {
    offset,
    time,
    kind,
    shown: payload.length > MAX_SHOWN ? shown.replace(/\uFFFD$/, '') : shown, // the last character may be cut in two
    bytes: payload.length,
    instance,
    ...(publisher !== undefined && { user: publisher.user, client: publisher.client })
  }
}
