import { randomUUID } from 'node:crypto'
import { encodePayload } from './publication.ts'
import type { Publication } from './publication.ts'

/**
 * How a stream has ended: its source has ended, somebody has stopped it, its source has failed, or the instance that
 * published it is shutting down, and another instance may resume it.
 */
export type StreamEnd = 'done' | 'stopped' | 'failed' | 'interrupted'

/**
 * What a publication of `app.realtime.stream` carries. A client keeps one text per stream:
 * `text = text.slice(0, part.from) + part.text`.
 */
export interface StreamPart {
  /** Id of the stream. */
  stream: string
  /** Length of the text before this part, in UTF-16 code units, which is what `length` of a string counts. */
  from: number
  text: string
  /** Only in the last part. */
  end?: StreamEnd | undefined
  /** Code and message of the `ClientError` with which the source failed. Other errors are not told to clients. */
  error?: { code: number, message: string } | undefined
}

/** The tag by which publications of streams are known, so that nobody has to parse payloads. Its value is the id. */
const TAG = 'stream'
/**
 * The tag of the parts of a call that has resumed a stream. Its value starts with a number, one higher than that of the
 * call before, and is unique. In earlier releases it was a UUID, on the first part alone.
 */
const RESUMED = 'resumed'
const GENERATION = /^\d{1,9}(?= )/

export function tagsOf (stream: string, resumedBy?: string): Record<string, string> {
  return { [TAG]: stream, ...(resumedBy !== undefined && { [RESUMED]: resumedBy }) }
}

/** The call that has resumed the stream and published this part; undefined: the call that began the stream. */
export function resumedBy ({ tags }: Publication): string | undefined {
  return tags?.[RESUMED]
}

/** How often the stream was resumed up to this call. */
function generationOf (call: string | undefined): number {
  return call === undefined ? 0 : Number(GENERATION.exec(call)?.[0] ?? 1)
}

/** Names a call that resumes a stream after another call. */
export function nextCall (before: string | undefined): string {
  return `${generationOf(before) + 1} ${randomUUID()}`
}

/**
 * True if this call has the stream, and not the other one. It is the one that resumed the stream later. Two calls may
 * have resumed it after the same one: then any rule will do that gives both the same answer.
 */
export function precedes (call: string | undefined, other: string | undefined): boolean {
  const difference = generationOf(call) - generationOf(other)
  return difference === 0 ? (call ?? '') > (other ?? '') : difference > 0
}

/**
 * Returns the part that a publication carries; undefined if it is none: an app can set the tag itself, also on what it
 * publishes with `history: false`.
 */
export function partOf ({ tags, kind, payload, offset }: Publication): StreamPart | undefined {
  if (tags?.[TAG] === undefined || kind !== 'json' || offset === 0) return undefined
  let part: Partial<StreamPart> | null
  try {
    part = JSON.parse(payload.toString())
  } catch {
    return undefined // others can write to Redis, too
  }
  const { stream, from, text } = part ?? {}
  return stream === tags[TAG] && Number.isSafeInteger(from) && from! >= 0 && typeof text === 'string' ? part as StreamPart : undefined
}

/** Joins a part to what came before it. After a gap only the new part is known. */
export function joinParts (before: StreamPart | undefined, part: StreamPart): StreamPart {
  if (before === undefined || part.from <= before.from || part.from > before.from + before.text.length) return part
  return { ...part, from: before.from, text: before.text.slice(0, part.from - before.from) + part.text }
}

/**
 * Joins the parts of each stream into one publication, in the place and with the offset of its last part. What is part
 * of no stream stays as it is.
 */
export function joinStreams (publications: readonly Publication[]): Publication[] {
  const joined = new Map<string, { part: StreamPart, last: Publication } | Publication>()
  for (const [i, publication] of publications.entries()) {
    const part = partOf(publication)
    if (part === undefined) {
      joined.set(`publication ${i}`, publication)
      continue
    }
    const key = `stream ${part.stream}`
    const before = joined.get(key) as { part: StreamPart } | undefined
    joined.delete(key) // it moves to the end
    joined.set(key, { part: joinParts(before?.part, part), last: publication })
  }
  return Array.from(joined.values(), one => 'part' in one ? { ...one.last, ...encodePayload(one.part) } : one)
}

/**
 * Joins the parts of each stream as `joinStreams` does. Streams whose beginning is not there are left out, and so is
 * what is part of no stream in `before`.
 */
export function wholeStreams (before: readonly Publication[], live: readonly Publication[]): Publication[] {
  const parts = before.filter(publication => partOf(publication) !== undefined)
  return joinStreams([...parts, ...live]).filter(publication => (partOf(publication)?.from ?? 0) === 0)
}
