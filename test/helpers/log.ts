import type { FastifyServerOptions } from 'fastify'

/** One line of a log. */
export type Entry = Record<string, any>

export interface CollectedLog {
  /** For Fastify's option `logger`. */
  readonly logger: Exclude<FastifyServerOptions['logger'], boolean | undefined>
  /** All entries so far, parsed. */
  readonly entries: Entry[]
}

/** A logger whose entries can be read. `options`: more options of pino, such as those of `cloudLogging()`. */
export function collectLog (options: object = {}): CollectedLog {
  const entries: Entry[] = []
  return { entries, logger: { ...options, stream: { write: (line: string) => { entries.push(JSON.parse(line)) } } } }
}
