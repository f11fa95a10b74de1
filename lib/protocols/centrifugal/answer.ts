/** The reply to a command, and what goes with it. */
export interface Answer {
  readonly result: object
  /** Called right after the reply is written, in the same turn of the event loop: nothing can come between the two. */
  readonly after?: () => void
  /** The reply waits for it, and fails with it. The next command does not wait. */
  readonly acknowledged?: Promise<unknown>
}

/**
 * Called right before the reply is written, in the same turn of the event loop. The connection is admitted to a channel
 * in here, so that no publication gets ahead of the subscribe reply. Returns undefined if there is nothing to reply to.
 */
export type LateAnswer = () => Answer | undefined
