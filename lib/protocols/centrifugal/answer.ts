/** The reply to a command, and what goes with it. */
export interface Answer {
  readonly result: object
  /** Called right after the reply is written, in the same turn of the event loop: nothing can come between the two. */
  readonly after?: () => void
  /** The reply waits for it, and fails with it. The next command does not wait. */
  readonly acknowledged?: Promise<unknown>
}

/**
 * Called right before its reply is written, in the same turn of the event loop. What admits the connection to a channel
 * is done here: a live publication can not get ahead of the subscribe reply. Returns undefined if no reply is wanted any more.
 */
export type LateAnswer = () => Answer | undefined
