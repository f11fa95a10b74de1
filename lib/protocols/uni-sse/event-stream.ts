import type { EventIds } from './event-ids.ts'
import type { HttpRefusal } from './refusals.ts'

/** The response that carries the events of one connection. Until it begins, what is sent is kept. */
export interface EventStream {
  /** Positions of the client. They move with what is written. */
  readonly ids: EventIds
  /** Begins the response with this event; what was kept follows. */
  begin (first: Buffer): void
  /** Sets the error that is the answer if the connection ends before the stream begins. */
  refuse (error: HttpRefusal): void
}
