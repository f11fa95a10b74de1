import { reconnectsAfter } from '../../model/close-codes.ts'
import type { End } from '../../model/close-codes.ts'
import type { Encoder, Frame } from '../../model/encoder.ts'
import { encodePayload } from '../../model/publication.ts'
import type { Publication } from '../../model/publication.ts'
import { envelopeEncoder } from '../plain/envelope.ts'
import { jsonField } from '../plain/json-field.ts'
import { plainEncoder } from '../plain/session.ts'
import { FINAL_ID, idLine, segmentOf } from './ids.ts'

/** Milliseconds after which a client comes back when its stream was cut, and up to as many more, at random. */
const RETRY = 1_000
const RETRY_JITTER = 2_000
/** The same when we have ended the stream, which happens spread over time. */
const RETRY_AFTER_END = 200
const JITTER_AFTER_END = 1_800

const DATA = Buffer.from('data: ')
const LINE_FEED = 0x0A

/** What an event does to the positions of those who get it. */
export interface Stamp {
  readonly channel: string
  /** Part of the id with the position after the event; undefined: there is none any more. */
  readonly segment: string | undefined
  /** Bytes at the end of the event: an id that is right for a client with no other channel, and the blank line. */
  readonly tail: number
  /** What the event counts where recovered publications wait: as much as where the limit of a recovery is checked. */
  readonly weight: number
}

/**
 * The stamps of events. An event is the same Buffer for all connections, and the hub needs to know nothing of ids: the
 * stream of a connection looks here, in the order in which it writes.
 */
const stamps = new WeakMap<Buffer, Stamp>()

export function stampOf (payload: Buffer): Stamp | undefined {
  return stamps.get(payload)
}

/** Writes events for `EventSource`. Their data is the plain route's envelope. */
export const uniSseEncoder: Encoder = {
  name: 'plain',
  transport: 'uni_sse',
  endOf: plainEncoder.endOf,
  publication (channel, publication) {
    return publicationFrame(channel, publication, publication.offset > 0 ? segmentOf(channel, publication) : undefined)
  },
  event (channel, event) {
    return frame(dataLine(envelopeEncoder.event(channel, event)!.payload))
  },
  message (data) {
    return frame(`event: send\n${jsonLine(`{${jsonField('data', encodePayload(data))}}`)}`)
  },
  closingMessage (end) {
    const { code, reason } = end
    const retry = mayReturn(end) ? spread(RETRY_AFTER_END, JITTER_AFTER_END) : undefined
    return { payload: Buffer.from(disconnectEvent({ code, reason, retry })), binary: false }
  }
}

/** The last event of a stream. `retry`: milliseconds; undefined: the client must not come back. */
export function disconnectEvent ({ code, reason, retry }: { code: number, reason: string, retry: number | undefined }): string {
  const line = retry === undefined ? `id: ${FINAL_ID}\n` : `retry: ${retry}\n`
  return `event: disconnect\n${line}${jsonLine(JSON.stringify({ code, reason, reconnect: retry !== undefined }))}\n`
}

/** The event of a publication after which the client is at another position than that of the publication. */
export function publicationFrame (channel: string, publication: Publication, segment: string | undefined): Frame {
  const line = dataLine(envelopeEncoder.publication(channel, publication).payload)
  return segment === undefined ? frame(line) : stamped(line, channel, segment, publication.payload.length)
}

/** An event of a channel: what the plain route sends as a message with these fields. */
export function channelFrame (channel: string, fields: object, segment: string | undefined): Frame {
  return stamped(Buffer.from(jsonLine(JSON.stringify({ channel, ...fields }))), channel, segment)
}

/** Sets the id and nothing else: without data a client sees no event. */
export function positionFrame (channel: string, segment: string): Frame {
  return stamped(Buffer.alloc(0), channel, segment)
}

/** The first event of a stream. `fields`: JSON. */
export function connectedEvent (fields: string, idLine: string): Buffer {
  return Buffer.from(`event: connected\nretry: ${spread(RETRY, RETRY_JITTER)}\n${idLine}${jsonLine(fields)}\n`)
}

/** A comment, which clients ignore: a proxy sees that the stream is in use, and TCP that the client is there. */
export const heartbeat: Frame = { payload: Buffer.from(':\n\n'), binary: false }

/** Whether a client should come back after this end. It decides by the code, as clients of WebSockets do. */
export function mayReturn ({ code }: Pick<End, 'code'>): boolean {
  return reconnectsAfter(code) && ![1000, 1003, 1008, 1009].includes(code)
}

/** A line of JSON of ours, which has no line breaks. */
function jsonLine (json: string): string {
  return `data: ${json}\n`
}

/** A line of JSON, in which there are no line breaks. */
function dataLine (json: Buffer): Buffer {
  return Buffer.concat([DATA, json, Buffer.of(LINE_FEED)])
}

function stamped (line: Buffer, channel: string, segment: string | undefined, weight = line.length): Frame {
  const tail = Buffer.from(`${idLine(segment === undefined ? [] : [segment])}\n`)
  const payload = Buffer.concat([line, tail])
  stamps.set(payload, { channel, segment, tail: tail.length, weight })
  return { payload, binary: false }
}

function frame (lines: string | Buffer): Frame {
  return { payload: Buffer.concat([typeof lines === 'string' ? Buffer.from(lines) : lines, Buffer.of(LINE_FEED)]), binary: false }
}

function spread (least: number, jitter: number): number {
  return Math.round(least + Math.random() * jitter)
}
