import type { ClientInfo, ReplyPublication, SubscribeReply } from './schema.ts'
import type { Recovery } from '../../hub/recovery.ts'
import type { Member } from '../../model/presence.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Payload, Publication } from '../../model/publication.ts'

/** Our own forms in the protocol's. */

export function payloadOf (data: unknown): Payload | undefined {
  return data === undefined ? undefined : encodePayload(data)
}

export function clientInfo ({ client, user, info, channelInfo }: Member): ClientInfo {
  const result: ClientInfo = { user, client }
  if (info !== undefined) result.conn_info = encodePayload(info)
  if (channelInfo !== undefined) result.chan_info = encodePayload(channelInfo)
  return result
}

/** A client that subscribed to an empty stream learns its epoch with the first publication. */
export function replyPublication ({ kind, payload, offset, epoch, tags, publisher }: Publication): ReplyPublication {
  const result: ReplyPublication = { data: { kind: kind as Payload['kind'], payload } }
  if (publisher !== undefined) result.info = clientInfo(publisher)
  if (offset > 0) result.offset = offset
  if (tags !== undefined) result.tags = tags
  if (offset === 1) result.epoch = epoch
  return result
}

/** Where a subscriber begins. Recovered publications come with the offset that it named, so that it goes on by applying them. */
export function subscribeReply ({ recovered, missed, offset, epoch }: Recovery, recovering: boolean): SubscribeReply {
  if (epoch === '') return {}
  return {
    recoverable: true,
    positioned: true,
    epoch,
    offset,
    ...(recovering && { was_recovering: true }),
    ...(recovered && { recovered: true, publications: missed.map(replyPublication) })
  }
}

/** Seconds from now until a Unix time in ms, as an SDK counts them; at least one. */
export function ttl (expiresAt: number): number {
  return Math.max(1, Math.floor((expiresAt - Date.now()) / 1_000))
}
