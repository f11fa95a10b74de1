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
/** The tag of the part with which a call resumes a stream. Its value is random, so that the call knows its own part. */
const RESUMED = 'resumed'

export function tagsOf (stream: string, resumedBy?: string): Record<string, string> {
  return { [TAG]: stream, ...(resumedBy !== undefined && { [RESUMED]: resumedBy }) }
}

export function isResumedBy ({ tags }: Publication, call: string): boolean {
  return tags?.[RESUMED] === call
}

/** True if with this part a call has taken the stream over. */
export function isResumption ({ tags }: Publication): boolean {
  return tags?.[RESUMED] !== undefined
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
