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

/** Reads parsed data; undefined if it is not from a run. */
export function stampOf (data: unknown): Stamp | undefined {
  const load: unknown = Object(data).load
  if (!Array.isArray(load) || load.length !== 5) return undefined
  const [run, stream, number, settled, at] = load
  return { run, stream, number, settled, at }
}
