import type { Stream } from './stream.ts'

/** What a publication of a run says. */
export interface Stamp {
  /** The run that sent it: channels may have other traffic. */
  readonly run: string
  /** Index of its stream. */
  readonly stream: number
  readonly number: number
  /** What the stream had settled when it was sent. */
  readonly settled: number
  /** `performance.now()` of the process that sent it. */
  readonly at: number
}

/** JSON of a publication with `size` bytes. */
export function payload ({ run, stream, number, settled, at }: Stamp, size: number): string {
  const text = `{"load":["${run}",${stream},${number},${settled},${at.toFixed(3)}],"x":"`
  return `${text}${'x'.repeat(Math.max(0, size - text.length - 2))}"}`
}

/** Reads parsed data, which anybody may have sent; undefined if it is not from a run. */
export function stampOf (data: unknown): Stamp | undefined {
  const load: unknown = Object(data).load
  if (!Array.isArray(load) || load.length !== 5) return undefined
  const [run, stream, number, settled, at] = load
  const isWhole = [stream, number, settled].every(value => Number.isSafeInteger(value) && value >= 0)
  return isWhole && Number.isFinite(at) && settled <= number ? { run, stream, number, settled, at } : undefined
}

/** Whether a run has sent this in one of its streams: nobody else knows which numbers it has used. */
export function isOf (stamp: Stamp, run: string, { index, next }: Stream): boolean {
  return stamp.run === run && stamp.stream === index && stamp.number < next
}
