import type { Recovery } from '../../hub/recovery.ts'
import type { Member } from '../../model/presence.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Payload, Publication } from '../../model/publication.ts'
import type { ClientInfo, Push, ReplyPublication, SubscribeReply } from './schema.ts'

export function clientInfo ({ client, user, info, channelInfo }: Member): ClientInfo {
  const result: ClientInfo = { user, client }
  if (info !== undefined) result.conn_info = encodePayload(info)
  if (channelInfo !== undefined) result.chan_info = encodePayload(channelInfo)
  return result
}

/** What a push says of a join or a leave. */
export function eventPush ({ kind, payload }: Publication): Pick<Push, 'join' | 'leave'> {
  return { [kind]: { info: clientInfo(JSON.parse(payload.toString())) } }
}

export function replyPublication ({ kind, payload, offset, epoch, tags, publisher }: Publication): ReplyPublication {
  const result: ReplyPublication = { data: { kind: kind as Payload['kind'], payload } }
  if (publisher !== undefined) result.info = clientInfo(publisher)
  if (offset > 0) result.offset = offset
  if (tags !== undefined) result.tags = tags
  // A client that subscribed to an empty stream learns the epoch from the first publication.
  if (offset === 1) result.epoch = epoch
  return result
}

/** Makes a publication of the protocol, given its place in the list of those that are sent. */
export type ToReply = (publication: Publication, i: number, all: readonly Publication[]) => ReplyPublication

/**
 * Tells a subscriber the position from which it continues. Recovered publications come with the offset that the client
 * named: it advances by applying them (centrifugal.dev/docs/server/history_and_recovery).
 * @param toReply Makes a publication of the protocol of each.
 */
export function subscribeReply (
  { recovered, missed, offset, epoch }: Recovery, recovering: boolean, toReply: ToReply = replyPublication
): SubscribeReply {
  if (epoch === '') return {}
  return {
    recoverable: true,
    positioned: true,
    epoch,
    offset,
    ...(recovering && { was_recovering: true }),
    ...(recovered && { recovered: true, publications: missed.map(toReply) })
  }
}

/** Encodes data of the app; undefined stays undefined. @throws FST_CRWS_INVALID_DATA */
export function payloadOf (data: unknown): Payload | undefined {
  return data === undefined ? undefined : encodePayload(data)
}
