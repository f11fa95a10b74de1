import { topOf } from '../../hub/recovery.ts'
import type { Recovery } from '../../hub/recovery.ts'
import type { Frame } from '../../model/encoder.ts'
import type { Payload, Position } from '../../model/publication.ts'
import { jsonField } from '../plain/json-field.ts'
import { channelFrame, positionFrame, publicationFrame } from './encoder.ts'
import { segmentOf } from './ids.ts'

/** What a client gets when it enters a channel. */
export interface Arrival {
  /** Part of the id with which the client would come back before it has any of the frames; undefined: it has none. */
  readonly segment: string | undefined
  /** After the last of them the client is at the position from which publications arrive live. */
  readonly frames: readonly Frame[]
  /** What the first event of a stream says of the channel. JSON. */
  readonly fields: string
}

/**
 * @param since Position from which the client wanted to recover; undefined: it named none.
 * @param streams True in a channel with streams. There a publication may have parts from far before its offset, so only
 * the last one has a position: a client that is cut off among them gets them all again, as it would get a whole text.
 */
export function arrivalOf (channel: string, recovery: Recovery, since: Position | undefined, streams: boolean, data?: Payload): Arrival {
  const { recovered, missed, live, offset, epoch } = recovery
  const fields = [
    ...epoch === '' ? [] : [`"offset":${offset},"epoch":${JSON.stringify(epoch)}`],
    ...since === undefined ? [] : [`"recovered":${recovered}`],
    ...data === undefined ? [] : [jsonField('data', data)]
  ].join()
  const publications = [...missed, ...live]
  if (epoch === '') {
    return { segment: undefined, frames: publications.map(one => publicationFrame(channel, one, undefined)), fields: `{${fields}}` }
  }
  const top = segmentOf(channel, { offset: topOf(recovery), epoch })
  const only = streams && publications.length > 0
  const before = since ?? (only ? undefined : { offset, epoch })
  let segment = before && segmentOf(channel, before)
  const start = segment
  const frames: Frame[] = []
  if (since !== undefined && !recovered) { // it must not be told twice, or not at all
    if (!only) segment = segmentOf(channel, { offset, epoch })
    frames.push(channelFrame(channel, { recovered, offset, epoch }, segment))
  }
  for (const publication of publications) {
    if (!only && publication.offset > 0) segment = segmentOf(channel, publication)
    frames.push(publicationFrame(channel, publication, only && publication === publications.at(-1) ? segment = top : segment))
  }
  if (segment !== top) frames.push(positionFrame(channel, top)) // the newest ones were not for this client
  return { segment: start, frames, fields: `{${fields}}` }
}
